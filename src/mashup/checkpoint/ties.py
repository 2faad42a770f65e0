"""Tied embeddings: one tensor that is read as the input embedding and as the output head.

A merge keeps what the base has. Where a checkpoint has (or would make) two of the one, or one
of the two, the user must choose: nothing is summed into both, and nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from mashup.checkpoint.adapter import Adapter
from mashup.checkpoint.full import read_tensors
from mashup.checkpoint.identity import HEAD, is_tied, read_config
from mashup.checkpoint.stored import Stored, same_bytes
from mashup.checkpoint.vocabulary import EMBEDDINGS
from mashup.errors import Problem, raise_all

T = TypeVar("T")


def read_untied(folder: Path) -> tuple[dict[str, Stored], bool]:
    """Tensors of a whole model without a head that repeats its embedding; whether it is tied.

    Raises:
        InputError: as :func:`mashup.checkpoint.read_tensors`; a head that is not the embedding
            though the settings say so, or none at all where they say that it is another tensor.
    """
    tensors, config = read_tensors(folder), read_config(folder)
    tied = is_tied(config, tensors)
    raise_all(_head_problems(folder, config, tensors, tied))
    return {n: stored for n, stored in tensors.items() if not (tied and n.endswith(HEAD))}, tied


def _head_problems(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Stored], tied: bool
) -> list[Problem]:
    """A head that transformers would use, or start at random, though nobody means it to.

    Of a tied model with two different tensors transformers 5 uses both, and 4 only one.
    """
    head = next((one for name, one in tensors.items() if name.endswith(HEAD)), None)
    embedding = next((one for name, one in tensors.items() if name.endswith(EMBEDDINGS)), None)
    where, expected = str(folder), "what tie_word_embeddings in config.json says"
    if tied and head and embedding and not same_bytes(head, embedding):
        found = f"{head.name} and {embedding.name} are tied, and stored as two different tensors"
        fix = "set tie_word_embeddings to false if both were trained, or remove the head"
        return [Problem("head does not fit its settings", where, found, expected, fix)]
    named = config.get("architectures")
    causal = isinstance(named, list) and any(str(one).endswith("ForCausalLM") for one in named)
    other = any("head" in name or "embed_out" in name for name in tensors)
    if causal and embedding and not (tied or other):
        found = "no output head, and embeddings that are not tied: it would start at random numbers"
        fix = "save the whole model again, or set tie_word_embeddings to true if it was trained so"
        return [Problem("head does not fit its settings", where, found, expected, fix)]
    return []


def breaks_tie(names: Iterable[str], base: Iterable[str], *, whole: bool, tied: bool) -> bool:
    """Whether a checkpoint's embedding and head are two where the base's are one, or one for two.

    In a tied model a LoRA or a saved module changes one of the pair and leaves the other.

    Args:
        names: of the base's tensors that it changes, a tied model's without the head.
        base: names of the base's tensors, likewise.
        whole: whether it is a model.
        tied: whether the base is.
    """
    if whole:
        return _has_head(names) != _has_head(base)
    return tied and any(name.endswith((HEAD, *EMBEDDINGS)) for name in names)


def _has_head(names: Iterable[str]) -> bool:
    return any(name.endswith(HEAD) for name in names)


def changed_apart(adapter: Adapter) -> list[str]:
    """Names of what an adapter changes in one of a tied pair alone.

    A LoRA, and a module that PEFT keeps as a copy, leave the other as it was; a value that is
    written into the base, and rows of the embedding, change both.
    """
    loras = [module.tensor for module in adapter.modules.values()]
    heads = [n for n in (*adapter.saved, *adapter.rows, *adapter.biases) if n.endswith(HEAD)]
    return [*loras, *adapter.copied, *heads]


def tie_problem(where: str, *, tied: bool) -> Problem:
    """The choice that is to be made about a checkpoint that breaks a tie."""
    found = "an output head of its own" if tied else "a head that is tied to the embedding"
    expected = "tied embeddings as in the base" if tied else "an untied head as in the base"
    fix = (
        "pass `untie` to write a model with a separate output head (tied parents give their "
        "embedding twice), leave this parent out, or for a LoRA use `output_kind` lora"
    )
    return Problem("merge would break tied weights", where, found, expected, fix)


def with_head(tensors: Mapping[str, T]) -> dict[str, T]:
    """Tensors of a tied model with the embedding as the head as well."""
    embedding = next((name for name in tensors if name.endswith(EMBEDDINGS)), None)
    if embedding is None or _has_head(tensors):
        return dict(tensors)
    return {**tensors, HEAD: tensors[embedding]}
