"""Which modules and parameters of a base an adapter's settings name, by PEFT's own rules.

The rules are those of PEFT 0.21 (``check_target_module_exists``, ``_set_trainable`` and
``_inject_parameters``), which are not the same for the three kinds of names: a name of
``target_modules`` and ``target_parameters`` is a whole part of a dotted name, or several;
a name of ``modules_to_save`` is any ending.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mashup.checkpoint.patterns import check_patterns, matches, repeats_nothing

#: What PEFT replaces by the names of all linear layers when it sees the model.
_ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class Targets:
    """Where the settings put LoRA.

    Attributes:
        modules: ``target_modules``: names, one pattern for whole names, or None where the
            settings do not say.
        excluded: ``exclude_modules``, in the same two forms.
        layers: ``layers_to_transform``, None for all.
        layers_pattern: names of the lists that hold the layers, () for any.
        parameters: ``target_parameters``.
        saved: ``modules_to_save``; what is trained as a whole gets no LoRA.
    """

    modules: tuple[str, ...] | str | None = None
    excluded: tuple[str, ...] | str = ()
    layers: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    saved: tuple[str, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether the settings tell the modules without the model."""
        if isinstance(self.modules, str):
            return self.modules.lower() != _ALL_LINEAR
        return self.modules is not None

    def match(self, module: str) -> bool:
        """Whether PEFT puts a LoRA on this module; True where the settings do not say."""
        if not self.is_known:
            return True
        if _named(self.excluded, module) or self._is_saved_whole(module):
            return False
        if isinstance(self.modules, str) or module in (self.modules or ()):
            return _named(self.modules or (), module)
        return _named(self.modules or (), module) and self._layer_fits(module)

    def match_parameter(self, parameter: str) -> bool:
        """Whether PEFT puts a LoRA on this parameter itself."""
        return _named(self.parameters, parameter)

    def has_parameters(self, module: str) -> bool:
        """Whether one of ``target_parameters`` may be a parameter that ``module`` holds."""
        return bool(self.parameters_of(module))

    def parameters_of(self, module: str) -> dict[str, bool]:
        """Full names that ``target_parameters`` may mean on a module.

        True for a target that names the module too, as ``experts.down_proj`` does; a bare
        ``down_proj`` may be meant on any module, and only the base tells on which.
        """
        found: dict[str, bool] = {}
        for target in self.parameters:
            owner, _, leaf = target.rpartition(".")
            if not owner or _named((owner,), module):
                found[f"{module}.{leaf}"] = bool(owner) or found.get(f"{module}.{leaf}", False)
        return found

    def saves(self, module: str) -> bool:
        """Whether PEFT trains and saves this module as a whole."""
        return module.endswith(self.saved)

    def saves_tensor(self, tensor: str) -> bool:
        """Whether a tensor lies in a module that is saved as a whole."""
        parts = tensor.split(".")
        return any(self.saves(".".join(parts[:count])) for count in range(1, len(parts)))

    def _is_saved_whole(self, module: str) -> bool:
        return any(matches(_saved(name), module) for name in self.saved)

    def _layer_fits(self, module: str) -> bool:
        if self.layers is None:
            return True
        lists = self.layers_pattern or (r"[^.]*",)
        found = (re.match(_layer(name, self), module) for name in lists)
        index = next((int(match["idx"]) for match in found if match), None)
        return index in self.layers

    def unmatched(
        self, modules: Collection[str], parameters: Collection[str], tensors: Collection[str]
    ) -> tuple[str, ...]:
        """Names of lists that match no adapted module, no adapted parameter and no saved tensor."""
        named = self.modules if isinstance(self.modules, tuple) else ()
        saved = {name: Targets(saved=(name,)) for name in self.saved}
        known, known_parameters = _endings(modules), _endings(parameters)
        return (
            *(name for name in named if name not in known),
            *(name for name in self.parameters if name not in known_parameters),
            *(name for name, one in saved.items() if not any(map(one.saves_tensor, tensors))),
        )


def _named(names: tuple[str, ...] | str, full: str) -> bool:
    """Whether one of the names is, or ends, ``full``; a text is a pattern for the whole."""
    if isinstance(names, str):
        return matches(names, full)
    return full in names or full.endswith(_dotted(names))


@lru_cache(maxsize=64)
def _dotted(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f".{name}" for name in names)


def _endings(names: Collection[str]) -> set[str]:
    """All that a name of a list may be to mean one of ``names``."""
    parts = [name.split(".") for name in names]
    return {".".join(part[start:]) for part in parts for start in range(len(part))}


def read_targets(config: dict[str, Any]) -> Targets:
    """The targets of an ``adapter_config.json``.

    Raises:
        TypeError, ValueError, re.error: values that PEFT could not use either.
    """
    layers = config.get("layers_to_transform")
    layers = [layers] if isinstance(layers, int) else layers
    pattern = config.get("layers_pattern")
    targets = Targets(
        modules=None if config.get("target_modules") is None else _names(config["target_modules"]),
        excluded=_names(config.get("exclude_modules") or ()),
        layers=tuple(map(int, layers)) if layers else None,
        layers_pattern=(pattern,) if isinstance(pattern, str) and pattern else _list(pattern),
        parameters=_list(config.get("target_parameters")),
        saved=_list(config.get("modules_to_save")),
    )
    whole = (text for text in (targets.modules, targets.excluded) if isinstance(text, str))
    check_patterns(whole)
    check_patterns(targets.saved, _saved)
    check_patterns(targets.layers_pattern, lambda name: _layer(name, targets))
    if odd := [name for name in targets.layers_pattern if not repeats_nothing(name)]:
        raise ValueError(f"layers_pattern {odd[0][:80]}, not the name of a list of layers")
    return targets


def _layer(name: str, targets: Targets) -> str:
    """The pattern of what lies in a layer of the list ``name``; its number is ``idx``."""
    start = r"(?:^|.*?\.)" if targets.layers_pattern else r".*?\."
    return rf"{start}{name}\.(?P<idx>\d+)\."


def _saved(name: str) -> str:
    """The pattern of a module that is saved whole, or lies in one."""
    return rf"(^|.*\.){name}($|\..*)"


def _names(value: Any) -> tuple[str, ...] | str:
    return value if isinstance(value, str) else _list(value)


def _list(value: Any) -> tuple[str, ...]:
    """Names, sorted: PEFT saves sets, so their order says nothing."""
    if not isinstance(value or [], list | tuple) or not all(
        isinstance(v, str) for v in value or ()
    ):
        raise TypeError(f"{str(value)[:80]}, not a list of names")
    return tuple(sorted(set(value or ())))
