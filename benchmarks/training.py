"""A training step here, beside TRL's SFTTrainer and beside variants of ours."""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from mashup import TrainSettings, load_base
from mashup._train.adapter import attach, detach
from mashup._train.trainer import AnswerTrainer, Collator, arguments
from mashup.demo.base import demo_base
from mashup.model.base import quiet_transformers
from mashup.task import Example, Tokens, tokenize
from timing import medians, ratio

_STEPS, _BATCH, _LENGTH = 6, 16, 78


class _Clock(TrainerCallback):
    """Seconds of each step after the first."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._start = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step > 1:
            self.seconds.append(time.perf_counter() - self._start)


def train_step() -> dict[str, Any]:
    """Seconds a step of 16 sequences of 78 tokens, LoRA of rank 8 on all linear layers."""
    base = load_base(demo_base())
    examples, tokens = _data(base)
    seconds = {
        "ours": _ours(base, tokens, _as_it_is),
        "bfloat16 adapters": _ours(base, tokens, _low_precision),
        "PEFT's cast of the activations": _ours(base, tokens, _cast_activations),
        "TRL SFTTrainer": _trl(base, examples),
    }
    names = [name for name in seconds if name != "ours"]
    return {
        "sequences": _BATCH,
        "tokens each": _LENGTH,
        "dtype": str(base.dtype),
        "seconds": medians(seconds),
    } | {f"ours / {name}": ratio(seconds, "ours", name) for name in names}


def _data(base: Any) -> tuple[list[Example], list[Tokens]]:
    """Texts of about the wanted length, and exactly that many tokens for our own trainer."""
    words = "the quick brown fox jumps over a lazy dog and runs on " * 3
    examples = [Example.of(f"{n} {words}"[:150], "positive") for n in range(_BATCH * _STEPS)]
    made = tokenize(base.tokenizer, examples, max_length=999)
    return examples, [_exactly(one) for one in made]


def _exactly(tokens: Tokens) -> Tokens:
    extra = _LENGTH - len(tokens.ids)
    ids, answer = tokens.ids, tokens.answer
    if extra < 0:
        return Tokens(ids[-_LENGTH:], answer[-_LENGTH:])
    return Tokens(ids[:1] * extra + ids, (False,) * extra + answer)


def _as_it_is(model: Any) -> None:
    """Float32 weights, cast when they are used."""


def _low_precision(model: Any) -> None:
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(torch.bfloat16)


def _cast_activations(model: Any) -> None:
    from peft.tuners.lora import LoraLayer

    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.cast_input_dtype_enabled = True
            for part in (*layer.lora_A.values(), *layer.lora_B.values()):
                part.__class__ = torch.nn.Linear


def _ours(base: Any, tokens: list[Tokens], change: Any) -> list[float]:
    clock, settings = _Clock(), TrainSettings(max_steps=_STEPS)
    model = attach(base.model, settings, None)
    change(model)
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        args = arguments(settings, Path(folder), _STEPS, base.device, "none")
        trainer = AnswerTrainer(
            model=model, args=args, train_dataset=tokens,
            data_collator=Collator(base.pad_id), callbacks=[clock],
        )  # fmt: skip
        trainer.train()
    detach(model)
    return clock.seconds


def _trl(base: Any, examples: list[Example]) -> list[float]:
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    rows = [{"prompt": [_turn(e, 0)], "completion": [_turn(e, 1)]} for e in examples]
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), quiet_transformers():
        warnings.simplefilter("ignore")
        config = SFTConfig(
            output_dir=folder, max_steps=_STEPS, per_device_train_batch_size=_BATCH,
            gradient_checkpointing=False, bf16=False, use_cpu=base.device.type == "cpu",
            report_to="none", disable_tqdm=True, save_strategy="no", max_length=_LENGTH,
        )  # fmt: skip
        trainer = SFTTrainer(
            model=base.model, args=config, train_dataset=Dataset.from_list(rows),
            processing_class=base.tokenizer, callbacks=[clock],
            peft_config=LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"),
        )  # fmt: skip
        trainer.train()
        trainer.model.unload()
    return clock.seconds


def _turn(example: Example, place: int) -> dict[str, str]:
    return example.messages[place]._asdict()
