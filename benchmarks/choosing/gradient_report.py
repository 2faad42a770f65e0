"""What slopes say about true losses: every formula at every point, also those that failed.

    python benchmarks/choosing/gradient_report.py STORE OUTPUT

``STORE`` is what ``gradient.py`` made. Writes ``OUTPUT.json`` and prints its table.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from mashup._score.gradient.odds import Odds

Array = NDArray[np.float64]

POINTS = ("base", "meanx0.25", "meanx0.5", "mean", "evenx0.5", "even", "looked", "again")
DRAWS, DRAWN = 200, 24  # subsets of the sample, drawn without replacement
KNOWN = 16  # true losses that a ridge regression learns from
FEW = 8


def spearman(a: Array, b: Array) -> float:
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def place_of_best(values: Array, true: Array) -> int:
    """The place, from 1, of the worse of the true best two by ``values``."""
    order = np.argsort(np.argsort(values))
    return int(order[np.argsort(true)[:2]].max()) + 1


def formulas(kept: dict[str, Array], way: Array, rows: Array) -> dict[str, Array]:
    """Predictions ``(N,)``, lower is better, from the examples ``rows``.

    ``way (N,)``: coefficients of the point in donors; donors are differences to it.
    """
    each, losses, tokens = kept["each"][rows], kept["losses"][rows], kept["tokens"][rows]
    total, norms = int(tokens.sum()), kept["norms"]
    apart = each - (each @ way)[:, None]
    g = each.sum(0) / total
    fisher = (each**2).sum(0) / total
    odds = Odds.of(losses, apart, total)
    steps = np.eye(len(way))
    return {
        "g": g,
        "g / norm": g / norms,
        "-g²/2H, sign of g": np.sign(g) * g**2 / (2 * fisher),
        "g + Fisher/2": apart.sum(0) / total + (apart**2).sum(0) / total / 2,
        "log-odds, whole step": odds.loss(steps),
        "log-odds, half step": odds.loss(steps / 2),
    }


def way_to(point: str, kept: dict[str, Array], sources: dict[str, Any], count: int) -> Array:
    """Coefficients of a point in donors."""
    if point == "base":
        return np.zeros(count)
    if point.startswith("mean"):
        return np.full(count, float(point.partition("x")[2] or 1) / count)
    if point.startswith("even"):
        norms = kept["norms"]
        return float(point.partition("x")[2] or 1) * np.median(norms) / norms / count
    first = sources["truth"][:, :FEW].sum(1) if point == "looked" else sources["first"]
    way = np.zeros(count)
    way[np.argsort(first)[:FEW]] = 1 / FEW
    return way


def ridge(features: Array, true: Array, known: Array) -> Array:
    """True losses of ``known`` donors, and of the others what a ridge regression says."""
    x = np.stack([rankdata(column) / len(column) for column in features], 1)
    x = np.hstack([x, np.ones((len(x), 1))])
    a = x[known]
    fit = np.linalg.solve(a.T @ a + 0.1 * np.eye(a.shape[1]), a.T @ rankdata(true[known]))
    return x @ fit


def load(store: Path, target: str) -> dict[str, Any]:
    """True losses ``(N, n)`` and the slopes at each point that is there."""
    known = dict(np.load(store / f"{target}-truth.npz"))
    points = {p: dict(np.load(f)) for p in POINTS if (f := store / f"{target}-{p}.npz").exists()}
    names = list(points["mean"]["names"])
    truth = np.array([known[name] for name in names])
    first = points.get("even", points["mean"])["each"].sum(0)
    return {
        "points": points, "truth": truth, "first": first, "tokens": known["tokens"],
        "names": names, "base": float(known[""].sum() / known["tokens"].sum()),
    }  # fmt: skip


def predictions(data: dict[str, Any], rows: Array) -> dict[str, Array]:
    """All that can be said of a target's donors from the examples ``rows``."""
    count, found = len(data["names"]), {}
    for point, kept in data["points"].items():
        way = way_to(point, kept, data, count)
        made = formulas(kept, way, rows)
        found |= {f"{point}: {name}": values for name, values in made.items()}
    several = [f"{p}: log-odds, half step" for p in ("evenx0.5", "even", "looked")]
    if all(name in found for name in several):
        found["ranks of evenx0.5 + even"] = sum(rankdata(found[n]) for n in several[:2])
        found["ranks of even + looked"] = sum(rankdata(found[n]) for n in several[1:])
    for few in (2, 4):
        looked = rankdata(data["truth"][:, rows[:few]].sum(1))
        found[f"ranks of even + true losses of {few}"] = looked + rankdata(found[several[1]])
    return found


