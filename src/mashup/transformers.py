"""Other trainers: start a ``Trainer`` or ``SFTTrainer`` from a library, check it, and record it.

    start = init_for("checkpoints/", "google/gemma-3-1b-it", "tickets.jsonl", output="init/")
    trainer = SFTTrainer(model=start.model, callbacks=[start.callback], ...)

:class:`MashupCallback` checks at step 0 that the trained model is the init, and leaves
``mashup.json`` next to each checkpoint, so that the run joins a library as one of our own would.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import TrainerCallback

from mashup._init import InitResult, init
from mashup._merge.manifest import versions
from mashup.checkpoint import open_checkpoint
from mashup.checkpoint.adapter import Adapter, adapter_weights
from mashup.checkpoint.history import MANIFEST, PROMPTS, read_prompts
from mashup.checkpoint.safetensors import Stored
from mashup.errors import InputError, Problem, raise_all
from mashup.hub import snapshot_of
from mashup.library.sources import folder_of
from mashup.model import AnyBase, load_base
from mashup.outputs import to_json, write_text
from mashup.state import VERSION
from mashup.task import load_task, taught_prompts
from mashup.task.load import read_examples

_METRICS = ("eval_", "test_", "train_")  # how names of metrics begin in a Trainer's log
_SCALE = 1e-6  # relative difference of a scale that is rounding
_PREFIX = "base_model.model."  # of names in a PeftModel
_FIX = (
    "load it before the trainer is made: "
    "PeftModel.from_pretrained(model, INIT, is_trainable=True), and give no peft_config"
)


@dataclass(frozen=True)
class Start:
    """What a trainer starts from.

    Attributes:
        model: trainable: with the init, or with a fresh LoRA where no checkpoint helps.
        tokenizer: of the base.
        callback: for the trainer's ``callbacks``.
        result: scores, selection and the written init; ``result.sentence`` says why.
    """

    model: Any
    tokenizer: Any
    callback: MashupCallback
    result: InitResult


def init_for(
    library: Any,
    base: AnyBase,
    rows: Any,
    *,
    output: str | Path,
    task: str | None = None,
    peft_config: Any = None,
    **options: Any,
) -> Start:
    """A model for any trainer that starts from the best of a library.

    Args:
        library: a scanned library, its folder, or a source (``hub:ORG``, ...).
        base: the base's name, or the model that is to be trained, loaded without an adapter.
        rows: training rows: a file, a ``datasets.Dataset`` or a list, as for
            :func:`mashup.load_task`. The sample that checkpoints are scored on is drawn from them.
        output: the folder of the init; it must not exist. Nothing is written where no checkpoint
            helps.
        task: name of the task in libraries; by default from the file's name.
        peft_config: of the fresh LoRA where no checkpoint helps; by default rank 16, alpha 32, on
            all linear layers.
        options: of :func:`mashup.init`.

    Raises:
        UsageError, InputError, OutputError: as :func:`mashup.init`.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    loaded, output = load_base(base), Path(output)
    loaded_task = load_task(rows, name=task)
    result = init(library, loaded, loaded_task, output=output, **options)
    made = output if result.init else None
    model = loaded.model
    if made is None:
        fresh = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear")
        model = get_peft_model(model, peft_config or fresh)
    elif open_checkpoint(made).is_full:
        model = load_base(made, dtype=str(loaded.dtype).removeprefix("torch.")).model
    else:
        model = PeftModel.from_pretrained(model, str(made), is_trainable=True)
    callback = MashupCallback(made, task=loaded_task.name, rows=rows)
    return Start(model, loaded.tokenizer, callback, result)


