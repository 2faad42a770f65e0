"""Which criterion predicts the gain? Score 16 sources on 8 targets, then train from each.

    python benchmarks/transfer.py DATA LIBRARY OUTPUT [--model BASE] [--part 0/2]
    python benchmarks/transfer.py --report OUTPUT

DATA has ``families/FAMILY/TASK`` and ``textcls/TASK``, LIBRARY has the source checkpoints of
``benchmarks/families.py``. For each target, every source is scored on 96 labelled rows, and is then
trained from alone on 32 rows, 24 steps of 8, with test evaluated at the end alone. From scratch the
same steps are run at two learning rates, and the better test result counts: this favours scratch.

OUTPUT gets one line a source and target in ``scores-TARGET.json`` and ``gains.jsonl``. What is
there is not run again, and the work can be shared between two processes (``--part 0/2`` and
``--part 1/2``).
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

import mashup

#: Target task to the family of its relatives; orphans have none.
TARGETS = {
    "families/crises/west_texas": "crises", "families/reviews/dvd": "reviews",
    "families/emotion/isear": "emotion", "textcls/mrpc": "",
    "families/intents/iot": "intents", "families/stance/abortion": "stance",
    "textcls/subjectivity": "", "textcls/trec": "",
}  # fmt: skip
SOURCES = (
    *("reviews/electronics", "reviews/kitchen_housewares", "reviews/toys_games", "reviews/books"),
    *("crises/boston", "crises/alberta", "emotion/goemotions", "emotion/tweets"),
    *("intents/calendar", "intents/music", "intents/alarm", "intents/transport"),
    *("stance/feminist", "stance/hillary", "textcls/trec", "textcls/subjectivity"),
)
SAMPLE, LABELS, DEV, TEST = 96, 32, 32, 150
STEPS, BATCH = 24, 8
RATE, SCRATCH_RATES = 5e-4, (5e-4, 1e-3)
SEED = 42
#: Criterion to its sign: +1 where more is better.
CRITERIA = {"knowledge": 1, "loss": -1, "accuracy": 1, "form": -1}
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"


def load(data: Path, target: str, rows: int) -> mashup.Task:
    folder = data / target
    return mashup.load_task(
        folder / "train.jsonl", test=folder / "validation.jsonl", name=target,
        train_rows=rows, dev_rows=DEV, test_rows=TEST,
    )  # fmt: skip


def sources_for(target: str) -> list[str]:
    """All sources but the target itself."""
    return [name for name in SOURCES if name != target.removeprefix("families/")]


def score_sources(base: mashup.Base, task: mashup.Task, library: Path, output: Path) -> None:
    """Loss, accuracy, form and knowledge of the base and of each source, to ``output``."""
    if output.exists():
        return
    scores = mashup.score(library, base, task, samples=SAMPLE, strategy="exhaustive")
    rows = {}
    for score in (scores.base, *scores.ranking):
        known = score.knowledge
        assert known is not None
        name = (
            "base"
            if score.path is None
            else str(score.path.resolve().relative_to(library.resolve()))
        )
        rows[name] = {
            "loss": score.loss, "accuracy": score.accuracy, "form": known.form_bits,
            "knowledge": known.bits, "error": known.error,
        }  # fmt: skip
    output.write_text(json.dumps(rows, indent=1) + "\n")


def train_one(
    base: mashup.Base, task: mashup.Task, source: Path | None, rate: float, folder: Path
) -> Any:
    """One run on the target; its last point. The weights are removed."""
    settings = mashup.TrainSettings(
        learning_rate=rate, max_steps=STEPS, batch_size=BATCH, evaluations=1, test_points="end",
        max_length=512, seed=SEED,
    )  # fmt: skip
    point = mashup.train(base, task, init=source, settings=settings, output=folder).last
    shutil.rmtree(folder)
    return point


def run_target(options: argparse.Namespace, base: mashup.Base, target: str) -> None:
    slug = target.replace("/", "-")
    score_sources(
        base, load(options.data, target, SAMPLE), options.library,
        options.output / f"scores-{slug}.json",
    )  # fmt: skip
    task = load(options.data, target, LABELS)
    results = options.output / f"gains-{slug}.jsonl"
    known = {(row["source"], row["rate"]) for row in read(results)}
    jobs = [("scratch", rate) for rate in SCRATCH_RATES]
    jobs += [(name, RATE) for name in sources_for(target)]
    for name, rate in jobs:
        if (name, rate) in known:
            continue
        source = None if name == "scratch" else options.library / name
        point = train_one(base, task, source, rate, options.output / "run" / slug)
        row = {
            "target": target, "source": name, "rate": rate, "loss": point.test_loss,
            "accuracy": point.test_accuracy, "dev_loss": point.dev_loss, "seconds": point.seconds,
        }  # fmt: skip
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(target, name, rate, f"{point.test_accuracy:.3f}", flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def spearman(one: list[float], other: list[float]) -> float:
    return float(spearmanr(one, other).statistic)


def report(output: Path) -> None:
    """Spearman correlation of each criterion with the gain in accuracy, by target and over all."""
    pooled: dict[str, list[float]] = {name: [] for name in (*CRITERIA, "gain")}
    within: list[list[float]] = []
    print(f"| target | runs | scratch | best source | {' | '.join(CRITERIA)} | best by knowledge |")
    print("|---|---|---|---|" + "---|" * (len(CRITERIA) + 1))
    for target, family in TARGETS.items():
        slug = target.replace("/", "-")
        gains, scored = read(output / f"gains-{slug}.jsonl"), output / f"scores-{slug}.json"
        if not gains or not scored.exists():
            continue
        scores = json.loads(scored.read_text())
        scratch = max(row["accuracy"] for row in gains if row["source"] == "scratch")
        rows = [row for row in gains if row["source"] != "scratch"]
        gain = [row["accuracy"] - scratch for row in rows]
        pooled["gain"] += gain
        within.append([])
        for name, sign in CRITERIA.items():
            values = [sign * (scores[row["source"]][name] - scores["base"][name]) for row in rows]
            pooled[name] += values
            within[-1].append(spearman(values, gain))
        best = max(rows, key=lambda row: row["accuracy"])
        first = max((row["source"] for row in rows), key=lambda name: scores[name]["knowledge"])
        related = "relative" if family and first.startswith(f"{family}/") else "stranger"
        bits, error = scores[first]["knowledge"], scores[first]["error"]
        print(
            f"| {target.removeprefix('families/')} | {len(rows)} | {scratch:.1%} "
            f"| {best['source']} {best['accuracy']:.1%} | {cells(within[-1])} "
            f"| {first} ({bits:+.2f} ± {error:.2f}), {related} |"
        )
    print(f"| mean of targets | | | | {cells(np.mean(within, axis=0))} | |")
    over_all = [spearman(pooled[name], pooled["gain"]) for name in CRITERIA]
    print(f"| all pairs | {len(pooled['gain'])} | | | {cells(over_all)} | |")


def cells(values: Iterable[float]) -> str:
    return " | ".join(f"{value:+.2f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("library", type=Path, nargs="?")
    parser.add_argument("output", type=Path, nargs="?")
    parser.add_argument("--model", default=BASE)
    parser.add_argument("--part", default="0/1", help="0/2: the first of two processes")
    parser.add_argument("--report", type=Path, metavar="OUTPUT")
    options = parser.parse_args()
    if options.report:
        report(options.report)
        return
    options.output.mkdir(parents=True, exist_ok=True)
    part, parts = map(int, options.part.split("/"))
    base = mashup.load_base(options.model)
    for target in list(TARGETS)[part::parts]:
        run_target(options, base, target)


if __name__ == "__main__":
    main()
