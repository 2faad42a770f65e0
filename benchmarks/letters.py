"""Does a model that cannot name the letter of the right choice know the choice?

    .venv/bin/python benchmarks/letters.py DATA [--model MODEL] [--rows N]

DATA has a folder a benchmark, as ``recipes/smollm2-benchmarks.yaml`` says. Each of its test rows is
asked twice of the untrained base: which label is the likeliest answer to the prompt that training
uses, all choices before it; and which choice's text is the likeliest, a token, after the question
alone (as Brown et al. 2020, arXiv 2005.14165, section 2.4, without their correction by an
unconditional context). Prints one table; some ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mashup import load_base, load_task
from mashup.demo.base import demo_base
from mashup.evaluate.evaluate import evaluate, plain_batches
from mashup.model import Base
from mashup.task import Example, Task, Tokens, tokenize

LONGEST = 1024  # tokens
CHOICE = re.compile(r"^(\w+)\. (.*)$")  # a line of the prompt: label and text


def main() -> None:
    given = _arguments()
    base = load_base(given.model or demo_base())
    print("| Benchmark | labels | by chance | by letter | by text |")
    print("| --- | ---: | ---: | ---: | ---: |")
    shares = []
    for folder in sorted(path for path in given.data.iterdir() if path.is_dir()):
        task = load_task(folder, train_rows=256, dev_rows=64, test_rows=given.rows)
        shares.append(_shares(base, task))
        print(_line(task.name, len(_choices(task.test[0])), shares[-1]), flush=True)
    print(_line("mean", None, tuple(np.mean(shares, axis=0))))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--rows", type=int, default=200)
    return parser.parse_args()


def _line(name: str, labels: int | None, shares: Sequence[float]) -> str:
    cells = " | ".join(f"{100 * share:.1f} %" for share in shares)
    return f"| {name} | {labels or ''} | {cells} |"


def _shares(base: Base, task: Task) -> tuple[float, float, float]:
    """Shares that are right by chance, by the label's loss and by the text's."""
    right = [_right(example) for example in task.test]
    chance = np.mean([1 / len(_choices(example)) for example in task.test])
    letters = _likeliest(base, [_by_letter(base, example) for example in task.test])
    texts = _likeliest(base, [_by_text(base, example) for example in task.test])
    return float(chance), float(np.mean(letters == right)), float(np.mean(texts == right))


def _likeliest(base: Base, choices: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """Index of the choice with the least loss a token, of every row."""
    flat = [tokens for row in choices for tokens in row]
    found = evaluate(base.model, plain_batches(base, flat))
    ends = np.cumsum([len(row) for row in choices])
    rows = np.split(found.losses / found.tokens, ends[:-1])
    return np.array([int(row.argmin()) for row in rows])


def _by_letter(base: Base, example: Example) -> tuple[Tokens, ...]:
    prompt = example.messages[0].content
    asked = [Example.of(prompt, label) for label, _ in _choices(example)]
    return tokenize(base.tokenizer, asked, max_length=LONGEST)


def _by_text(base: Base, example: Example) -> list[Tokens]:
    """Without the chat template, the choices and what the prompt says of them."""
    question = example.messages[0].content.split("\n\n")[1]
    head = tuple(base.tokenizer(f"Question: {question}\nAnswer:")["input_ids"])
    ends = [tuple(base.tokenizer(f" {text}")["input_ids"]) for _, text in _choices(example)]
    return [Tokens(head + end, (False,) * len(head) + (True,) * len(end)) for end in ends]


def _choices(example: Example) -> list[tuple[str, str]]:
    """Label and text of every choice, from the prompt."""
    block = example.messages[0].content.split("\n\n")[-2]
    found = [CHOICE.match(line) for line in block.splitlines()]
    return [(match[1], match[2]) for match in found if match]


def _right(example: Example) -> int:
    return [label for label, _ in _choices(example)].index(example.messages[-1].content)


if __name__ == "__main__":
    main()
