"""What was predicted for the families, and what came: ``docs/results/families/predictions.md``.

    python benchmarks/predictions.py FAMILIES [--transfer OUTPUT]

FAMILIES is the folder of ``mashup loo recipes/families.yaml``, also of an unfinished one; OUTPUT
that of ``benchmarks/transfer.py``. Prints Markdown: each prediction with its 80 % range, beside it
the measured value with its 95 % interval, and whether the value is within the range. Where nothing
was measured, the field is empty.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from mashup._report.study import FamilyRow, LabelRow, Study
from mashup._report.write import read_studies
from mashup.results.significance import mean_difference
from mashup.results.statistics import Difference
from transfer import TARGETS, interval, read_pairs, resampled, spearman

#: Expected, and the ends of the range that should hold the value with a probability of 80 %.
Guess = tuple[float, float, float]
#: Family to points of mashup over scratch: all steps, a quarter; and of the race over all steps.
#: "" is the targets without a family, None the mean of the others.
GAINS: dict[str | None, tuple[Guess, Guess, Guess | None]] = {
    "crises": ((4, 1, 7), (12, 6, 18), (4, 1, 7)),
    "reviews": ((3, 0, 6), (8, 3, 14), (4, 1, 7)),
    "emotion": ((5, 1, 9), (9, 4, 14), (5, 1, 9)),
    "intents": ((2, -1, 5), (8, 2, 14), (2, -1, 5)),
    "": ((0, -1, 1), (0, -1, 2), (0, -1, 1)),
    None: ((3.5, 1.5, 5.5), (9, 6, 12), None),
}
#: Number of labels to points of mashup over scratch, families with relatives, all steps.
LABELS: dict[int, Guess] = {16: (9, 5, 14), 64: (3.5, 1.5, 5.5), 256: (1, -0.5, 2.5)}
#: Criterion to its correlation with the gain.
CORRELATIONS: dict[str, Guess] = {"knowledge": (0.6, 0.4, 0.75), "loss": (0.35, 0.1, 0.55)}


def families(study: Study) -> Iterator[str]:
    """Gains by family, and what was said of a quarter, of blind starts and of the bare merge."""
    rows = {(row.family, row.arm, row.budget): row for row in study.by_family}
    for family, (whole, brief, race) in GAINS.items():
        name = {None: "mean of the families", "": "without a family"}.get(family, family)
        yield line(f"{name}, all steps, mashup", whole, gain(rows.get((family, "mashup", 1.0))))
        yield line(f"{name}, a quarter, mashup", brief, gain(rows.get((family, "mashup", 0.25))))
        if race:
            yield line(f"{name}, all steps, race", race, gain(rows.get((family, "race", 1.0))))
    for family, words in {
        "crises": "level or better", "reviews": "level or better",
        "emotion": "1 to 3 points behind", "intents": "1 to 3 points behind",
    }.items():  # fmt: skip
        row = rows.get((family, "mashup", 0.25))
        came = row.full_gain if row else None
        yield told(f"{family}, a quarter from the merge against all steps of scratch", words, came)
    yield told("blind starts over scratch", "at or below 0", gain(rows.get((None, "blind", 1.0))))
    yield told("mashup over blind starts", "at least +3", over(study, "blind"))
    yield told("mashup over format-only", "at least +2.5", over(study, "format-only"))
    for family in ("crises", "reviews", "intents"):
        row = rows.get((family, "merged-untrained", 1.0))
        words = "far below" if family == "intents" else "within 3 points"
        yield told(f"{family}, untrained merge over scratch", words, gain(row))


def labels(study: Study) -> Iterator[str]:
    """Gains by number of labels, and the labels that mashup saves."""
    rows = {row.labels: row for row in study.by_labels if (row.task, row.arm) == ("", "mashup")}
    for size, guess in LABELS.items():
        yield line(f"{size} labels, mashup", guess, rows[size].gain if size in rows else None)
    yield f"| scratch needs as many labels as mashup at 64 | 3 to 5 times | {saved(rows)} | |"


def saved(rows: dict[int, LabelRow]) -> str:
    row = rows.get(64)
    if row is None or row.needed is None:
        return ""

    def times(count: float) -> str:
        most = max(rows) / 64
        return f"more than {most:g}" if count == float("inf") else f"{count / 64:.1f}"

    needed = row.needed
    return f"{times(needed.value)} times [{times(needed.low)}, {times(needed.high)}]"


def gain(row: FamilyRow | None) -> Difference | None:
    return row.gain if row else None


def over(study: Study, arm: str) -> Difference | None:
    """What mashup has over another arm, on the targets with a family."""
    found = [t.over[arm] for t in study.targets if "/" in t.task and arm in t.over]
    return mean_difference(found) if found else None


def line(what: str, guess: Guess, came: Difference | None) -> str:
    expected, low, high = guess
    within = "" if came is None else "yes" if low <= 100 * came.value <= high else "no"
    return f"| {what} | {expected:+g} ({low:+g} to {high:+g}) | {shown(came)} | {within} |"


def told(what: str, words: str, came: Difference | None) -> str:
    return f"| {what} | {words} | {shown(came)} | |"


def shown(came: Difference | None) -> str:
    if came is None:
        return ""
    return f"{100 * came.value:+.1f} [{100 * came.low:+.1f}, {100 * came.high:+.1f}]"


def correlations(output: Path) -> Iterator[str]:
    """Which criterion predicts the gain."""
    pairs, _, _ = read_pairs(output)
    draws = resampled(pairs) if pairs else {}
    for name, (expected, low, high) in CORRELATIONS.items():
        value = spearman(pairs, name)
        is_known = value == value
        came = f"{value:+.2f}{interval(draws[name])} ({len(pairs)} pairs)" if is_known else ""
        within = ("yes" if low <= value <= high else "no") if is_known else ""
        yield (
            f"| Spearman of {name} with the gain | {expected:g} ({low:g} to {high:g}) | {came} "
            f"| {within} |"
        )
    related = [target for target in dict.fromkeys(p.target for p in pairs) if TARGETS[target]]
    first = [
        max((p for p in pairs if p.target == target), key=lambda p: p.bits).is_relative
        for target in related
    ]
    came = f"{sum(first)} of {len(first)}" if first else ""
    yield f"| a relative is first by knowledge (5 targets have one) | 4 (3 to 5) | {came} | |"


def table(title: str, rows: Iterator[str] | Sequence[str]) -> str:
    head = ["| Prediction | Expected (80 % range) | Came [95 % interval] | Within the range |"]
    return "\n".join([f"## {title}", "", *head, "| --- | --- | --- | --- |", *rows, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", type=Path)
    parser.add_argument("--transfer", type=Path, metavar="OUTPUT")
    options = parser.parse_args()
    (study,) = read_studies([options.families])
    if options.transfer:
        print(table("Which criterion predicts the gain", correlations(options.transfer)))
    print(table("Gain over scratch with 64 labels, points", families(study)))
    print(table("Number of labels, points over scratch", labels(study)))


if __name__ == "__main__":
    main()
