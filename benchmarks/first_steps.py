"""What the first training steps do to a start, one setting changed at a time.

    python benchmarks/first_steps.py --model BASE --data DATA --sources LIBRARY --output FILE

The start is the mean of two LoRAs on customer reviews, the target another kind of review with 32
rows: both know the task already, so the start can be hurt. The first 8 of 24 steps of 8 rows are
run; the dev loss is read at steps 0, 2, 4, 6 and 8. The short rows of the task are used, to save
time. Before that, one step at the full rate tells how far A's and B's updates move the delta BA.
Variants that are in the output already are not run again.

The loop is plain PyTorch, since ``mashup train`` has no setting for half of the variants.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import mashup
from mashup._merge.merge import merge
from mashup._train.adapter import attach, detach
from mashup._train.trainer import Collator, answer_loss
from mashup.evaluate.batches import predicting
from mashup.evaluate.evaluate import batches_for, evaluate
from mashup.evaluate.head import head_only_at
from mashup.model import Base
from mashup.settings import TrainSettings
from mashup.task import Example, Tokens, tokenize
from mashup.task.example import from_row

STEPS, RUN, BATCH = 24, 8, 8
POINTS = (0, 2, 4, 6, 8)
PARENTS = ("reviews/kitchen_housewares", "reviews/electronics")


@dataclass(frozen=True)
class Variant:
    """One run of the first steps.

    Attributes:
        start: scratch, or a start; see :func:`make_start`.
        rate: peak learning rate.
        warmup: share of the 24 steps.
        beta2, epsilon: of Adam.
        a_rate: factor on the rate of A.
        moments: estimate Adam's second moments on one pass over the rows before step 1.
    """

    start: str = "mean"
    rate: float = 1e-3
    warmup: float = 0.1
    beta2: float = 0.999
    epsilon: float = 1e-8
    a_rate: float = 1.0
    moments: bool = False


VARIANTS = {
    "scratch": Variant("scratch"),
    "start": Variant(),
    "rate 5e-4": Variant(rate=5e-4),
    "rate 2e-4": Variant(rate=2e-4),
    "rate 1e-4": Variant(rate=1e-4),
    "warm-up 0": Variant(warmup=0.0),
    "warm-up 0.3": Variant(warmup=0.3),
    "A frozen": Variant(a_rate=0.0),
    "A at a 16th of the rate": Variant(a_rate=1 / 16),
    "rank 8": Variant("rank 8"),
    "balanced factors": Variant("balanced"),
    "orthonormal A": Variant("initialised"),
    "alpha = rank": Variant("alpha"),
    "second moments of the rows": Variant(moments=True),
    "beta2 0.95": Variant(beta2=0.95),
    "epsilon 1e-5": Variant(epsilon=1e-5),
    "one parent": Variant("one"),
}


def make_start(kind: str, sources: Path, output: Path) -> Path | None:
    """The folder of a start, merged into ``output``; None for scratch.

    ``mean``: rank 4 (2 + 2), alpha 2 x rank, A as PEFT initialises it, turned (the default of
    ``mashup merge``). ``rank 8``: the same delta with rank 8. ``balanced``, ``initialised``:
    other factors of the same delta. ``alpha``: the same delta with alpha = rank, so twice the B.
    ``one``: the first parent alone.
    """
    if kind == "scratch":
        return None
    parents = [sources / name for name in PARENTS[: 1 if kind == "one" else 2]]
    options: dict[str, Any] = {"rank": "8"} if kind == "rank 8" else {}
    if kind in ("balanced", "initialised"):
        options["factors"] = kind
    merged = merge(parents, output=output / kind.replace(" ", "-"), **options).path
    if kind == "alpha":
        _halve_alpha(merged)
    return merged


def _halve_alpha(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    config = json.loads((folder / "adapter_config.json").read_text())
    config["lora_alpha"] /= 2
    (folder / "adapter_config.json").write_text(json.dumps(config))
    weights = load_file(folder / "adapter_model.safetensors")
    twice = {name: 2 * value if "lora_B" in name else value for name, value in weights.items()}
    save_file(twice, folder / "adapter_model.safetensors")


def run(base: Base, start: Path | None, train: list[Tokens], dev: Any, given: Variant) -> dict:
    """Dev losses at :data:`POINTS`, and the sizes of the factors at the start."""
    model = attach(base.model, TrainSettings(seed=0), start)
    try:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        sizes = {
            part: math.sqrt(sum(float(p.square().mean()) for p in ps) / len(ps))
            for part in ("lora_A", "lora_B")
            if (ps := [p.detach() for name, p in named if part in name])
        }
        groups = [
            {
                "params": [p for n, p in named if part in n],
                "lr": given.rate * factor,
                "peak": factor,
            }
            for part, factor in (("lora_A", given.a_rate), ("lora_B", 1.0))
        ]
        optimizer = torch.optim.AdamW(
            groups, betas=(0.9, given.beta2), eps=given.epsilon, weight_decay=0.0
        )
        collate, order = Collator(base.pad_id), _order(len(train), RUN)
        if given.moments:
            _warm(model, optimizer, train, collate)
        first = _first_step(model, optimizer, [train[i] for i in order[:BATCH]], collate, given)
        losses = {0: evaluate(model, dev).loss}
        for step in range(1, RUN + 1):
            _set_rate(optimizer, given.rate * _schedule(step - 1, given.warmup))
            _step(
                model,
                optimizer,
                [train[i] for i in order[(step - 1) * BATCH : step * BATCH]],
                collate,
            )
            if step in POINTS:
                losses[step] = evaluate(model, dev).loss
        return {"losses": losses, "rms": sizes, "first_step": first}
    finally:
        detach(model)


def _set_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * rate


def _step(model: Any, optimizer: Any, rows: list[Tokens], collate: Collator) -> None:
    optimizer.zero_grad()
    _loss(model, collate(rows)).backward()
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()


def _first_step(
    model: Any, optimizer: Any, rows: list[Tokens], collate: Collator, given: Variant
) -> dict[str, float]:
    """How far one step at the full rate moves BA, by A and by B; the step is then undone.

    Returns:
        Frobenius norms over all modules, without the scale: of BA, of B dA and of dB A.
    """
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    state = copy.deepcopy(optimizer.state_dict())
    _set_rate(optimizer, given.rate)
    _step(model, optimizer, rows, collate)
    squares = {"BA": 0.0, "B dA": 0.0, "dB A": 0.0}
    named = dict(model.named_parameters())
    for name, A in before.items():
        if "lora_A" in name:
            other = name.replace("lora_A", "lora_B")
            B, dA, dB = before[other], named[name].data - A, named[other].data - before[other]
            for key, left, right in (("BA", B, A), ("B dA", B, dA), ("dB A", dB, A)):
                squares[key] += float(((left.T @ left) * (right @ right.T)).sum())
            named[name].data.copy_(A)
            named[other].data.copy_(before[other])
    optimizer.load_state_dict(state)
    return {key: math.sqrt(max(0.0, value)) for key, value in squares.items()}


def _order(rows: int, steps: int) -> list[int]:
    """Rows by number, shuffled anew for each epoch; enough for ``steps``."""
    order: list[int] = []
    for epoch in range(math.ceil(steps * BATCH / rows)):
        one = list(range(rows))
        random.Random(epoch).shuffle(one)
        order += one
    return order


def _schedule(step: int, warmup: float) -> float:
    """transformers' cosine schedule: the first of the steps has a rate of 0."""
    first = math.ceil(warmup * STEPS)
    if step < first:
        return step / first
    return 0.5 * (1 + math.cos(math.pi * (step - first) / (STEPS - first)))


