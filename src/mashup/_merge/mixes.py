"""Ways to change one module that PEFT does not load side by side from one adapter."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from mashup._merge.parents import Parent
from mashup.checkpoint import Adapter, AdapterConfig, read_adapter_config
from mashup.checkpoint.vocabulary import BY_TOKEN
from mashup.errors import Problem

#: What torch.compile puts into the names of the modules below a compiled one.
_WRAPPER = "._orig_mod."
Pairs = Sequence[tuple[Adapter, AdapterConfig]]


def mix_problems(parents: Sequence[Parent]) -> list[Problem]:
    """Changes of parents that one LoRA cannot hold together.

    PEFT puts no LoRA on what lies in ``modules_to_save``, loads a tensor that is saved whole
    either into a copy or into the base itself, and has one ``ensure_weight_tying`` for all.
    """
    pairs = [(p.adapter, read_adapter_config(p.checkpoint.path)) for p in parents if p.adapter]
    found = [*_loras_in_saved(pairs), *_copied_and_written(pairs), *_ties(pairs)]
    expected = "one way to change a module"
    fix = "merge into a whole model: `output_kind` full and `base`"
    what = "cannot be merged into a LoRA"
    problems = [Problem(what, "parents", text, expected, fix) for text in found[:1]]
    return [*problems, *_naming_problems(parents)]


def _naming_problems(parents: Sequence[Parent]) -> list[Problem]:
    """LoRAs of the same modules under other names, of which PEFT would load one and drop one.

    As of a compiled model (``_orig_mod.``), or of one with and without a part that sees.
    """
    loras = {str(p.checkpoint.path): set(p.adapter.modules) for p in parents if p.adapter}
    expected = "the names that modules have in the base, the same in all"
    fix = "save it again from the model that was not wrapped, or rename its tensors"
    problems = []
    for where, names in loras.items():
        others = set().union(*(other for other in loras.values() if other.isdisjoint(names)))
        wrapped = (n for n in sorted(names) if _WRAPPER in f".{n}" or others & _endings(n))
        found = next(wrapped, None)
        if found:
            what = "modules under other names"
            problems.append(Problem(what, where, found, expected, fix))
    return problems


def _endings(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[start:]) for start in range(1, len(parts))}


def _loras_in_saved(pairs: Pairs) -> list[str]:
    """A LoRA of one parent on what another trained as a whole."""
    names = {m.tensor for adapter, _ in pairs for m in adapter.modules.values()}
    saved = [config.targets for _, config in pairs if config.targets.saved]
    both = sorted(n for n in names if any(targets.saves_tensor(n) for targets in saved))
    return [f"a LoRA on {name} and the same in modules_to_save" for name in both]


def _copied_and_written(pairs: Pairs) -> list[str]:
    copied = set(chain.from_iterable(adapter.copied for adapter, _ in pairs))
    written = {n for adapter, _ in pairs for n in adapter.saved if n not in adapter.copied}
    return [f"{n} in modules_to_save and saved with the base" for n in sorted(copied & written)]


def _ties(pairs: Pairs) -> list[str]:
    """Tying that some ensure, and others with a change of an embedding or a head do not."""
    tying = {
        config.tying for adapter, config in pairs if any(n.endswith(BY_TOKEN) for n in _of(adapter))
    }
    return ["ensure_weight_tying of some parents only"] if len(tying) > 1 else []


def _of(adapter: Adapter) -> list[str]:
    return [*(module.tensor for module in adapter.modules.values()), *adapter.saved]
