"""How many labels does the choice need? Samples of 8 to 64 rows, with and without relatives.

    python benchmarks/choosing/labels.py DATA LIBRARY MODEL OUTPUT [--dtype auto] [--targets ...]

The sources of LIBRARY are scored on 64 rows of each target. Of these rows smaller samples are drawn
without replacement, and the choice is made on each as `mashup select` makes it: answers that a
sample lacks are unknown to it. Counted is how often the first of the chosen is a relative (a source
of the target's family), how often a stranger, and how often none is chosen. A target never has the
source of its own task. OUTPUT is a JSON file; targets that it has are not scored again.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mashup
from mashup import select
from mashup._score.scores import Score, Scores

POOL, SIZES, DRAWS = 64, (8, 16, 32, 64), 40
TARGETS = (
    *("crises/west_texas", "crises/alberta", "crises/queensland"),
    *("reviews/dvd", "reviews/electronics", "reviews/books"),
    *("emotion/isear", "emotion/goemotions", "emotion/stimulus"),
    *("intents/iot", "intents/calendar", "intents/transport"),
    *("textcls/trec", "textcls/subjectivity", "textcls/mrpc"),
)
ORPHANS = "textcls"
OUTCOMES = ("relative", "stranger", "none")


def part(score: Score, rows: NDArray[np.intp], answers: NDArray[np.intp]) -> Score:
    """The score on some rows, with the answers that these rows have."""
    whole = score.evaluation
    assert whole.answers is not None
    assert whole.labels is not None
    assert whole.prompts is not None
    some = replace(
        whole, losses=whole.losses[rows], tokens=whole.tokens[rows], correct=whole.correct[rows],
        answers=whole.answers[np.ix_(rows, answers)],
        labels=np.searchsorted(answers, whole.labels[rows]), prompts=whole.prompts[rows],
    )  # fmt: skip
    return replace(score, evaluation=some)


def first_of(scores: Scores, rows: NDArray[np.intp]) -> Score | None:
    """The first source that is chosen on some of the rows; None where none is."""
    labels = scores.base.evaluation.labels
    assert labels is not None
    answers = np.unique(labels[rows])
    if len(answers) < 2:
        return None  # one answer: nothing to know
    base, *ranking = (part(one, rows, answers) for one in (scores.base, *scores.ranking))
    ranked = tuple(sorted(ranking, key=lambda one: one.order("knowledge")))
    chosen = select(replace(scores, base=base, ranking=ranked), k=1).chosen
    return chosen[0] if chosen else None


def measure(data: Path, library: Path, base: mashup.Base, target: str) -> dict[str, list[int]]:
    """Size of the sample to how often a relative, a stranger and none is chosen first."""
    own = library / target
    folder = data / target if target.startswith(ORPHANS) else data / "families" / target
    task = mashup.load_task(
        folder / "train.jsonl", test=folder / "validation.jsonl", train_rows=POOL, dev_rows=48
    )
    scores = mashup.score(library, base, task, samples=POOL, max_length=512, finalists=99)
    others = tuple(one for one in scores.ranking if one.path != own)
    scores = replace(scores, ranking=others)
    generator = np.random.default_rng(0)
    family = target.split("/")[0]
    found = {}
    for size in SIZES:
        count: Counter[str] = Counter()
        for _ in range(DRAWS if size < scores.examples else 1):
            rows = np.sort(generator.permutation(scores.examples)[:size])
            first = first_of(scores, rows)
            kind = "none"
            if first:
                is_relative = first.path.parent.name == family != ORPHANS
                kind = "relative" if is_relative else "stranger"
            count[kind] += 1
        found[str(size)] = [count[kind] for kind in OUTCOMES]
    return found


def table(results: dict[str, dict[str, list[int]]], targets: Sequence[str]) -> str:
    """Markdown: shares of a relative, a stranger and none, by size of the sample."""
    known = [name for name in targets if name in results]
    rows = {name: [name] for name in known}
    for label, is_orphan in (("with relatives", False), ("without", True)):
        if names := [name for name in known if name.startswith(ORPHANS) == is_orphan]:
            rows[f"**mean of {len(names)} {label}**"] = names
    lines = [["Target", *(f"{size} rows" for size in SIZES)], ["---", *["---:"] * len(SIZES)]]
    for title, names in rows.items():
        cells = []
        for size in SIZES:
            counts = np.array([results[name][str(size)] for name in names], dtype=float)
            shares = 100 * (counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)
            cells.append(" / ".join(f"{share:.0f}" for share in shares))
        lines.append([title, *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("library", type=Path)
    parser.add_argument("model")
    parser.add_argument("output", type=Path)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--targets", nargs="*", default=TARGETS)
    options = parser.parse_args()
    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    base = None
    for target in options.targets:
        if target not in results:
            base = base or mashup.load_base(options.model, dtype=options.dtype)
            results[target] = measure(options.data, options.library.absolute(), base, target)
            options.output.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results, options.targets))


if __name__ == "__main__":
    main()