class MashupCallback(TrainerCallback):
    """Checks the start of a run and records the run, in any ``transformers.Trainer``.

    Before the first step it compares the model with the init, tensor by tensor. With every
    checkpoint, and at the end in ``output_dir``, it writes ``mashup.json`` (base, task, metrics,
    curve, settings, the init) and ``train_prompts.txt`` (digests of the prompts, by which later
    comparisons notice that the run has seen their test rows).

    Args:
        init: folder of the init, or of another checkpoint that the model starts from, or
            ``hub:OWNER/NAME``; None for a run from scratch, of which nothing is checked.
        task: name of the task in libraries.
        rows: the training rows, as :func:`mashup.load_task` takes them. Without them no prompts
            are written.
    """

    def __init__(self, init: str | Path | None = None, *, task: str = "", rows: Any = None) -> None:
        self._init, self._task = folder_of(init) if init else None, task
        self._prompts = read_prompts(self._init) if self._init else frozenset[str]()
        self._rows: int | None = None
        if rows is not None:
            examples = read_examples(rows)
            self._rows, self._prompts = len(examples), self._prompts | taught_prompts(examples)
        self._check: dict[str, Any] | None = None
        self._begin, self._seconds = 0.0, dict[int, float]()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check the start.

        Raises:
            InputError: the model is not what the init holds.
        """
        self._begin = time.perf_counter()
        if self._init and not state.global_step:  # a run that goes on has moved away from it
            self._check = {"tensors": check_model(kwargs["model"], self._init)}

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._seconds[state.global_step] = time.perf_counter() - self._begin

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir)
        self._write(folder / f"checkpoint-{state.global_step}", args, state, kwargs["model"])
        self._write_prompts(folder, state)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._write(Path(args.output_dir), args, state, kwargs["model"])
        self._write_prompts(Path(args.output_dir), state)

    def _write(self, folder: Path, args: Any, state: Any, model: Any) -> None:
        if not state.is_world_process_zero:
            return
        folder.mkdir(parents=True, exist_ok=True)
        source = snapshot_of(self._init) if self._init else None
        metrics: dict[str, float] = {}
        for entry in state.log_history:
            metrics |= {
                k: v for k, v in entry.items() if k.startswith(("eval_", "test_", "train_"))
            }
        curve = [
            {**entry, "seconds": self._seconds.get(entry["step"])} for entry in state.log_history
        ]
        manifest = {
            "version": VERSION,
            "kind": "run",
            "made_by": "MashupCallback",
            "base": _base_of(model),
            "task": {"name": self._task, **({"rows": self._rows} if self._rows else {})},
            "init": str(self._init) if self._init else None,
            **({"init_source": str(source)} if source else {}),
            "start_check": self._check,
            "settings": _settings(args),
            "steps": state.global_step,
            "metrics": metrics,
            "curve": curve,
            "versions": versions(),
        }
        write_text(folder / MANIFEST, to_json(manifest, allow_nan=True))

    def _write_prompts(self, folder: Path, state: Any) -> None:
        if self._prompts and state.is_world_process_zero:
            write_text(folder / PROMPTS, "\n".join(sorted(self._prompts)) + "\n")


def _base_of(model: Any) -> str:
    """Name of the base of a model in a trainer."""
    for config in getattr(model, "peft_config", {}).values():
        return str(config.base_model_name_or_path or "")
    return str(getattr(getattr(model, "config", None), "_name_or_path", "") or "")


def _settings(args: Any) -> dict[str, Any]:
    """What decided the run, by the names that our own runs have."""
    names = {
        "learning_rate": "learning_rate",
        "epochs": "num_train_epochs",
        "max_steps": "max_steps",
        "batch_size": "train_batch_size",
        "gradient_accumulation_steps": "gradient_accumulation_steps",
        "scheduler": "lr_scheduler_type",
        "weight_decay": "weight_decay",
        "max_length": "max_length",
        "optim": "optim",
        "seed": "seed",
    }
    found = {ours: getattr(args, theirs, None) for ours, theirs in names.items()}
    return {name: getattr(v, "value", v) for name, v in found.items() if v is not None}


# ---------------------------------------------------------------- is the model the init?


def check_model(model: Any, folder: str | Path) -> int:
    """Compare the model that a trainer has with a checkpoint on disk, to the bit.

    Args:
        model: with the adapter on it, or a full model. It may have a type of fewer bits: stored
            numbers are rounded to it.
        folder: of the adapter or full checkpoint that it should be.

    Returns:
        How many tensors were compared.

    Raises:
        InputError: there is no adapter, it is frozen, its scale is another, or tensors are
            missing, left over or different; all problems at once.
    """
    opened = open_checkpoint(Path(folder))
    if opened.adapter is None:
        return _check_full(model, opened.path, opened.values)
    if not hasattr(model, "peft_config"):
        found = f"a {type(model).__name__} without an adapter"
        raise InputError(_wrong(opened.path, found, "the init's adapter on it"))
    names = model.active_adapter
    name = names if isinstance(names, str) else names[-1]
    trained = [one for key, one in model.named_parameters() if f".{name}." in f".{key}."]
    stored = _stored(opened.path)
    problems = [_scale_problem(model, name, opened.path, opened.adapter)]
    if not any(one.requires_grad for one in trained):
        found, expected = "an adapter that is frozen", "one that is trained"
        problems.append(_wrong(opened.path, found, expected))
    problems.append(_difference(opened.path, _state(model, name, stored), stored))
    raise_all(problems)
    return len(stored)


def _wrong(where: Path, found: str, expected: str) -> Problem:
    return Problem("wrong start", str(where), found, expected, _FIX)


def _stored(folder: Path) -> dict[str, Tensor]:
    with safe_open(adapter_weights(folder), "pt") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}


def _state(model: Any, name: str, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An adapter's tensors by the names that they have in files."""
    from peft import get_peft_model_state_dict

    whole = any(key.endswith(("embed_tokens.weight", "lm_head.weight")) for key in stored)
    return get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=whole)


