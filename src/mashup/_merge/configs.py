"""Do the settings of whole models describe one function of their tensors, defaults and all?

:func:`mashup.checkpoint.fit.settings_problem` compares what two configs both say, at once and
without transformers. Before a merge is written more is asked: that transformers takes each
config, and that the two agree as it completes them, so that a field that is left out means its
default and one that has moved (``rope_theta``) is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mashup._merge.parents import Parent
from mashup.checkpoint.fit import settings_problem
from mashup.checkpoint.identity import read_config
from mashup.errors import InputError, Problem
from mashup.model.quiet import quiet_transformers

_CONFIG = "config.json"
_EMBEDDING = "embed_tokens.weight"


def settings_problems(parents: Sequence[Parent], base: Path | None, *, same: bool) -> list[Problem]:
    """What is wrong with the settings of whole models, which follow the base or the first.

    Args:
        parents: whole models.
        base: folder of the base, where it is known.
        same: whether they must agree.
    """
    problems: list[Problem] = []
    known: dict[Path, dict[str, Any]] = {}
    for folder in (*([base] if base else []), *(parent.checkpoint.path for parent in parents)):
        try:
            known[folder] = _completed(folder)
        except InputError as error:
            problems += error.problems
    problems += [p for one in parents for p in _vocabulary(one, known)]
    if same and known:
        first, expected = next(iter(known.items()))
        found = (settings_problem(place, own, expected, first) for place, own in known.items())
        problems += [problem for problem in found if problem]
    return problems


def _completed(folder: Path) -> dict[str, Any]:
    """``config.json`` with the defaults of its model type, as far as transformers knows it."""
    from transformers import CONFIG_MAPPING, AutoConfig

    given = read_config(folder)
    kind = given.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        return given
    try:
        _check_dtype(given)
        with quiet_transformers():
            return AutoConfig.from_pretrained(folder, local_files_only=True).to_dict()
    except Exception as error:  # its checks raise errors of a dozen kinds
        found = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        expected, fix = f"settings of a {kind} that transformers takes", "copy the folder again"
        where = str(folder / _CONFIG)
        raise InputError(Problem("bad model settings", where, found, expected, fix)) from error


def _check_dtype(given: Mapping[str, Any]) -> None:
    """Refuse what transformers fails on only when it makes the model."""
    for name in ("dtype", "torch_dtype"):
        if not isinstance(given.get(name), str | None):
            raise TypeError(f"{name} is {str(given[name])[:40]}")


def _vocabulary(parent: Parent, known: Mapping[Path, Mapping[str, Any]]) -> list[Problem]:
    """The problem of an embedding that has not the rows that the settings say."""
    folder = parent.checkpoint.path
    settings = known.get(folder, {})
    inner = settings.get("text_config")
    said = (inner if isinstance(inner, dict) else settings).get("vocab_size")
    rows = [stored.rows for name, stored in parent.tensors.items() if name.endswith(_EMBEDDING)]
    if said is None or len(rows) != 1 or rows[0] == said:
        return []
    found, wanted = f"vocab_size {str(said)[:40]}", f"{rows[0]}, the rows of the embedding"
    fix = "use the config.json that was saved with these weights"
    return [Problem("bad model settings", str(folder / _CONFIG), found, wanted, fix)]
