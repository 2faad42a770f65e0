"""What a run leaves: facts, manifest, prompts, weights and tokenizer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from mashup._merge.manifest import versions
from mashup._train.adapter import save_whole
from mashup._train.work import Work
from mashup.checkpoint.card import CARD, Card, command_of, kept_heads
from mashup.checkpoint.history import MANIFEST, PROMPTS, read_manifest, read_prompts
from mashup.hub import snapshot_of
from mashup.outputs import move, temporary_folder, to_json, write_text
from mashup.results.curve import CURVE, Point, read_curve
from mashup.state import VERSION
from mashup.task import taught_prompts


def facts_of(
    model: Any,
    work: Work,
    kept: Point,
    seconds: float,
    check: dict[str, Any] | None,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """The facts about a finished run for ``run.json`` and ``mashup.json``.

    Args:
        model: as it was trained.
        work: what was done.
        kept: the point whose weights are kept.
        seconds: of training steps.
        check: what the start check measured, None from scratch.
        dtype: that the base computes in.
    """
    best: dict[str, Any] = {}
    if work.settings.keep == "best":
        last = read_curve(work.output / CURVE)[-1]
        best = {"best_step": kept.step, "last_metrics": _metrics(last)}
    return {
        **best,
        "steps": work.steps,
        "start_check": check,
        "train_seconds": seconds,
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "metrics": _metrics(kept),
        "base_dtype": str(dtype),
        "versions": versions(),
        "left_out_rows": {**work.task.left_out, **_long(work)},
    }


def _long(work: Work) -> dict[str, int]:
    return {f"too long ({split})": count for split, count in work.tokens.long.items()}


def _metrics(point: Point) -> dict[str, float | None]:
    """Dev and test values; null where a run diverged."""
    named = {k: v for k, v in point.to_json().items() if k.startswith(("dev_", "test_"))}
    return {k: v if math.isfinite(v) else None for k, v in named.items()}


def write_about(model: Any, work: Work, facts: dict[str, Any]) -> None:
    """Write manifest, model card and prompt digests, by which later libraries know the run."""
    base, task, init = work.base, work.task, work.init
    snapshot = snapshot_of(init) if init else None
    manifest = {
        "version": VERSION,
        "kind": "run",
        "base": base.name,
        "base_digest": base.digest,
        "task": {"name": task.name, "digest": task.digest, "rows": len(task.train)},
        "init": str(init) if init else None,
        **({"init_source": str(snapshot)} if snapshot else {}),
        "settings": _settings(model, work),
        **facts,
    }
    write_text(work.output / MANIFEST, to_json(manifest))
    write_text(work.output / CARD, str(_card(manifest, work)))
    keys = taught_prompts(task.train)
    keys |= read_prompts(init) if init else frozenset()  # what the init has seen, this run has seen
    write_text(work.output / PROMPTS, "\n".join(sorted(keys)) + "\n")


def lineage_of(work: Work) -> dict[str, str]:
    """What a run comes from, for trackers: base, task, init and the init's sources."""
    parents = read_manifest(work.init).get("parents") if work.init else None
    sources = [one for one in parents or () if isinstance(one, dict)]
    return {
        "base": work.base.name,
        "task": work.task.name,
        "task_digest": work.task.digest,
        "init": _init_of(work) or "none",
        "sources": ", ".join(str(one.get("name")) for one in sources) or "none",
    }


def _init_of(work: Work) -> str | None:
    """The start of a run as others can give it: of the Hub with its commit."""
    return str(snapshot_of(work.init) or work.init) if work.init else None


def _card(manifest: dict[str, Any], work: Work) -> Card:
    task, settings, metrics = work.task, work.settings, manifest["metrics"]
    is_lora = not settings.is_full
    what = "LoRA" if is_lora else "Model, all weights trained,"
    init = _init_of(work)
    start = f"from `{init}`" if init else "from scratch" if is_lora else "from the base"
    scores = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())
    text = f"""Trained by `mashup train` {start}: {work.steps} steps on {len(task.train)} rows.

- Task {task.name} (digest `{task.digest[:12]}`), at the end: {scores}.
- Settings, seconds and versions are in `{MANIFEST}`."""
    defaults = type(settings)().model_dump()
    changed = {n: v for n, v in settings.model_dump().items() if v != defaults.get(n)}
    if settings.max_steps is not None:
        changed.pop("epochs", None)  # steps decide
    known = (path for path in (work.init, Path(work.base.name)) if path and path.is_dir())
    options = {"model": work.base.name, "dataset": "DATASET", "output": "OUTPUT"}
    return Card(
        title=f"{what} on {task.name}",
        text=text,
        base=work.base.name,
        is_lora=is_lora,
        relation="adapter" if is_lora else "finetune",
        command=command_of("train", (), options | {"init": init} | changed),
        kept=kept_heads(list(known)),
    )


def _settings(model: Any, work: Work) -> dict[str, Any]:
    """The settings, with the shape of the LoRA that was trained: an init brings its own."""
    values = work.settings.model_dump()
    if work.settings.is_full:
        return {name: value for name, value in values.items() if not name.startswith("lora_")}
    if work.init is None:
        return values
    config = model.peft_config["default"]
    modules = config.target_modules or ()
    named = modules if isinstance(modules, str) else ",".join(sorted(modules))
    shape = {"lora_r": config.r, "lora_alpha": config.lora_alpha, "lora_target_modules": named}
    return values | shape


def save(model: Any, work: Work, dtype: torch.dtype) -> None:
    """Write weights and tokenizer, or processor.

    Each file is complete on the disk before it gets its name.
    """
    with temporary_folder(work.output / "weights") as part:
        if work.settings.is_full:
            save_whole(model, part, dtype)
        else:
            model.save_pretrained(part)
        tokenizer = work.base.processor("") if work.task.sees else work.base.tokenizer
        tokenizer.save_pretrained(part)  # a processor has it
        (part / "README.md").unlink(missing_ok=True)
        readable = (work.output / MANIFEST).stat().st_mode & 0o777  # safetensors writes 0600
        for path in sorted(part.iterdir(), key=lambda p: p.suffix != ".safetensors"):
            path.chmod(readable)
            move(path, work.output / path.name)