def _difference(
    where: Path, state: Mapping[str, Tensor], stored: Mapping[str, Tensor]
) -> Problem | None:
    """The first thing in which a model's tensors are not those of the file."""
    missing, extra = sorted(stored.keys() - state.keys()), sorted(state.keys() - stored.keys())
    if missing or extra:
        found = f"no {missing[0]}" if missing else f"{extra[0]}, which the init does not have"
        expected = f"{len(stored)} tensors, as in the init"
        return _wrong(where, f"{found} ({len(missing)} missing, {len(extra)} more)", expected)
    other = [key for key, one in stored.items() if not _same(state[key], one)]
    if not other:
        return None
    found = f"{len(other)} of {len(stored)} tensors have other numbers, as {other[0]}"
    return _wrong(where, found, "the init's weights")


def _same(have: Tensor, stored: Tensor) -> bool:
    """Whether a tensor is the stored one, rounded to the type of either."""
    if have.shape != stored.shape:
        return False
    have = have.detach().cpu()
    return torch.equal(have, stored.to(have.dtype)) or torch.equal(have.to(stored.dtype), stored)


def _scale_problem(model: nn.Module, name: str, where: Path, adapter: Adapter) -> Problem | None:
    """The problem of modules whose product counts more or less than the file says."""
    for key, module in model.named_modules():
        scales = getattr(module, "scaling", None)
        expected = adapter.modules.get(key.removeprefix(_PREFIX))
        if not isinstance(scales, dict) or name not in scales or expected is None:
            continue
        if abs(scales[name] - expected.scale) > _SCALE * abs(expected.scale):
            found = f"scale {scales[name]:g} at {expected.name}"
            return _wrong(where, found, f"{expected.scale:g}, as its adapter_config.json says")
    return None


def _check_full(model: Any, folder: Path, values: Mapping[str, Stored]) -> int:
    """:func:`check_model` of a full checkpoint; a LoRA that is put on it does no harm."""
    state = {
        key.removeprefix(_PREFIX).replace(".base_layer.", "."): one
        for key, one in model.state_dict().items()
    }
    common = {key: one for key, one in values.items() if key in state}
    if not common:
        found = "no tensor of the same name"
        raise InputError(_wrong(folder, found, f"its {len(values)} tensors"))
    other = []
    for path in sorted({one.path for one in common.values()}):
        with safe_open(path, "pt") as file:
            for key, one in common.items():
                if one.path == path and not _same(state[key], file.get_tensor(key)):
                    other.append(key)
    if other or len(common) < len(values):
        found = f"{len(other)} tensors with other numbers, {len(values) - len(common)} missing"
        raise InputError(_wrong(folder, found, f"its {len(values)} tensors"))
    return len(common)
