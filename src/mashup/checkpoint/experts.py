"""Which way round stacked experts are stored: only the base's shapes tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mashup.checkpoint.modules import LoraModule
from mashup.errors import InputError, Problem


def laid_out(
    modules: Mapping[str, LoraModule], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, LoraModule]:
    """The modules with the layouts that the base's tensors have.

    transformers stores experts as ``(E, d_out, d_in)``, and those of GPT-OSS and a few more as
    ``(E, d_in, d_out)``. A square parameter is read like its siblings on the same module.

    Args:
        modules: as :func:`mashup.checkpoint.read_adapter` gives them.
        shapes: name to shape of the base's tensors.

    Raises:
        InputError: only square parameters, which say neither.
    """
    turned = {n: t for n, m in modules.items() if (t := _is_turned(m, shapes)) is not None}
    siblings = {name.rpartition(".")[0]: is_turned for name, is_turned in turned.items()}
    made = dict(modules)
    for name, module in modules.items():
        if module.layout != "experts":
            continue
        is_turned = turned.get(name, siblings.get(name.rpartition(".")[0]))
        if is_turned is None:
            raise InputError(_square(module))
        made[name] = replace(module, layout="experts_transposed" if is_turned else "experts")
    return made


def _is_turned(module: LoraModule, shapes: Mapping[str, tuple[int, ...]]) -> bool | None:
    """None when the shape fits both ways, or neither."""
    shape = shapes.get(module.tensor, ())
    if module.experts == 1 or module.d_in == module.d_out:
        return None
    ways = {(module.d_out, module.d_in): False, (module.d_in, module.d_out): True}
    return ways.get(shape[1:]) if len(shape) == 3 else None


def _square(module: LoraModule) -> Problem:
    found = f"{module.d_out} × {module.d_in} for each of {module.experts} experts"
    expected = "a shape that tells rows from columns"
    fix = "load the base, or adapt gate_up_proj as well"
    return Problem("cannot tell the experts' layout", module.name, found, expected, fix)