def _loss(model: Any, inputs: dict) -> torch.Tensor:
    with head_only_at(model, predicting(inputs["labels"] != -100)):
        labels = inputs.pop("labels")
        return answer_loss(model(**inputs), labels, None)


def _warm(model: Any, optimizer: Any, rows: list[Tokens], collate: Collator) -> None:
    """Second moments as if Adam had seen every batch of the rows once, without a step."""
    squares: dict[Any, torch.Tensor] = {}
    batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    for batch in batches:
        optimizer.zero_grad()
        _loss(model, collate(batch)).backward()
        for group in optimizer.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
            for p in group["params"]:
                squares[p] = squares.get(p, 0) + p.grad.square() / len(batches)
    for p, square in squares.items():
        step = 1000  # so that no correction of the bias makes it larger
        optimizer.state[p] = {
            "step": torch.tensor(float(step)),
            "exp_avg": torch.zeros_like(p),
            "exp_avg_sq": square * (1 - 0.999**step),
        }


def rows_of(path: Path, count: int, longest: int) -> list[Example]:
    """The first ``count`` short rows."""
    rows = [json.loads(line) for line in path.open()]
    return [from_row(row) for row in rows if len(row["prompt"]) < longest][:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    options = parser.parse_args()
    done = json.loads(options.output.read_text()) if options.output.exists() else {}
    base = mashup.load_base(options.model)
    folder = options.data / "families/reviews/dvd"
    train, dev = (
        tokenize(base.tokenizer, rows_of(folder / name, count, 300), max_length=256)
        for name, count in (("train.jsonl", 32), ("validation.jsonl", 32))
    )
    batches = batches_for(base, dev)
    with tempfile.TemporaryDirectory() as scratch:
        for name in [one for one in options.only if one not in done]:
            given = VARIANTS[name]
            start = make_start(given.start, options.sources, Path(scratch) / name.replace(" ", "-"))
            began = time.process_time()
            found = run(base, start, list(train), batches, given)
            done[name] = {**asdict(given), **found, "cpu_seconds": time.process_time() - began}
            options.output.write_text(json.dumps(done, indent=1) + "\n")
            print(name, {k: round(v, 3) for k, v in found["losses"].items()}, flush=True)


if __name__ == "__main__":
    main()
