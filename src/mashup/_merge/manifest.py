"""``mashup.json`` and the model card of a merge, and sentences about both."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from mashup._merge.combine import Energy
from mashup._merge.full import FullPlan
from mashup._merge.lora import Written
from mashup._merge.methods import METHODS
from mashup._merge.parents import Parent, counting
from mashup._merge.plan import Prepared
from mashup._merge.plan_lora import LoraPlan
from mashup.checkpoint.card import Card, cell, command_of
from mashup.checkpoint.history import MANIFEST
from mashup.checkpoint.identity import fingerprint, quantised_note
from mashup.files import size
from mashup.hub import snapshot_of
from mashup.state import VERSION

#: A relative rounding error above which the text says how to avoid it.
_LOUD = 0.01
_PACKAGES = ("mashup-learning", "torch", "transformers", "peft", "safetensors", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe_parents(prepared: Prepared, base: str, given: str) -> dict[str, Any]:
    """The part that every kind of result has: parents, base, method and its settings.

    Args:
        prepared: the merge.
        base: name of the base, from the user or from the parents.
        given: that name if the user gave it, else "".
    """
    recipe, method = prepared.recipe, prepared.recipe.method
    numbers = {name: getattr(recipe.settings, name) for name in ("seed", *method.takes)}
    about: dict[str, Any] = {
        "version": VERSION,
        "kind": "init",
        "base": base,
        "method": method.name,
        "parents": [_parent(parent, prepared) for parent in prepared.in_order],
        **numbers,
        "versions": versions(),
    }
    partial, notes = _partial(prepared), _notes(prepared, given)
    about |= {"partial": partial} if partial else {}
    return about | ({"notes": notes} if notes else {})


def _notes(prepared: Prepared, given: str) -> list[str]:
    """What a user should know about the parents, a sentence each."""
    quantised = {p.path: quantised_note(p.checkpoint.base, given) for p in prepared.in_order}
    same: dict[str, list[str]] = {}
    for parent in prepared.in_order:
        same.setdefault(parent.digest, []).append(str(parent.path))
    return [
        *(f"{path}: {note}" for path, note in quantised.items() if note),
        *(f"the same checkpoint {len(p)} times: {', '.join(p)}" for p in same.values() if p[1:]),
    ]


def _partial(prepared: Prepared) -> dict[str, Any]:
    """What ``allow_partial`` left out, by the folder of the parent."""
    if prepared.reference is None:
        return {}
    counted = counting(prepared.parents, prepared.recipe.method, prepared.recipe.settings)
    both = zip(counted, prepared.reference.covered, strict=True)
    return {str(p.path): one.coverage.to_json() for p, one in both if one.coverage.is_partial}


def _parent(parent: Parent, prepared: Prepared) -> dict[str, Any]:
    plan = prepared.plan
    tensors = plan.tensors if isinstance(plan, FullPlan) else [m.tensors for m in plan.modules]
    names = {one.name for one in tensors}
    snapshot = snapshot_of(parent.path)
    return {
        "name": parent.checkpoint.name,
        "path": str(parent.path),
        **({"source": str(snapshot)} if snapshot else {}),
        "kind": parent.checkpoint.kind,
        "task": parent.checkpoint.task,
        "digest": parent.digest,
        "digest_of": "headers and samples" if parent.is_full else "all bytes",
        "weight": parent.weight,
        "coverage": len(names & parent.changes.keys()) / max(1, len(names)),
    }


def describe_lora(prepared: Prepared, written: Written) -> dict[str, Any]:
    """Rank, factors and error of a LoRA."""
    plan = prepared.plan
    assert isinstance(plan, LoraPlan)
    averaged = prepared.recipe.method.name == "factor_average"
    energy = written.energy
    return {
        "output_kind": "lora",
        "rank": "the parents'" if averaged else plan.rank.text,
        "factors": "the parents' average" if averaged else plan.style,
        "resolved_rank": written.rank,
        "modules": len(plan.modules),
        "saved_tensors": [one.tensors.name for one in plan.saved],
        "left_out_tensors": [one.name for one in plan.left_out],
        "left_out_energy": written.left_out / energy.total if energy.total else 0.0,
        "kept_energy": None if averaged else energy.kept / energy.total if energy.total else 1.0,
        "relative_error": energy.relative_error or 0.0,
    }


def describe_full(prepared: Prepared, written: Energy) -> dict[str, Any]:
    """Sizes of a full checkpoint, and its error relative to its difference from the base."""
    plan, reference = prepared.plan, prepared.reference
    assert isinstance(plan, FullPlan)
    assert reference is not None
    return {
        "output_kind": "full",
        "tensors": len(plan.tensors),
        "shards": len(plan.shards),
        "bytes": plan.bytes_written,
        "relative_error": written.relative_error,
        "tied": reference.tied,
        "fingerprint": fingerprint(reference.folder, reference.model.config),
        "vocabulary": str(reference.vocabulary) if reference.bases else None,
    }


def quality(manifest: dict[str, Any]) -> str:
    """How well a merge holds what its method says, in words."""
    if manifest["output_kind"] == "full":
        files = "1 file" if manifest["shards"] == 1 else f"{manifest['shards']} files"
        text = f"{manifest['tensors']} tensors, {size(manifest['bytes'])} in {files}"
        return text + _rounding(manifest["relative_error"], manifest.get("dtype", ""))
    kept, error = manifest["kept_energy"], manifest["relative_error"]
    energy = "" if kept is None else f"{kept:.2%} of the energy kept, "
    what = "weighted mean" if manifest["method"] in ("linear", "factor_average") else "merge"
    text = f"{energy}relative error to the exact {what} {error:.2g}"
    outside = manifest["left_out_energy"]
    if outside:
        count = len(manifest["left_out_tensors"])
        text += f"; {outside:.2%} of the energy is in {count} tensors that a LoRA cannot hold"
    return text


def _rounding(error: float | None, dtype: str) -> str:
    """The rounding error of the written type, where the base is known."""
    if error is None:
        return ""
    wider = "" if dtype in ("float32", "float64") else "`dtype` float32 or "
    hint = f" ({wider}`output_kind` lora keeps it)" if error > _LOUD else ""
    return f"; rounding to {dtype or 'the written type'} loses {error:.2g} of the change{hint}"


def measured(sample: dict[str, Any]) -> str:
    """What an init scores on the sample, in words."""
    known = ""
    if "knowledge" in sample:
        known = f"knows {sample['knowledge']:.2f} ± {sample['knowledge_error']:.2f} bits and "
    return (
        f"as written it {known}scores loss {sample['loss']:.4f} on the sample, "
        f"{sample['difference']:+.4f} ± {sample['standard_error']:.4f} against the base"
    )


def against_best(manifest: dict[str, Any]) -> str:
    """Whether the best parent alone is better on the sample; "" where it is not."""
    taken = manifest.get("instead_of")
    best = taken or manifest.get("sample", {}).get("best_single")
    if not best or best["difference"] <= 0:
        return ""
    criterion = best.get("criterion", "loss")
    key = "loss" if criterion == "loss" else "value"
    merged = taken[f"merge_{key}"] if taken else manifest["sample"][key]
    name, unit, form = {
        "loss": ("loss ", " nats a token", ".4f"),
        "knowledge": ("", " bits", ".2f"),
        "accuracy": ("accuracy ", "", ".1%"),
    }[criterion]
    behind = (
        f"on the sample the merge ({name}{merged:{form}}) is {best['difference']:{form}} ± "
        f"{best['standard_error']:{form}}{unit} behind {best['name']} alone ({best[key]:{form}})"
    )
    if taken:
        return f"start from {best['name']} alone: {behind}; `always_merge` writes the merge"
    return f"{behind}; `k` 1 takes that alone"


def card(manifest: dict[str, Any]) -> str:
    """The model card of a merge, from its manifest alone."""
    is_lora = manifest["output_kind"] == "lora"
    is_init, parents = "sample" in manifest, manifest["parents"]
    count = "a past checkpoint" if len(parents) == 1 else f"{len(parents)} past checkpoints"
    made = Card(
        title=f"A start for fine-tuning, made from {count}" if is_init else f"Merge of {count}",
        text=_text(manifest, is_init=is_init),
        base=manifest["base"],
        is_lora=is_lora,
        relation="adapter" if is_lora else "merge",
        command=_command(manifest),
        kept=manifest.get("card", {}),
        tags=["merge"],
        has_tokenizer=manifest.get("has_tokenizer", True),
    )
    return str(made)


def _text(manifest: dict[str, Any], *, is_init: bool) -> str:
    first = "Not a finished model: train from it. " if is_init else ""
    rows = "\n".join(
        f"| {cell(p['name'])} | {cell(p['task'] or 'unknown')} | {p['weight']:.4g} "
        f"| {p['coverage']:.0%} | `{p['digest'][:12]}` |"
        for p in manifest["parents"]
    )
    facts = [_how(manifest), *_scored(manifest), *manifest.get("notes", [])]
    return f"""{first}Merged by Mashup Learning (arXiv 2603.10156).

