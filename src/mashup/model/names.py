"""Names of tensors in files, and the names and shapes that they have in the loaded model.

transformers renames tensors on loading, and back on saving, where an architecture has changed
since its files were released (``language_model.model.*`` of Gemma-3 is
``model.language_model.*`` in memory), and it stacks the experts of a mixture that files keep
apart. Its own rules are used here, so a file means what it means to ``from_pretrained``. PEFT's
files have the names in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mashup.checkpoint import Stored
from mashup.checkpoint.safetensors import TensorInfo

#: Per pattern of a rule that joins tensors, those that match it.
_Groups = dict[str, list[Stored]]


def names_in(model: Any, stored: Iterable[str]) -> dict[str, str]:
    """Name in a file to name in ``model``; a name that the model does not know stays as it is.

    Tensors that transformers joins with others on loading (experts of a mixture) are left out.
    """
    places = _places(model, stored)
    return {name: made for name, (made, rule, _) in places.items() if rule is None}


def named_as_in(
    model: Any, tensors: Mapping[str, Stored]
) -> tuple[dict[str, Stored], tuple[str, ...]]:
    """Stored tensors by their names in ``model``, experts of a mixture stacked as they are there.

    Returns:
        Name in ``model`` to tensor, and the names in the files of those that have no place of
        their own there: joined with others in a way that is not read here, or two of one name.
        A name that the model does not know stays as it is.
    """
    named: dict[str, Stored] = {}
    groups: dict[str, tuple[Any, _Groups]] = {}
    odd: list[str] = []
    for name, (made, rule, pattern) in _places(model, tensors).items():
        if rule is not None:
            groups.setdefault(made, (rule, {}))[1].setdefault(pattern, []).append(tensors[name])
        elif made in named:
            odd.append(name)
        else:
            named[made] = tensors[name]
    for made, (rule, parts) in groups.items():
        stack = None if made in named else _stack(made, rule, parts)
        if stack is None:
            odd += [one.name for part in parts.values() for one in part]
        else:
            named[made] = stack
    return named, tuple(odd)


def _places(model: Any, stored: Iterable[str]) -> dict[str, tuple[str, Any, str]]:
    """Name in a file to name in ``model``, and the rule and its pattern that join it, if any."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, rename_source_key

    rules = get_model_conversion_mapping(model)
    joining = [rule for rule in rules if isinstance(rule, WeightConverter)]
    renaming = [rule for rule in rules if not isinstance(rule, WeightConverter)]
    known, prefix = model.state_dict(), model.base_model_prefix
    places = {}
    for name in stored:
        made, pattern = rename_source_key(name, renaming, joining, prefix, known)
        rule = next((one for one in joining if pattern in one.source_patterns), None)
        if made not in known:  # as transformers does: not renamed then
            made, rule = rename_source_key(name, [], [], prefix, known)[0], None
        places[name] = (made, rule, pattern or "")
    return places


def _stack(name: str, rule: Any, parts: _Groups) -> Stored | None:
    """Experts as the one tensor ``(E, d_out, d_in)`` that transformers makes of them.

    Those of one pattern are stacked, and the stacks of several patterns (gate, up) put below each
    other. So the bytes of the stack are those of the experts, one after the other. None for
    another rule, or where an expert or a half of one is missing.
    """
    from transformers.core_model_loading import Concatenate, MergeModulelist

    first, *more = rule.operations
    stacks = isinstance(first, MergeModulelist) and first.dim == 0
    joins = not more or (len(more) == 1 and isinstance(more[0], Concatenate) and more[0].dim == 1)
    columns = [sorted(parts.get(one, []), key=_numbers) for one in rule.source_patterns]
    numbers = {tuple(map(_numbers, column)) for column in columns}
    kinds = [{(one.dtype, one.shape) for one in column} for column in columns]
    plain = all(len(kind) == 1 for kind in kinds)
    if not (stacks and joins and plain) or len(numbers) > 1 or len(columns) > 1 + len(more):
        return None
    one = columns[0][0]
    if len({(dtype, shape[1:]) for kind in kinds for dtype, shape in kind}) > 1:
        return None
    rows = sum(column[0].rows for column in columns)
    shape = (len(columns[0]), rows, *one.shape[1:])
    pieces = tuple(piece for expert in zip(*columns, strict=True) for piece in expert)
    return replace(one, name=name, info=TensorInfo(one.dtype, shape), pieces=pieces)


def _numbers(stored: Stored) -> tuple[int, ...]:
    """Numbers that stand alone in a name: of layer and expert."""
    return tuple(map(int, re.findall(r"(?<=\.)\d+(?=\.)", stored.name)))
