"""What an adapter costs to score, over a bare forward pass of the same batches."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from mashup import TrainSettings, load_base
from mashup.delta import read_delta
from mashup.demo.base import demo_base
from mashup.model import applied
from mashup.score import evaluate, make_batches
from mashup.task import Tokens
from mashup.train.adapter import attach, detach
from timing import interleaved, medians, ratio

_EXAMPLES, _LENGTH = 64, 78


def score() -> dict[str, Any]:
    """Scoring an adapter of rank 8 on all linear layers, over bare forward passes.

    Two of them: with the head at answer positions only, as scoring has it (the stricter one),
    and with the head at all positions, as a plain ``model(**batch)`` computes.
    """
    base = load_base(demo_base())
    batches = make_batches(_tokens(base), base.pad_id, base.model.config.vocab_size)
    with tempfile.TemporaryDirectory() as folder:
        adapter = _adapter(base, Path(folder))

        def scored() -> None:
            with applied(base.model, read_delta(adapter)):
                evaluate(base.model, batches)

        def whole() -> None:
            with torch.no_grad():
                for batch in batches:
                    base.model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)

        seconds = interleaved(
            {"scored": scored, "bare": lambda: evaluate(base.model, batches), "whole head": whole},
            rounds=7,
        )
    return {
        "examples": _EXAMPLES,
        "tokens each": _LENGTH,
        "dtype": str(base.dtype),
        "seconds": medians(seconds),
        "scored / bare": ratio(seconds, "scored", "bare"),
        "scored / bare with the whole head": ratio(seconds, "scored", "whole head"),
    }


def _tokens(base: Any) -> list[Tokens]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(
        100, base.model.config.vocab_size, (_EXAMPLES, _LENGTH), generator=generator
    )
    answer = (False,) * (_LENGTH - 2) + (True,) * 2
    return [Tokens(tuple(row), answer) for row in ids.tolist()]


def _adapter(base: Any, folder: Path) -> Path:
    model = attach(base.model, TrainSettings(), None)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)
    model.save_pretrained(folder)
    detach(model)
    return folder
