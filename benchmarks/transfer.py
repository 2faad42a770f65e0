"""Which criterion predicts the gain? Score 16 sources on 8 targets, then train from each.

    python benchmarks/transfer.py DATA LIBRARY OUTPUT [--model BASE] [--part 0/2]
    python benchmarks/transfer.py --report OUTPUT

DATA has ``families/FAMILY/TASK`` and ``textcls/TASK``, LIBRARY has the source checkpoints of
``benchmarks/families.py``. For each target, every source is scored on 96 labelled rows, and is then
trained from alone on 32 rows, 24 steps of 8, with test evaluated at the end alone. From scratch the
same steps are run at two learning rates, and the better test result counts: this favours scratch.

OUTPUT gets one line a source and target in ``scores-TARGET.json``, ``probes-TARGET.json`` (bits
that a ridge probe reads from the hidden states, see ``probe.py``) and ``gains-TARGET.jsonl``. What
is there is not run again, and the work can be shared between two processes (``--part 0/2`` and
``--part 1/2``). ``--report`` reads what is there, also of unfinished work, and writes
``transfer.md`` (correlations with intervals, the goals) and ``transfer.svg`` into OUTPUT.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata, spearmanr

import mashup
from mashup._report.canvas import below, side_by_side, to_svg_file
from mashup._report.plots import Level, Look, Series, legend, lines
from probe import probe

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
RESAMPLES = 2_000
#: Criterion to its sign: +1 where more is better. "either" is the larger of knowledge and probe.
CRITERIA = {"knowledge": 1, "loss": -1, "accuracy": 1, "form": -1, "probe": 1, "either": 1}
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


def probe_sources(
    base: mashup.Base, task: mashup.Task, sources: Sequence[str], library: Path, output: Path
) -> None:
    """What a probe reads from the hidden states of the base and of each source, to ``output``."""
    if output.exists():
        return
    examples = task.sample(SAMPLE, SEED)
    rows = {"base": probe(base, None, examples)}
    rows |= {name: probe(base, library / name, examples) for name in sources}
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
    sample, library = load(options.data, target, SAMPLE), options.library
    score_sources(base, sample, library, options.output / f"scores-{slug}.json")
    probe_sources(
        base, sample, sources_for(target), library, options.output / f"probes-{slug}.json"
    )
    task = load(options.data, target, LABELS)
    results = options.output / f"gains-{slug}.jsonl"
    known = {(row["source"], row["rate"]) for row in read(results)}
    jobs = [("scratch", rate) for rate in SCRATCH_RATES]
    jobs += [(name, RATE) for name in sources_for(target)]
    for name, rate in jobs:
        if (name, rate) in known:
            continue
        source = None if name == "scratch" else library / name
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


# Report


@dataclass(frozen=True)
class Pair:
    """One source on one target.

    Attributes:
        gain: test accuracy after training from it, minus scratch's best.
        values: criterion to its value minus the base's, more is better.
        bits, error: knowledge and its standard error.
    """

    target: str
    source: str
    gain: float
    values: dict[str, float]
    bits: float
    error: float

    @property
    def is_relative(self) -> bool:
        family = TARGETS[self.target]
        return bool(family) and self.source.startswith(f"{family}/")


def read_pairs(output: Path) -> tuple[list[Pair], dict[str, float], dict[str, float]]:
    """All pairs that are done, scratch's best accuracy and the base's knowledge by target."""
    pairs: list[Pair] = []
    scratch: dict[str, float] = {}
    base: dict[str, float] = {}
    for target in TARGETS:
        slug = target.replace("/", "-")
        gains, scored = read(output / f"gains-{slug}.jsonl"), output / f"scores-{slug}.json"
        levels = [row["accuracy"] for row in gains if row["source"] == "scratch"]
        if not levels or not scored.exists():
            continue
        scores = json.loads(scored.read_text())
        for name, bits in json.loads((output / f"probes-{slug}.json").read_text()).items():
            scores[name] |= {"probe": bits, "either": max(bits, scores[name]["knowledge"])}
        scratch[target], base[target] = max(levels), scores["base"]["knowledge"]
        for row in gains:
            if row["source"] != "scratch":
                known, level = scores[row["source"]], scores["base"]
                values = {
                    name: sign * (known[name] - level[name]) for name, sign in CRITERIA.items()
                }
                gain = row["accuracy"] - scratch[target]
                bits, error = known["knowledge"], known["error"]
                pairs.append(Pair(target, row["source"], gain, values, bits, error))
    return pairs, scratch, base


def spearman(pairs: Sequence[Pair], criterion: str) -> float:
    """Rank correlation of a criterion with the gain; nan for less than three pairs."""
    if len(pairs) < 3:
        return math.nan
    values, gains = [p.values[criterion] for p in pairs], [p.gain for p in pairs]
    if len(set(values)) < 2 or len(set(gains)) < 2:
        return math.nan
    return float(spearmanr(values, gains).statistic)


def resampled(pairs: Sequence[Pair], count: int = RESAMPLES) -> dict[str, np.ndarray]:
    """The correlation over all pairs in resamples: targets and sources are drawn, each for itself.

    A pair counts as often as its target was drawn times its source. Both are few, so the interval
    is about other targets and other sources of this kind.
    """
    draw = np.random.default_rng(0)
    targets = sorted({pair.target for pair in pairs})
    sources = sorted({pair.source for pair in pairs})
    of_target = np.array([targets.index(pair.target) for pair in pairs])
    of_source = np.array([sources.index(pair.source) for pair in pairs])
    columns = {name: np.array([pair.values[name] for pair in pairs]) for name in CRITERIA}
    gains = np.array([pair.gain for pair in pairs])
    found: dict[str, list[float]] = {name: [] for name in CRITERIA}
    for _ in range(count):
        times = np.bincount(draw.integers(len(targets), size=len(targets)), minlength=len(targets))
        often = np.bincount(draw.integers(len(sources), size=len(sources)), minlength=len(sources))
        rows = np.repeat(np.arange(len(pairs)), times[of_target] * often[of_source])
        if len(set(gains[rows])) > 1:
            ranks = rankdata(gains[rows])
            for name, values in columns.items():
                ranked = rankdata(values[rows])
                flat = np.ptp(ranked) == 0
                found[name].append(0.0 if flat else float(np.corrcoef(ranked, ranks)[0, 1]))
    return {name: np.array(values) for name, values in found.items()}


def interval(values: np.ndarray) -> str:
    if not len(values):
        return ""
    low, high = np.quantile(values, (0.025, 0.975))
    return f" [{low:+.2f}, {high:+.2f}]"


def report(output: Path) -> None:
    """Write ``transfer.md`` and ``transfer.svg``: correlations with intervals, and the goals."""
    pairs, scratch, base = read_pairs(output)
    if not pairs:
        raise SystemExit(f"{output}: no target has both scores and a run from a source yet")
    by_target = {
        target: [pair for pair in pairs if pair.target == target] for target in scratch
    }  # fmt: skip
    by_target = {target: found for target, found in by_target.items() if found}
    draws = resampled(pairs)
    whole = len(TARGETS) * len(SOURCES) - sum(
        t.removeprefix("families/") in SOURCES for t in TARGETS
    )
    text = [
        f"{len(pairs)} of {whole} pairs of a target and a source. Gain: test accuracy after "
        f"training from the source on {LABELS} labels ({STEPS} steps of {BATCH}), minus the better "
        f"of {len(SCRATCH_RATES)} runs from scratch. Correlations are Spearman's.",
        "",
        "| Target | Sources | Scratch | Best source | "
        + " | ".join(name.capitalize() for name in CRITERIA)
        + " | First by knowledge (bits) |",
        "| --- | ---: | ---: | --- | " + "---: | " * len(CRITERIA) + "--- |",
        *(_row(target, found, scratch[target]) for target, found in by_target.items()),
        _means(by_target),
        "| all pairs, 95 % interval over targets and sources "
        f"| {len(pairs)} | | | "
        + " | ".join(f"{spearman(pairs, n):+.2f}{interval(draws[n])}" for n in CRITERIA)
        + " | |",
        "",
        "| Goal | Came | Reached |",
        "| --- | --- | --- |",
        *_goals(pairs, by_target, draws, base),
    ]
    (output / "transfer.md").write_text("\n".join(text) + "\n")
    (output / "transfer.svg").write_bytes(picture(pairs))
    print("\n".join(text))


def _row(target: str, pairs: Sequence[Pair], scratch: float) -> str:
    best = max(pairs, key=lambda pair: pair.gain)
    first = max(pairs, key=lambda pair: pair.bits)
    kind = "relative" if first.is_relative else "stranger"
    return (
        f"| {target.removeprefix('families/')} | {len(pairs)} | {scratch:.1%} "
        f"| {best.source} {scratch + best.gain:.1%} "
        f"| {' | '.join(cell(spearman(pairs, name)) for name in CRITERIA)} "
        f"| {first.source} ({first.bits:.2f} ± {first.error:.2f}), {kind} |"
    )


def _means(by_target: Mapping[str, Sequence[Pair]]) -> str:
    means = []
    for name in CRITERIA:
        known = [spearman(found, name) for found in by_target.values()]
        known = [value for value in known if math.isfinite(value)]
        means.append(float(np.mean(known)) if known else math.nan)
    return f"| mean of targets | | | | {' | '.join(map(cell, means))} | |"


def _goals(
    pairs: Sequence[Pair],
    by_target: Mapping[str, Sequence[Pair]],
    draws: Mapping[str, np.ndarray],
    base: Mapping[str, float],
) -> Iterator[str]:
    """The goals of the issue, with what came."""
    knowledge, loss = spearman(pairs, "knowledge"), spearman(pairs, "loss")
    yes = {True: "yes", False: "no"}
    yield (
        f"| knowledge correlates with the gain by 0.7 or more | {knowledge:+.2f}"
        f"{interval(draws['knowledge'])} | {yes[knowledge >= 0.7]} |"
    )
    ahead = draws["knowledge"] - draws["loss"]
    yield (
        f"| and by 0.2 or more above loss | {knowledge - loss:+.2f}{interval(ahead)} "
        f"| {yes[knowledge - loss >= 0.2]} |"
    )
    probed = max(spearman(pairs, "probe"), spearman(pairs, "either")) - knowledge
    yield f"| a probe adds 0.1 or more to knowledge | {probed:+.2f} | {yes[probed >= 0.1]} |"
    related = [found for found in by_target.values() if any(pair.is_relative for pair in found)]
    first = [max(found, key=lambda pair: pair.bits).is_relative for found in related]
    reached = yes[sum(first) >= 0.9 * len(first)] if first else ""
    yield (
        f"| a relative is first by knowledge on 90 % of the targets that have one "
        f"| {sum(first)} of {len(first)} | {reached} |"
    )
    for target, found in by_target.items():
        if TARGETS[target]:
            continue
        knowing = [
            pair.source
            for pair in found
            if pair.bits > 2 * pair.error and pair.bits - base[target] > 2 * pair.error
        ]
        name = target.removeprefix("textcls/")
        came = f"{', '.join(knowing)} by two standard errors" if knowing else "none"
        yield f"| none knows {name} | {came} | {yes[not knowing]} |"


def cell(value: float) -> str:
    return f"{value:+.2f}" if math.isfinite(value) else ""


def picture(pairs: Sequence[Pair]) -> bytes:
    """Gain against knowledge and against loss, a dot a pair; follows light and dark pages."""
    kinds = {True: Look("relative", "mashup", "circle", line=False),
             False: Look("stranger", "best-single", "up", line=False)}  # fmt: skip
    panels = []
    for name, words in (("knowledge", "knowledge above the base, bits"),
                        ("loss", "loss below the base, nats")):  # fmt: skip
        dots = [
            Series(
                kinds[pair.is_relative], ((pair.values[name], 100 * pair.gain),),
                (f"{pair.source} on {pair.target}: {100 * pair.gain:+.1f} points",),
            )
            for pair in sorted(pairs, key=lambda pair: pair.is_relative)
        ]  # fmt: skip
        title = f"Gain after training, points; Spearman {spearman(pairs, name):+.2f}"
        alt = f"{title}, against {words}, {len(pairs)} pairs of a source and a target."
        panels.append(lines(title, words, dots, levels=[Level(0.0, "4 3")], alt=alt))
    shown = [kinds[kind] for kind in sorted({pair.is_relative for pair in pairs}, reverse=True)]
    body = side_by_side(panels, 2)
    return to_svg_file(below([legend(shown, body.width), body]), dark=True)


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
