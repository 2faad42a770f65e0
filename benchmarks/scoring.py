"""What an adapter costs to score, over a bare forward pass of the same batches."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mashup import TrainSettings, load_base
from mashup._score.packing import evaluate_packed
from mashup._train.adapter import attach, detach
from mashup.delta import read_delta
from mashup.demo.base import demo_base
from mashup.evaluate.batches import make_batches
from mashup.evaluate.evaluate import evaluate
from mashup.evaluate.prefix import share_prefix
from mashup.model import applied
from mashup.task import Tokens
from timing import interleaved, medians, ratio

_EXAMPLES, _LENGTH, _PREFIX = 64, 78, 37


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


def swap() -> dict[str, Any]:
    """Reading an adapter, putting it on and taking it off, over scoring 64 examples with it."""
    base = load_base(demo_base())
    batches = make_batches(_tokens(base), base.pad_id, base.model.config.vocab_size)
    with tempfile.TemporaryDirectory() as folder:
        adapter = _adapter(base, Path(folder))

        def swapped() -> None:
            with applied(base.model, read_delta(adapter)):
                pass

        with applied(base.model, read_delta(adapter)):
            scored = interleaved({"64 examples": lambda: evaluate(base.model, batches)}, rounds=5)
        seconds = interleaved({"read, on and off": swapped}, rounds=5) | scored
    return {
        "seconds": medians(seconds),
        "read, on and off / 64 examples": ratio(seconds, "read, on and off", "64 examples"),
    }


def prefix() -> dict[str, Any]:
    """Examples of 78 tokens, 37 of which all begin with: run once, or with every example."""
    base, result = load_base(demo_base()), {}
    for examples in (8, 64):
        plain = make_batches(_tokens(base)[:examples], base.pad_id, base.model.config.vocab_size)
        once = share_prefix(base.model, plain)
        variants = {"once": once, "every time": plain}
        calls = {name: partial(evaluate, base.model, batches) for name, batches in variants.items()}
        seconds = interleaved(calls, rounds=5)
        result[f"once / every time, {examples} examples"] = ratio(seconds, "once", "every time")
    return result


def packing() -> dict[str, Any]:
    """Several adapters in one pass over 8 examples, over one after the other."""
    base = load_base(demo_base())
    plain = make_batches(_tokens(base)[:8], base.pad_id, base.model.config.vocab_size)
    batches = share_prefix(base.model, plain)
    with tempfile.TemporaryDirectory() as folder:
        delta = read_delta(_adapter(base, Path(folder)))

    def run(size: int) -> None:
        for _ in range(8 // size):
            evaluate_packed(base.model, [delta] * size, batches)

    seconds = interleaved({str(size): partial(run, size) for size in (1, 2, 4, 8)}, rounds=5)
    return {f"{n} in one pass / one after the other": ratio(seconds, n, "1") for n in "248"}


def _tokens(base: Any) -> list[Tokens]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(
        100, base.model.config.vocab_size, (_EXAMPLES, _LENGTH), generator=generator
    )
    ids[:, :_PREFIX] = ids[0, :_PREFIX]
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
