"""What a loaded model calls the tensors of a file.

transformers renames tensors on loading, and back on saving, where an architecture has changed
since its files were released (``language_model.model.*`` of Gemma-3's is
``model.language_model.*`` in memory). Its own rules are asked, so a file means here what it
means to ``from_pretrained``. PEFT's files have the names in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from mashup.delta import Delta
from mashup.model.swap import find


def names_in(model: Any, stored: Iterable[str]) -> dict[str, str]:
    """Name in a file to name in ``model``; a name that the model does not know stays as it is.

    Tensors that transformers joins with others on loading (experts of a mixture) are left out.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, rename_source_key

    rules = get_model_conversion_mapping(model)
    joining = [rule for rule in rules if isinstance(rule, WeightConverter)]
    renaming = [rule for rule in rules if not isinstance(rule, WeightConverter)]
    known, prefix = model.state_dict(), model.base_model_prefix
    names = {}
    for name in stored:
        made, joined = rename_source_key(name, renaming, joining, prefix, known)
        if made in known and not joined:
            names[name] = made
        elif made not in known:  # as transformers does: not renamed then
            names[name] = rename_source_key(name, [], [], prefix, known)[0]
    return names


def by_own_names(model: Any, delta: Delta) -> Delta:
    """``delta`` by the names of ``model``; a merge of whole models has those of its files."""
    unknown = [name for name in delta.saved if find(model, name) is None]
    if not unknown:
        return delta
    names = names_in(model, unknown)
    saved = {names.get(name, name): value for name, value in delta.saved.items()}
    return replace(delta, saved=saved)
