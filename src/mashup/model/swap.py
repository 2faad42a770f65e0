"""Give tensors of a model other values for a while, and the very same tensors back.

PEFT has two ways to load a new value, and with tied weights they differ. What it *writes* into
the base (an embedding that was saved whole, trained biases) changes every module that the
tensor is tied to. What it *copies* (``modules_to_save``) is a module of its own, and what was
tied to it keeps its old value. New token rows are written where they are those of the input
embedding of a tied model, since PEFT then wraps the head too, unless the head has rows of its
own (PEFT 0.21, ``set_additional_trainable_modules``).

Nothing is computed back: the old tensor itself is put in its place again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mashup.delta import Delta
from mashup.errors import InputError, Problem


@contextlib.contextmanager
def swapped(model: Any, delta: Delta) -> Iterator[None]:
    """``model`` has the saved values and the rows of ``delta`` within the block.

    Values are cast to the dtype that they replace, as PEFT does on loading.
    """
    with contextlib.ExitStack() as back:
        for name, value in delta.originals.items():
            back.enter_context(put(model, name, value, copy=False))
        for name, value in delta.saved.items():
            copy = name in delta.copied
            back.enter_context(put(model, name, value, copy=copy))
        for name, (ids, rows) in delta.rows.items():
            copy = not _is_written(model, name, delta)
            old = find(model, name)
            index = torch.tensor(ids, device=old.device)
            value = old.detach().index_copy(0, index, rows.to(old))
            back.enter_context(put(model, name, value, copy=copy))
        yield


@contextlib.contextmanager
def put(model: nn.Module, name: str, value: Tensor, *, copy: bool) -> Iterator[None]:
    """One tensor has another value; with ``copy`` only under this name, whatever is tied to it.

    Raises:
        InputError: a value of another shape.
    """
    module, leaf = owner(model, name)
    table: Any = module._parameters if leaf in module._parameters else module._buffers
    old = table[leaf]
    if value.shape != old.shape:
        found, expected = str(tuple(value.shape)), f"{tuple(old.shape)}, as in the base"
        raise InputError(Problem("tensors of another shape", name, found, expected))
    kept, new = old.data, value.to(device=old.device, dtype=old.dtype)
    try:
        if copy:
            table[leaf] = nn.Parameter(new, requires_grad=False) if _is_own(old) else new
        else:
            old.data = new
        yield
    finally:
        table[leaf] = old
        old.data = kept


def _is_own(tensor: Tensor) -> bool:
    return isinstance(tensor, nn.Parameter)


def _is_written(model: Any, name: str, delta: Delta) -> bool:
    tensor = find(model, name)
    others = [find(model, other) for other in delta.rows if other != name]
    embedding = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    is_input = embedding is owner(model, name)[0]
    return is_input and not any(other is tensor for other in others)


def owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds a tensor, and the tensor's name there."""
    module, _, leaf = name.rpartition(".")
    return model.get_submodule(module), leaf


def find(model: nn.Module, name: str) -> Any:
    """The parameter or buffer of this name, None when there is none."""
    try:
        module, leaf = owner(model, name)
    except AttributeError:
        return None
    return module._parameters.get(leaf, module._buffers.get(leaf))
