"""How often does a source that knows nothing look as if it knew? Labels in random order.

    python benchmarks/choosing/null.py DATA LIBRARY MODEL [--rows 64] [--draws 60] [--targets ...]

The sources' real probabilities of the answers on a real task, with the labels of the rows permuted:
whatever a source says has then nothing to do with the labels. Prints, for each target, the share of
sources whose knowledge is more than 1, 1.5, 2 and 2.5 standard errors above zero, beside the share
that a t distribution has there, and in how many draws any source was chosen.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import stdtr

import mashup
from mashup._score.scores import Score
from mashup._select import select

TARGETS = ("emotion/isear", "crises/alberta", "reviews/books", "intents/transport")
ERRORS = (1.0, 1.5, 2.0, 2.5)


def permuted(score: Score, order: np.ndarray) -> Score:
    """The score as it would be if the rows had each other's labels."""
    labels = score.evaluation.labels
    assert labels is not None
    return replace(score, evaluation=replace(score.evaluation, labels=labels[order]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("library", type=Path)
    parser.add_argument("model")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--targets", nargs="*", default=TARGETS)
    options = parser.parse_args()
    nominal = [float(stdtr(options.rows - 1, -error)) for error in ERRORS]
    print("t distribution", *(f"{share:.4f}" for share in nominal), sep="  ")
    for target in options.targets:
        folder = options.data / "families" / target
        task = mashup.load_task(
            folder / "train.jsonl", test=folder / "validation.jsonl",
            train_rows=options.rows, dev_rows=48,
        )  # fmt: skip
        scores = mashup.score(str(options.library), options.model, task, samples=options.rows)
        generator = np.random.default_rng(0)
        ratios, chosen = [], 0
        for _ in range(options.draws):
            order = generator.permutation(scores.examples)
            ranking = tuple(permuted(one, order) for one in scores.ranking)
            drawn = replace(scores, base=permuted(scores.base, order), ranking=ranking)
            known = [one.knowledge for one in ranking]
            ratios += [one.bits / one.error for one in known if one and one.error]
            chosen += not select(drawn).is_empty
        shares = [np.mean(np.array(ratios) > error) for error in ERRORS]
        print(target, *(f"{share:.4f}" for share in shares), f"chosen in {chosen}", sep="  ")


if __name__ == "__main__":
    main()
