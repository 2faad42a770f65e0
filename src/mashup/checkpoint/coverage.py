"""Do the settings and the weights of an adapter speak of the same modules?

PEFT loads what it finds: weights that the settings do not target are dropped, and a target
without weights starts from zero, both without an error. So both directions are checked.

A name of a list (``target_modules``, ``modules_to_save``, ``target_parameters``) that no tensor
bears is not an error here as long as another name of the list is borne: people write one list
for several architectures, PEFT tolerates it, and for sequence classification writes such a list
itself. It becomes one where the base shows that the name should have matched
(:func:`mashup.checkpoint.fit.fit`); until then it is a note (``Adapter.unmatched``).
A pattern, or a list none of whose names is borne, is an error from the header alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from mashup.checkpoint.config import CONFIG, AdapterConfig
from mashup.checkpoint.modules import LoraModule
from mashup.errors import Problem

_SAME = "use the adapter_config.json that was saved with these weights"


def coverage_problems(
    path: Path,
    config: AdapterConfig,
    modules: Mapping[str, LoraModule],
    copied: Collection[str],
    rows: Collection[str],
) -> list[Problem]:
    """Weights that the settings do not target, and targets without any weights."""
    named, parameters = _split(modules)
    targets = config.targets
    problems = []
    stray = [] if config.tying else [name for name in named if not targets.match(name)]
    if stray:
        found = f"{len(stray)} modules, the first {stray[0]}"
        expected = f"only what target_modules in {CONFIG} names: PEFT drops the rest"
        problems.append(Problem("weights without a target", str(path), found, expected, _SAME))
    wanted = {
        "target_modules": (targets.is_known and targets.modules, named),
        "target_parameters": (targets.parameters, parameters),
        "modules_to_save": (targets.saved, copied),
        "trainable_token_indices": (config.tokens, rows),
    }
    empty = [field for field, (given, found) in wanted.items() if given and not found]
    return problems + [_no_weights(path, field) for field in empty]


def _no_weights(path: Path, field: str) -> Problem:
    found, expected = f"no tensor of {field}", f"weights for {field} in {CONFIG}"
    fix = "save the whole adapter again: without them it is another one"
    return Problem("module without weights", str(path), found, expected, fix)


def unmatched_names(
    config: AdapterConfig,
    modules: Mapping[str, LoraModule],
    copied: Collection[str],
    rows: Collection[str],
) -> tuple[str, ...]:
    """Names in the settings that no tensor bears."""
    named, parameters = _split(modules)
    rest = (name for name in config.tokens if not any(row.endswith(name) for row in rows))
    return (*config.targets.unmatched(named, parameters, copied), *rest)


def _split(modules: Mapping[str, LoraModule]) -> tuple[list[str], list[str]]:
    """Names of modules, and names of parameters that are adapted themselves."""
    named = [name for name, lora in modules.items() if lora.kind != "parameter"]
    return named, [name for name, lora in modules.items() if lora.kind == "parameter"]
