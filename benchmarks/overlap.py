"""Rows of one task that come again in another of its family, in nearly the same words.

    python benchmarks/overlap.py DATA

For each pair of tasks of a family: how many of the first 400 validation rows of one share more than
half of their sequences of four words with the first 4,000 training rows of the other. Lines that
most rows of a task have (the instruction, the options) are left out.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from pathlib import Path

_TEST, _TRAIN, _WORDS = 400, 4_000, 4


def main(data: Path) -> None:
    for family in sorted(path for path in (data / "families").iterdir() if path.is_dir()):
        train = {path.parent.name: _prompts(path, _TRAIN) for path in family.glob("*/train.jsonl")}
        common = set().union(*map(_common, train.values()))
        seen = {
            name: set().union(*(_runs(p, common) for p in rows)) for name, rows in train.items()
        }
        for target in sorted(train):
            rows = _prompts(family / target / "validation.jsonl", _TEST)
            test = [_runs(prompt, common) for prompt in rows]
            for source in sorted(train.keys() - {target}):
                again = sum(len(runs & seen[source]) > len(runs) / 2 for runs in test)
                if again:
                    print(f"{family.name}: {again} of {len(test)} rows of {target} in {source}")


def _prompts(path: Path, most: int) -> list[str]:
    with path.open() as stream:
        return [json.loads(line)["prompt"] for line, _ in zip(stream, range(most), strict=False)]


def _common(prompts: list[str]) -> set[str]:
    """Lines that a fifth of the prompts or more have."""
    count = Counter(line.strip() for prompt in prompts for line in prompt.split("\n"))
    return {line for line, times in count.items() if 5 * times >= len(prompts)}


def _runs(prompt: str, common: set[str]) -> set[tuple[str, ...]]:
    """Sequences of four words; none of a text that has fewer than six words."""
    own = " ".join(line for line in prompt.split("\n") if line.strip() not in common)
    words = re.findall(r"\w+", own.lower())
    runs = {tuple(words[at : at + _WORDS]) for at in range(len(words) - _WORDS + 1)}
    return runs if len(runs) > 2 else set()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    main(parser.parse_args().data)
