"""What choosing costs as the library grows: scan, reading and race, beside all on all.

    python benchmarks/choosing/scale.py make DATA LIBRARY FOLDER     # once: 1,000 adapters, 5 GB
    python benchmarks/choosing/scale.py run  DATA FOLDER [SIZE ...]  # scale.json, scale.md

The adapters are the real ones of ``library.py`` and, marked by their names, three kinds that are
made from them: ``perturbed`` (noise of a tenth of the norm of each factor), ``reranked`` (cut to
half of their rank) and ``mixed`` (two real ones, weighted at random; mostly not near-identical to
any other, so they have to race).
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real import SAMPLES, SEED, target
from safetensors.torch import load_file, save_file

import mashup
from mashup import load_base
from mashup._merge.algebra import factorise, generator_for, weighted_sum
from mashup._score.candidates import find_candidates
from mashup._score.scorer import Scorer
from mashup.delta import Factors, read_delta
from mashup.demo.base import demo_base
from mashup.evaluate.evaluate import sample_tokens
from mashup.library import Index, Library, scan
from mashup.model import Base
from mashup.progress import SILENT
from mashup.task import Task

HERE = Path(__file__).parent
TARGET = "tweet_emotion"
SIZES = (125, 250, 500, 1000)
SHARES = {"perturbed": 0.35, "reranked": 0.2, "mixed": 0.45}  # of what is not real
_NOISE = 0.1
_FAR = 10_000
_FULL = 4  # adapters that are measured on all examples, for the price of an exhaustive choice


def make(data: Path, library: Path, folder: Path) -> None:
    """The largest library, and the smaller ones as its beginnings (hard links)."""
    donors = [c.path for c in scan(library, all_checkpoints=True).checkpoints]
    donors = [path for path in donors if TARGET not in str(path)]
    whole = folder / str(SIZES[-1])
    for number, (kind, sources) in enumerate(plan(len(donors))):
        output = whole / f"{number:04}-{kind}"
        if not (output / "adapter_config.json").exists():
            write([donors[source] for source in sources], kind, output, number)
    names = sorted(path.name for path in whole.iterdir() if path.name[0] != ".")
    for size in SIZES[:-1]:
        for name in names[:size]:
            shutil.copytree(whole / name, folder / str(size) / name, copy_function=os.link)


def plan(donors: int) -> Iterator[tuple[str, list[int]]]:
    """Kinds in a shuffled order, so that every beginning is mixed alike."""
    generator = random.Random(0)
    made = [("real", [n]) for n in range(donors)]
    left = SIZES[-1] - donors
    for kind, share in SHARES.items():
        parents = 2 if kind == "mixed" else 1
        made += [
            (kind, generator.sample(range(donors), parents)) for _ in range(round(share * left))
        ]
    generator.shuffle(made)
    yield from made


def write(sources: list[Path], kind: str, output: Path, seed: int) -> None:
    """One adapter in bfloat16, with the settings of its first source."""
    config = json.loads((sources[0] / "adapter_config.json").read_text())
    generator = generator_for(seed, kind)
    tensors = load_file(sources[0] / "adapter_model.safetensors")
    if kind == "perturbed":
        tensors = {name: _noisy(tensor, generator) for name, tensor in tensors.items()}
    elif kind in ("reranked", "mixed"):
        deltas = [read_delta(source).modules for source in sources]
        share = 0.3 + 0.4 * float(torch.rand(1, generator=generator))
        weights = [1.0] if kind == "reranked" else [share, 1 - share]
        rank = config["r"] // 2 if kind == "reranked" else config["r"]
        config |= {"r": rank, "lora_alpha": rank}
        tensors = {}
        for name in deltas[0]:
            pairs = [(w, delta[name]) for w, delta in zip(weights, deltas, strict=True)]
            tensors |= _named(name, _cut(pairs, rank, generator))
    output.mkdir(parents=True)
    save_file(
        {n: t.bfloat16().contiguous() for n, t in tensors.items()},
        output / "adapter_model.safetensors",
    )
    (output / "adapter_config.json").write_text(json.dumps(config))


def _noisy(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(tensor.shape, generator=generator)
    return tensor.float() + _NOISE * tensor.float().norm() / noise.norm() * noise


def _cut(pairs: list[tuple[float, Factors]], rank: int, generator: torch.Generator) -> Factors:
    return factorise(weighted_sum(pairs), rank, 1.0, "balanced", generator)


def _named(name: str, factors: Factors) -> dict[str, torch.Tensor]:
    key = f"base_model.model.{name}"
    return {f"{key}.lora_A.weight": factors.A, f"{key}.lora_B.weight": factors.B}


def run(data: Path, folder: Path, *sizes: str) -> None:
    base, task = load_base(demo_base()), target(data, TARGET)
    path = HERE / "scale.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for size in map(int, sizes or SIZES):
        if str(size) not in results:
            results[str(size)] = measured(base, task, folder / str(size))
            results = dict(sorted(results.items(), key=lambda pair: int(pair[0])))
            path.write_text(json.dumps(results, indent=1) + "\n")
            (HERE / "scale.md").write_text(page(results))
            print(size, results[str(size)], flush=True)


def page(results: dict[str, Any]) -> str:
    """The table, the slope between the sizes, and what it says of a far larger library."""
    columns = ("scan", "reading and the rest", "forwards", "share of the forwards", "seconds",
               "exhaustive", "share of the seconds", "added memory, MiB")  # fmt: skip
    lines = [
        "# What choosing costs as the library grows",
        "",
        (HERE / "scale_note.md").read_text(),
        f"| checkpoints | {' | '.join(columns)} |",
        "|---:" * (1 + len(columns)) + "|",
    ]
    for size, one in results.items():
        shown = (_shown(name, one[name]) for name in columns)
        lines.append(f"| {size} | {' | '.join(shown)} |")
    return "\n".join([*lines, "", *slopes(results), ""])


def _shown(name: str, value: float) -> str:
    return f"{value:.1%}" if name.startswith("share") else f"{value:,.1f}"


def slopes(results: dict[str, Any]) -> list[str]:
    """Straight lines through the sizes, and where they lead."""
    sizes = np.array([one["checkpoints"] for one in results.values()], float)
    if len(sizes) < 2:
        return []
    lines, ends = [], {}
    for name in ("seconds", "exhaustive"):
        slope, start = np.polyfit(sizes, [one[name] for one in results.values()], 1)
        ends[name] = start + slope * _FAR
        lines.append(f"- {name}: {start:,.1f} + {slope:.3f} a checkpoint, {ends[name]:,.0f} at "
                     f"{_FAR:,}")  # fmt: skip
    share = ends["seconds"] / ends["exhaustive"]
    told = f"At {_FAR:,}, were it a straight line: {share:.1%} of exhaustive's seconds."
    return ["Least squares:", "", *lines, "", told]


def measured(base: Base, task: Task, root: Path) -> dict[str, Any]:
    """Seconds of the parts, nothing remembered; the price of all on all from a few."""
    shutil.rmtree(root / ".mashup", ignore_errors=True)
    before = _resident()
    start = time.perf_counter()
    library = scan(root)
    scanned = time.perf_counter() - start
    scores = mashup.score(library, base, task, samples=SAMPLES, seed=SEED, strategy="auto")
    seconds = time.perf_counter() - start
    each = full_seconds(base, task, library)
    models = 1 + len(library.checkpoints)
    reading = scores.seconds - scores.cost.seconds
    exhaustive = scanned + reading + models * each
    return {
        "checkpoints": len(library.checkpoints),
        "strategy": scores.strategy,
        "reason": scores.reason,
        "scan": scanned,
        "reading and the rest": reading,
        "forwards": scores.cost.forwards,
        "share of the forwards": scores.cost.forwards / scores.cost.exhaustive,
        "seconds": seconds,
        "exhaustive": exhaustive,
        "share of the seconds": seconds / exhaustive,
        "added memory, MiB": (_resident() - before) / 2**20,
        "chosen": [score.name for score in mashup.select(scores).chosen],
    }


def full_seconds(base: Base, task: Task, library: Library) -> float:
    """Of one adapter on the whole sample, nothing remembered."""
    tokens = sample_tokens(base, task, SAMPLES, SEED, 1024)
    some = library.checkpoints[:: max(1, len(library.checkpoints) // _FULL)][:_FULL]
    fresh = library.root.parent / ".fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    with Index(fresh) as index:
        used = find_candidates(
            base, some, index, accept_base=False, strict=True, progress=SILENT
        ).used
        scorer = Scorer(base, tokens, index)
        start = time.perf_counter()
        scorer.scores(used, SAMPLES)
        return (time.perf_counter() - start) / len(used)


def _resident() -> int:
    """The most memory that this process ever held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    step, data, *rest = sys.argv[1:]
    if step == "make":
        make(Path(data), *map(Path, rest))
    else:
        run(Path(data), Path(rest[0]), *rest[1:])
