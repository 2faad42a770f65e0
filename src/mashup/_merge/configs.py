"""Do the settings of full checkpoints describe one function of their tensors, defaults and all?

:func:`mashup.checkpoint.fit.settings_problem` compares what two configs both say, without
transformers. Before a merge is written more is checked: that transformers accepts each config,
and that they agree as it completes them. A setting that is absent then means its default, and one
that has moved (``rope_theta``) is found.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mashup.checkpoint import BaseShapes, Opened
from mashup.checkpoint.fit import settings_problem
from mashup.errors import InputError, Problem
from mashup.model.base import quiet_transformers

_CONFIG = "config.json"
_EMBEDDING = "embed_tokens.weight"


def config_problems(
    parents: Sequence[Opened], base: BaseShapes | None, *, same: bool
) -> list[Problem]:
    """What is wrong with the configs of full checkpoints, compared with the base or the first.

    Args:
        parents: full checkpoints.
        base: the base, where it is known.
        same: whether they must agree.
    """
    problems: list[Problem] = []
    known: dict[Path, dict[str, Any]] = {}
    given = {base.folder: base.config} if base and base.folder else {}
    for folder, config in (given | {one.path: one.settings for one in parents}).items():
        try:
            known[folder] = _completed(folder, config)
        except InputError as error:
            problems += error.problems
    problems += [p for one in parents for p in _vocabulary(one, known.get(one.path, {}))]
    if same and known:
        first, expected = next(iter(known.items()))
        found = (settings_problem(place, own, expected, first) for place, own in known.items())
        problems += [problem for problem in found if problem]
    return problems


def _completed(folder: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the defaults of its model type, as far as transformers knows it."""
    from transformers import CONFIG_MAPPING

    kind = given.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        return dict(given)
    try:
        _check_dtype(given)
        with quiet_transformers():
            return CONFIG_MAPPING[kind].from_dict(copy.deepcopy(dict(given))).to_dict()
    except Exception as error:  # its checks raise errors of a dozen kinds
        found = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        expected, fix = f"settings of a {kind} that transformers accepts", "copy the folder again"
        where = str(folder / _CONFIG)
        raise InputError(Problem("bad model settings", where, found, expected, fix)) from error


def _check_dtype(given: Mapping[str, Any]) -> None:
    """Refuse what transformers would refuse only when it makes the model."""
    for name in ("dtype", "torch_dtype"):
        if not isinstance(given.get(name), str | None):
            raise TypeError(f"{name} is {str(given[name])[:40]}")


def _vocabulary(parent: Opened, settings: Mapping[str, Any]) -> list[Problem]:
    """The problem of an embedding with another number of rows than the config says."""
    inner = settings.get("text_config")
    said = (inner if isinstance(inner, dict) else settings).get("vocab_size")
    rows = [stored.rows for name, stored in parent.values.items() if name.endswith(_EMBEDDING)]
    if said is None or len(rows) != 1 or rows[0] == said:
        return []
    found, wanted = f"vocab_size {str(said)[:40]}", f"{rows[0]}, the rows of the embedding"
    fix = "use the config.json that was saved with these weights"
    return [Problem("bad model settings", str(parent.path / _CONFIG), found, wanted, fix)]