def looks(data: dict[str, Any], rows: Array) -> dict[str, Array]:
    """The same money spent on true losses of a few examples."""
    return {f"true losses of {n} examples": data["truth"][:, rows[:n]].sum(1) for n in (1, 2, 4, 8)}


def judge(data: dict[str, Any], generator: np.random.Generator) -> dict[str, Any]:
    """Rank correlation with the true losses, and how often the best two are near the front."""
    true = data["truth"].sum(1) / data["tokens"].sum()
    rows = np.arange(len(data["tokens"]))
    whole = predictions(data, rows) | looks(data, rows)
    known = generator.permutation(len(true))[:KNOWN]
    features = np.array(
        [whole[f"{p}: g"] for p in ("base", "evenx0.5", "even", "mean") if f"{p}: g" in whole]
    )
    features = np.vstack(
        [features, data["points"]["mean"]["norms"], whole["mean: -g²/2H, sign of g"]]
    )
    others = np.setdiff1d(rows_of(true), known)
    result = {
        name: {
            "spearman": spearman(values, true),
            "place": place_of_best(values, true),
            "places": [],
        }
        for name, values in whole.items()
    }
    fitted = ridge(features, true, known)
    result[f"ridge on {KNOWN} true losses"] = {
        "spearman": spearman(fitted[others], true[others]), "place": place_of_best(fitted, true),
        "places": [],
    }  # fmt: skip
    for _ in range(DRAWS):
        drawn = generator.permutation(len(rows))[:DRAWN]
        for name, values in (predictions(data, drawn) | looks(data, drawn)).items():
            result[name]["places"].append(place_of_best(values, true))
    return result


def rows_of(values: Array) -> Array:
    return np.arange(len(values))


def main(store: Path, output: Path) -> None:
    targets = sorted(f.name.removesuffix("-truth.npz") for f in store.glob("*-truth.npz"))
    report = {}
    for target in targets:
        data = load(store, target)
        true = data["truth"].sum(1) / data["tokens"].sum()
        judged = judge(data, np.random.default_rng(0))
        for one in judged.values():
            places = np.array(one.pop("places"))
            one |= {f"in {k}": float((places <= k).mean()) for k in (8, 16) if len(places)}
        report[target] = {
            "donors": len(true), "examples": len(data["tokens"]), "base": data["base"],
            "best": float(true.min()), "median": float(np.median(true)), "formulas": judged,
        }  # fmt: skip
    output.with_suffix(".json").write_text(json.dumps(_rounded(report), indent=1))
    print(table(report))


def table(report: dict[str, Any]) -> str:
    """One row a formula: Spearman of each target, and shares of draws."""
    targets = list(report)
    names = dict.fromkeys(n for r in report.values() for n in r["formulas"])
    lines = [
        f"| | {' | '.join(targets)} | mean | in 16 |",
        "| --- |" + " ---: |" * (len(targets) + 2),
    ]
    for name in names:
        made = [report[t]["formulas"].get(name, {}) for t in targets]
        values = [one.get("spearman", np.nan) for one in made]
        shares = [one["in 16"] for one in made if "in 16" in one]
        cells = [_cell(v) for v in (*values, np.nanmean(values), np.mean(shares or [np.nan]))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}"


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