| parent | task | weight | covered | digest |
|---|---|---|---|---|
{rows}

{chr(10).join(f"- {one}" for one in facts)}
- All details are in `{MANIFEST}`."""


def _how(manifest: dict[str, Any]) -> str:
    """Method with its settings, shape, and how exact the result is."""
    takes = METHODS[manifest["method"]].takes
    settings = ", ".join(f"{name} {manifest[name]:g}" for name in takes)
    text = f"Method `{manifest['method']}`" + (f" ({settings})" if settings else "")
    if manifest["output_kind"] == "lora":
        text += f", rank {manifest['resolved_rank']} (`{manifest['rank']}`)"
        text += f", factors `{manifest['factors']}`"
    return f"{text}, {quality(manifest)}."


def _scored(manifest: dict[str, Any]) -> list[str]:
    """Its loss, on which task, and whether its best parent scores better."""
    sample = manifest.get("sample")
    if not sample:
        return []
    task = manifest.get("task", {}).get("name", "unknown")
    where = f"Task {task}, {sample['examples']} training examples"
    behind = against_best(manifest)
    return [f"{where}: {measured(sample)}.", *([f"{behind}."] if behind else [])]


def settings_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Fields of :class:`mashup.MergeSettings` that make the merge again, from its manifest.

    Weights are the numbers that were used. A greedy soup is the mean of the parents that it kept.
    """
    method = METHODS[manifest["method"]]
    shaped = manifest["output_kind"] == "lora" and method.name != "factor_average"
    return {
        "output_kind": manifest["output_kind"],
        "method": "linear" if method.name == "greedy_soup" else method.name,
        "weights": [parent["weight"] for parent in manifest["parents"]],
        **{name: manifest[name] for name in ("seed", *method.takes)},
        **({name: manifest[name] for name in ("rank", "factors")} if shaped else {}),
        **manifest.get("options", {}),
    }


def _command(manifest: dict[str, Any]) -> str:
    """The ``mashup merge`` command that makes it again, also for a merge that ``init`` made."""
    paths = [parent["path"] for parent in manifest["parents"]]
    options = {"model": manifest["base"] or None, "output": "OUTPUT", **settings_of(manifest)}
    return command_of("merge", paths, options)
