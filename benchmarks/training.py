"""A training step and an evaluation: ours, bare PEFT, transformers' Trainer and TRL, over a floor.

    .venv/bin/python benchmarks/training.py [--model MODEL] [--rounds N] [--only "ours,bare PEFT"]

The floor of a LoRA step is 4 operations for each weight of the linear layers and each token
(forward, and gradient of the activations). That of an evaluation is 2. The rate is that of the
base's largest linear layer on the tokens of a step, on the same device. Tokens are those of the
rows, without padding. Variants take turns. On CPU, CPU seconds are counted, so that other processes
disturb less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from mashup import TrainSettings, load_base
from mashup._train.adapter import attach, detach
from mashup._train.trainer import AnswerTrainer, Collator, arguments
from mashup.demo.base import demo_base
from mashup.evaluate.batches import make_batches
from mashup.evaluate.evaluate import batches_for, evaluate
from mashup.evaluate.prefix import common_prefix
from mashup.model import Base
from mashup.model.base import quiet_transformers
from mashup.task import Example, Tokens, tokenize

_STEPS, _BATCH = 3, 16  # the first step of a round is not counted
_WORDS = "the quick brown fox jumps over a lazy dog and runs on through the deep wood to its den"
_LORA = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}


def train_step(model: str | Path | None = None, rounds: int = 2, only: str = "") -> dict[str, Any]:
    """Steps of 16 rows of 60 to 130 tokens, LoRA of rank 8 on all linear layers; evaluations.

    Args:
        model: the base; that of the demo.
        rounds: how often every variant has its turn.
        only: names of variants, with commas between them; all.
    """
    base = load_base(model or demo_base())
    examples = _examples()
    tokens = tokenize(base.tokenizer, examples, max_length=512)
    of_a_step = sum(len(one.ids) for one in tokens) / _STEPS
    rate = _rate(base, round(of_a_step))
    variants: dict[str, Callable[[], list[float]]] = {
        "ours": partial(_ours, base, tokens),
        "ours, one padded pass": partial(_ours, base, tokens, in_passes=False),
        "bare PEFT": partial(_bare, base, tokens),
        "Trainer": partial(_plain_trainer, base, tokens),
        "TRL SFTTrainer": partial(_trl, base, examples),
    }
    steps: dict[str, list[float]] = {name: [] for name in (only.split(",") if only else variants)}
    for _ in range(rounds):
        for name, seconds in steps.items():
            seconds += variants[name]()
    floor = 4 * _weights(base) * of_a_step / rate
    return {
        "base": Path(base.name).name,
        "rows a step": _BATCH,
        "tokens a step": round(of_a_step),
        "operations a second": rate,
        "floor of a step, seconds": floor,
        **{f"step / floor, {name}": _over(seconds, floor) for name, seconds in steps.items()},
        **_evaluation(base, tokens, rate, rounds),
    }


def _examples() -> list[Example]:
    """Rows of different lengths that begin alike, as those of a task do."""
    words = _WORDS.split()
    rows = []
    for number in range(_STEPS * _BATCH):
        text = " ".join(words[(number + n) % len(words)] for n in range(15 + 7 * number % 64))
        rows.append(Example.of(f"Is this about a dog or a fox?\n\n{number} {text}", "fox"))
    return rows


def _weights(base: Base) -> int:
    """Weights of the linear layers without the head, which runs at few positions."""
    head = base.model.get_output_embeddings()
    linear = (m for m in base.model.modules() if isinstance(m, torch.nn.Linear) and m is not head)
    return sum(module.weight.numel() for module in linear)


def _rate(base: Base, tokens: int) -> float:
    """Operations a second of the base's largest linear layer on so many tokens; best of five."""
    head = base.model.get_output_embeddings()
    linear = [m for m in base.model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    weight = max((module.weight for module in linear), key=torch.Tensor.numel).detach()
    inputs = torch.randn(tokens, weight.shape[1], dtype=base.dtype, device=base.device)
    seconds = []
    for _ in range(5):
        start = _now(base.device)
        torch.nn.functional.linear(inputs, weight)
        seconds.append(_now(base.device) - start)
    return 2 * tokens * weight.numel() / min(seconds)


def _now(device: torch.device) -> float:
    """CPU seconds on CPU; elsewhere seconds, once the device is done."""
    if device.type == "cpu":
        return time.process_time()
    getattr(torch, device.type).synchronize()
    return time.perf_counter()


def _over(seconds: list[float], floor: float) -> dict[str, float]:
    ratios = [one / floor for one in seconds]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


class _Clock(TrainerCallback):
    """Seconds of each step after the first."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: list[float] = []
        self._device, self._start = device, 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._start = _now(self._device)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step > 1:
            self.seconds.append(_now(self._device) - self._start)


def _ours(base: Base, tokens: tuple[Tokens, ...], in_passes: bool = True) -> list[float]:
    clock, settings = _Clock(base.device), TrainSettings(max_steps=_STEPS)
    model = attach(base.model, settings, None)
    prefix = common_prefix(make_batches(tokens, base.pad_id, base.model.config.vocab_size))
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        trainer = AnswerTrainer(
            prefix=prefix, model=model, train_dataset=list(tokens), callbacks=[clock],
            args=arguments(settings, Path(folder), _STEPS, base.device, "none"),
            data_collator=Collator(base.pad_id),
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer._in_passes &= in_passes
        trainer.train()
    detach(model)
    return clock.seconds


def _bare(base: Base, tokens: tuple[Tokens, ...]) -> list[float]:
    """PEFT's model in a loop of its own: what its documentation shows."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(base.model, LoraConfig(task_type="CAUSAL_LM", **_LORA)).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    collate, seconds = Collator(base.pad_id), []
    for step in range(_STEPS):
        batch = collate(tokens[step * _BATCH : (step + 1) * _BATCH])
        start = _now(base.device)
        model(**{name: value.to(base.device) for name, value in batch.items()}).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(_now(base.device) - start)
    model.unload()
    return seconds[1:]


def _plain_trainer(base: Base, tokens: tuple[Tokens, ...]) -> list[float]:
    """transformers' Trainer on PEFT's model."""
    from peft import LoraConfig, get_peft_model

    clock = _Clock(base.device)
    model = get_peft_model(base.model, LoraConfig(task_type="CAUSAL_LM", **_LORA))
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        args = TrainingArguments(**_arguments(folder, base), remove_unused_columns=False)
        Trainer(
            model=model, args=args, train_dataset=list(tokens), callbacks=[clock],
            data_collator=Collator(base.pad_id),
        ).train()  # fmt: skip
    model.unload()
    return clock.seconds


def _arguments(folder: str, base: Base) -> dict[str, Any]:
    return {
        "output_dir": folder, "max_steps": _STEPS, "per_device_train_batch_size": _BATCH,
        "use_cpu": base.device.type == "cpu", "report_to": "none", "disable_tqdm": True,
        "save_strategy": "no", "logging_strategy": "no",
    }  # fmt: skip


def _trl(base: Base, examples: list[Example]) -> list[float]:
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    rows = [{"prompt": [_turn(e, 0)], "completion": [_turn(e, 1)]} for e in examples]
    clock = _Clock(base.device)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), quiet_transformers():
        warnings.simplefilter("ignore")
        config = SFTConfig(
            **_arguments(folder, base), gradient_checkpointing=False, bf16=False, max_length=512
        )
        trainer = SFTTrainer(
            model=base.model, args=config, train_dataset=Dataset.from_list(rows),
            processing_class=base.tokenizer, callbacks=[clock], peft_config=LoraConfig(**_LORA),
        )  # fmt: skip
        trainer.train()
        trainer.model.unload()
    return clock.seconds


def _turn(example: Example, place: int) -> dict[str, str]:
    return example.messages[place]._asdict()


def _evaluation(base: Base, tokens: tuple[Tokens, ...], rate: float, rounds: int) -> dict[str, Any]:
    """Evaluating rows, and one padded forward pass after the other with all logits."""
    batches, collate = batches_for(base, tokens), Collator(base.pad_id)

    def padded() -> None:
        with torch.no_grad():
            for start in range(0, len(tokens), _BATCH):
                batch = collate(tokens[start : start + _BATCH])
                base.model(**{name: value.to(base.device) for name, value in batch.items()})

    variants = {"ours": lambda: evaluate(base.model, batches), "padded, all logits": padded}
    floor = 2 * _weights(base) * sum(len(one.ids) for one in tokens) / rate
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            start = _now(base.device)
            run()
            seconds[name].append(_now(base.device) - start)
    return {f"evaluation / floor, {name}": _over(all_, floor) for name, all_ in seconds.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="", help="variants, as they are called in the result")
    given = parser.parse_args()
    print(json.dumps(train_step(given.model, given.rounds, given.only), indent=2))
