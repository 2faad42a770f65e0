"""Several adapters on one base at once, each on a copy of the examples of its own.

Of ``G`` adapters the batch holds every example ``G`` times, one copy of all after the other. An
adapted module of input ``x (G·n, length, d_in)`` adds ``x_g·A_gᵀ·(s_g·B_g)ᵀ`` to its output in
two batched products, over stacks ``(G, d_in, r)`` and ``(G, r, d_out)``. Lower ranks are filled
with zeros; so is a module that an adapter does not change.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mashup.delta import Delta, Factors
from mashup.model.apply import adapted, refuse_missing


class MixedCopiesError(RuntimeError):
    """A module whose input is not one sequence after the other.

    Routed to an expert, or cut to the answers before the head: which row is whose is not known.
    """


def is_plain(model: nn.Module, delta: Delta) -> bool:
    """Whether a delta is LoRA of linear layers and nothing else."""
    if delta.saved or delta.originals or delta.rows or delta.biases:
        return False
    modules = (adapted(model, name) for name in delta.modules)
    linear = all(factors.kind == "linear" for factors in delta.modules.values())
    return linear and not any(m is None or isinstance(m, nn.Embedding) for m in modules)


@contextlib.contextmanager
def applied_together(model: nn.Module, deltas: Sequence[Delta]) -> Iterator[None]:
    """``model`` computes base plus ``deltas[g]`` on copy ``g`` of the batch within the block.

    Args:
        model: the base.
        deltas: plain ones (:func:`is_plain`), in the order of the copies.

    Raises:
        InputError: a delta names a module that the base does not have.
        MixedCopiesError: from the forward pass, of a module that does not keep the copies apart.
    """
    for delta in deltas:
        refuse_missing(model, delta)
    like = next(model.parameters())
    with contextlib.ExitStack() as hooks:
        for name in dict.fromkeys(name for delta in deltas for name in delta.modules):
            right, left = stacked([delta.modules.get(name) for delta in deltas])
            hook = _adding(right.to(like), left.to(like))
            hooks.callback(model.get_submodule(name).register_forward_hook(hook).remove)
        yield


def stacked(factors: Sequence[Factors | None]) -> tuple[Tensor, Tensor]:
    """``Aᵀ (G, d_in, r)`` and ``s·Bᵀ (G, r, d_out)`` of ``G`` deltas, None for one of zero.

    ``r`` is the largest rank. At least one must be given.
    """
    given = [one for one in factors if one is not None]
    rank, count = max(one.rank for one in given), len(factors)
    right = given[0].A.new_zeros(count, given[0].A.shape[1], rank)
    left = given[0].B.new_zeros(count, rank, given[0].B.shape[0])
    for place, one in enumerate(factors):
        if one is not None:
            right[place, :, : one.rank] = one.A.T
            left[place, : one.rank] = one.scale * one.B.T
    return right, left


def _adding(right: Tensor, left: Tensor) -> Callable[[Any, tuple[Any, ...], Tensor], Tensor]:
    copies, width, _ = right.shape

    def hook(module: Any, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        (x, *_) = inputs
        if x.dim() != 3 or len(x) % copies:
            raise MixedCopiesError(f"{type(module).__name__} of input {tuple(x.shape)}")
        rows = x.to(right.dtype).reshape(copies, -1, width)
        return output.add_(torch.bmm(torch.bmm(rows, right), left).view_as(output))

    return hook
