"""Slopes of the loss along every donor of a library, at several points, beside true losses.

    python benchmarks/choosing/gradient.py collect DATA LIBRARY STORE POINT[,POINT...] [TARGET...]
    python benchmarks/choosing/gradient.py truth DATA LIBRARY STORE [TARGET...]

``DATA`` holds ``<task>/{train,validation}.jsonl``, ``LIBRARY`` what ``library.py`` trained. What
is in ``STORE`` already is kept, so a killed call goes on where it was. Slopes are stored for each
example and donor: what a smaller sample finds, and every formula of ``gradient_report.py``,
follows from them without a model. The donors of a target's own task are left out.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import mashup
from mashup import Base, load_base, load_task
from mashup._score.gradient import (
    BASE,
    Point,
    Slopes,
    mean_of,
    norm,
    scaled,
    slopes_at,
    weighted_sum,
)  # fmt: skip
from mashup.delta import read_delta
from mashup.demo.base import demo_base
from mashup.evaluate.batches import Batch
from mashup.evaluate.evaluate import batches_for, evaluate, sample_tokens
from mashup.model import applied

SAMPLES = 32
FEW = 8  # donors whose mean is a point, and examples of a first look


@dataclass(frozen=True)
class Target:
    """A task, its sample, and the donors that know other tasks."""

    name: str
    batches: tuple[Batch, ...]
    donors: dict[str, Path]
    store: Path

    def file(self, kind: str) -> Path:
        return self.store / f"{self.name}-{kind}.npz"

    def folders(self, names: list[str]) -> list[Path]:
        return [self.donors[name] for name in names]


def load_target(base: Base, data: Path, library: Path, store: Path, name: str) -> Target:
    folder = data / name
    task = load_task(
        folder / "train.jsonl", test=folder / "validation.jsonl", name=name,
        train_rows=384, dev_rows=64, test_rows=200,
    )  # fmt: skip
    tokens = sample_tokens(base, task, SAMPLES, 42, 1024)
    found = mashup.scan(library, all_checkpoints=True).checkpoints
    paths = {str(c.path.relative_to(library)): c.path for c in found if c.usable}
    donors = {n: p for n, p in sorted(paths.items()) if not n.startswith(f"{name}-")}
    return Target(name, batches_for(base, tokens), donors, store)


def truth(base: Base, target: Target) -> dict[str, np.ndarray]:
    """``(n,)`` summed losses of each donor, measured where they are not stored; and ``tokens``."""
    file = target.file("truth")
    known = dict(np.load(file)) if file.exists() else {}
    for name in [""] + [n for n in target.donors if n not in known]:
        if name in known:
            continue
        delta = read_delta(target.donors[name]) if name else mashup.delta.Delta({})
        with applied(base.model, delta):
            found = evaluate(base.model, target.batches)
        known |= {name: found.losses, "tokens": found.tokens}
        np.savez(file, **known)
    return known


def slopes(base: Base, target: Target, point: str) -> dict[str, np.ndarray]:
    """Slopes ``each (n, N)``, ``losses``, ``tokens``, ``names``, ``norms`` at a named point."""
    file = target.file(point.replace("*", "x"))
    if file.exists():
        return dict(np.load(file))
    names = list(target.donors)
    where = point_of(base, target, point)
    deltas = [read_delta(path) for path in target.donors.values()]
    start = time.perf_counter()
    found: Slopes = slopes_at(base.model, target.batches, deltas, point=where)
    kept = {
        "each": found.each, "losses": found.losses.sums, "tokens": found.losses.tokens,
        "names": np.array(names), "norms": np.array([norm(delta) for delta in deltas]),
        "seconds": np.array(time.perf_counter() - start),
    }  # fmt: skip
    np.savez(file, **kept)
    return kept


def point_of(base: Base, target: Target, point: str) -> Point:
    """``base``; ``mean*F``: a fraction of the mean of all; ``even*F``: of the mean of all that are
    first brought to the median norm; ``looked``: the mean of the best by a first look at a few
    true losses; ``again``: of the best by the slopes at ``even``.
    """
    if point == "base":
        return BASE
    if point.startswith("mean"):
        return scaled(mean_of(list(target.donors.values())), float(point.partition("*")[2] or 1))
    if point.startswith("even"):
        paths = list(target.donors.values())
        norms = np.array([norm(read_delta(path)) for path in paths])
        weights = float(point.partition("*")[2] or 1) * np.median(norms) / norms / len(norms)
        return weighted_sum(paths, list(weights))
    if point == "looked":
        known = truth(base, target)
        values = np.array([known[name][:FEW].sum() for name in target.donors])
    else:
        first = slopes(base, target, "even")
        values = first["each"].sum(0)
    best = np.argsort(values)[:FEW]
    names = list(target.donors)
    return weighted_sum(target.folders([names[i] for i in best]), [1 / FEW] * FEW)


def main(what: str, data: Path, library: Path, store: Path, *rest: str) -> None:
    points, targets = (rest[0].split(","), rest[1:]) if what == "collect" else ([], rest)
    store.mkdir(parents=True, exist_ok=True)
    base = load_base(demo_base())
    names = list(targets) or sorted(path.name for path in data.iterdir() if path.is_dir())
    for point in points or [""]:
        for name in names:
            start = time.perf_counter()
            target = load_target(base, data, library, store, name)
            slopes(base, target, point) if point else truth(base, target)
            print(point or what, name, f"{time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:5]), *sys.argv[5:])
