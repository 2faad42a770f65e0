"""Heads of classifiers: tensors that belong to one set of labels, and the model below them.

A classifier (``AutoModelForSequenceClassification``, ``...TokenClassification``) has the layers of
its base and a head of its own. The base mostly has another head, for language modelling, or none.
So a classifier fits a base if what is below the heads does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from mashup.checkpoint.read import Opened
from mashup.checkpoint.safetensors import Stored

#: First parts of the names of heads: those that PEFT trains as a whole in every classifier, and
#: what DistilBERT and BART have.
_HEADS = ("classifier", "score", "pre_classifier", "classification_head")
_CLASSES = ("ForSequenceClassification", "ForTokenClassification")
#: PEFT's ``task_type`` of a LoRA on a classifier.
TASKS = ("SEQ_CLS", "TOKEN_CLS")


def is_head(tensor: str) -> bool:
    """Whether a tensor belongs to the head of a classifier, by its name."""
    return tensor.partition(".")[0] in _HEADS


def _is_between(tensor: str) -> bool:
    """Whether it is between the layers and the head: BERT's pooler, ModernBERT's ``head``.

    A bare model or a language model may lack it.
    """
    parts = tensor.split(".")
    return "pooler" in parts or parts[0] == "head"


def is_classifier(opened: Opened) -> bool:
    """Whether a checkpoint is a classifier or a LoRA on one, as its settings say."""
    if opened.config is not None:
        return opened.config.raw.get("task_type") in TASKS
    return class_of(opened.settings).endswith(_CLASSES)


def class_of(settings: Mapping[str, Any]) -> str:
    """Name of the class that a ``config.json`` is for; "" where it does not say."""
    named = settings.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else ""


def labels_of(settings: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The labels of a classifier in their order; None where its ``config.json`` does not say."""
    named = settings.get("id2label")
    if not isinstance(named, dict) or not all(str(key).isdecimal() for key in named):
        return None
    return tuple(str(named[key]) for key in sorted(named, key=int))


def head_of(opened: Opened, base: Collection[str]) -> dict[str, Stored]:
    """Name to place of a classifier's head, and of a pooler or the like that the base lacks.

    Args:
        opened: the checkpoint; one that is no classifier has no head.
        base: names of the base's tensors; empty where no base is known.
    """
    if not is_classifier(opened):
        return {}

    def belongs(name: str) -> bool:
        known = name in base or name.partition(".")[2] in base
        return is_head(name) or (opened.is_full and _is_between(name) and not known)

    return {name: stored for name, stored in opened.values.items() if belongs(name)}


def without_head(opened: Opened, own: Collection[str]) -> Opened:
    """The checkpoint without the tensors ``own`` of its head."""
    if not own:
        return opened
    if opened.adapter is None:
        return replace(opened, tensors={n: s for n, s in opened.tensors.items() if n not in own})
    one = opened.adapter
    saved = {name: stored for name, stored in one.saved.items() if name not in own}
    under = {name: stored for name, stored in one.originals.items() if name not in own}
    bare = replace(one, saved=saved, originals=under, copied=one.copied - {*own})
    return replace(opened, adapter=bare)


def body_of(tensors: Mapping[str, Stored], classifiers: Iterable[Opened]) -> dict[str, Stored]:
    """The tensors of a base that classifiers without their heads are compared with.

    A base that was saved alone (``BertModel``) lacks the first part of their names (``bert.``),
    which transformers adds on loading. Full classifiers have no head of another kind.

    Args:
        tensors: of the base.
        classifiers: without their heads.
    """
    known = list(classifiers)
    whole = {name for one in known if one.is_full for name in one.values}
    adapted = {m.tensor for one in known if one.adapter for m in one.adapter.modules.values()}
    prefix = _missing_prefix(tensors, whole | adapted)
    placed = {f"{prefix}{name}": stored for name, stored in tensors.items()}
    named = {n: replace(s, name=n) for n, s in placed.items() if not is_head(n)}
    if not whole:
        return named
    parts = {name.partition(".")[0] for name in whole}
    inside = (name for name in named if name.partition(".")[0] in parts)
    return {name: named[name] for name in inside if name in whole or not _is_between(name)}


def _missing_prefix(tensors: Collection[str], names: Collection[str]) -> str:
    if any(name in names for name in tensors):
        return ""
    prefixes = {f"{name.partition('.')[0]}." for name in names}
    return next((p for p in prefixes if any(f"{p}{name}" in names for name in tensors)), "")
