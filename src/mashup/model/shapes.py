"""A loaded model by names and shapes, and whether a checkpoint fits it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from mashup.checkpoint import BaseShapes, Fit, Opened, fit
from mashup.errors import Problem
from mashup.model.base import Base, skeleton
from mashup.model.names import named_as_in


def base_shapes(base: Base) -> BaseShapes:
    """A loaded base, with the digest of its weights."""
    return replace(shapes_of(base.model, base.name), weights=(base.digest, str(base.dtype)))


def skeleton_shapes(folder: Path, name: str) -> BaseShapes | None:
    """The model that ``config.json`` describes; None if transformers does not know it.

    PEFT names modules as the model in memory does. Files may have other names (experts that
    transformers joins, models that see) or may be missing (a quantised base).
    """
    model = skeleton(folder)
    return None if model is None else shapes_of(model, name)


def shapes_of(model: Any, name: str = "") -> BaseShapes:
    """A transformers model, which may be quantised or without numbers.

    Args:
        model: the model.
        name: what it is called.
    """
    tensors = model.state_dict(keep_vars=True)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    widths, transposed, embeddings = {}, set(), set()
    for place, module in model.named_modules():
        weight = f"{place}.weight"
        if isinstance(module, nn.Embedding):
            embeddings.add(weight)
        elif hasattr(module, "in_features") and hasattr(module, "out_features"):
            widths[weight] = (module.out_features, module.in_features)
        elif type(module).__name__ == "Conv1D":
            transposed.add(weight)
        if getattr(module, "is_transposed", False):  # transformers' mark of experts; PEFT reads it
            transposed |= {f"{place}.{leaf}" for leaf in module._parameters}
    config = getattr(model, "config", None)
    return BaseShapes(
        name,
        {place: tuple(tensor.shape) for place, tensor in tensors.items()},
        config.to_dict() if config is not None else {},
        _is_tied(model),
        buffers=frozenset(tensors.keys() - parameters.keys()),
        widths={n: both for n, both in widths.items() if n in tensors},
        transposed=frozenset(transposed),
        embeddings=frozenset(embeddings),
        is_ordered=True,
    )


def _is_tied(model: Any) -> bool:
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return head is not None and head.weight is model.get_input_embeddings().weight


def fit_loaded(opened: Opened, base: BaseShapes, model: Any, *, accept_base: bool = False) -> Fit:
    """Whether a checkpoint fits a loaded model, whose tensors may have other names than a file's.

    Args:
        opened: the checkpoint.
        base: :func:`base_shapes` of the model.
        model: the model.
        accept_base: as for :func:`mashup.checkpoint.fit.fit`.
    """
    if not opened.is_full:
        return fit(opened, base, accept_base=accept_base)
    named, joined = renamed(opened, model)
    found = fit(named, base, accept_base=accept_base)
    if not joined:
        return found
    how = "joined on loading, and some of a stack are missing or the way is not read here"
    text = f"{len(joined)}, the first {joined[0]}: {how}"
    fix = "save it again with the transformers that is installed here, or leave it out"
    odd = Problem("tensors without a place", str(opened.path), text, "tensors of the base", fix)
    return replace(found, problems=(odd, *found.problems))


def renamed(opened: Opened, model: Any) -> tuple[Opened, tuple[str, ...]]:
    """A full checkpoint by the names in ``model``, and what has no place of its own there."""
    named, joined = named_as_in(model, opened.tensors)
    return replace(opened, tensors=named), joined
