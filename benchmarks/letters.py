"""Does a base know the right choice, and can it name its letter?

    .venv/bin/python benchmarks/letters.py DATA OUTPUT [--model MODEL] [--rows N] [--text-rows N]
        [--benchmarks NAME,NAME]

DATA has a folder a benchmark, as ``recipes/smollm2-benchmarks.yaml`` says. Its test rows are asked
twice of the untrained base. By letter: which label is the likeliest answer to the prompt that
training uses, all choices before it; the prompt is run once for all labels. By text: which choice's
text is the likeliest, a token, after the question alone (as Brown et al. 2020, arXiv 2005.14165,
section 2.4, without their correction by an unconditional context). Each benchmark's shares and CPU
seconds a row are written to OUTPUT (JSON) as soon as they are there; the same command again asks
only what is missing. Prints one table.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mashup import load_base, load_task
from mashup.demo.base import demo_base
from mashup.evaluate.answers import evaluate_sample, task_answers
from mashup.evaluate.evaluate import evaluate, plain_batches
from mashup.model import Base
from mashup.task import Example, Task, Tokens, tokenize

LONGEST = 1024  # tokens
CHOICE = re.compile(r"^(\w+)\. (.*)$")  # a line of the prompt: label and text


def main() -> None:
    given = _arguments()
    found = json.loads(given.output.read_text()) if given.output.exists() else {}
    base = load_base(given.model or demo_base())
    asked = given.benchmarks.split(",") if given.benchmarks else _benchmarks(given.data)
    for kind, rows, ask in (
        ("letter", given.rows, _by_letter),
        ("text", given.text_rows, _by_text),
    ):
        for name in asked:
            known = found.setdefault(name, {})
            if kind not in known and rows:
                task = load_task(given.data / name, train_rows=256, dev_rows=64, test_rows=rows)
                known[kind] = _measured(base, task, ask)
                print(name, kind, known[kind], file=sys.stderr, flush=True)
                given.output.write_text(json.dumps(found, indent=1) + "\n")
    print(_table(found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--rows", type=int, default=200, help="asked by letter")
    parser.add_argument("--text-rows", type=int, default=200, help="asked by text")
    parser.add_argument("--benchmarks", default="", help="names with commas; all by default")
    return parser.parse_args()


def _benchmarks(data: Path) -> list[str]:
    return sorted(path.name for path in data.iterdir() if path.is_dir())


def _measured(base: Base, task: Task, ask: Callable[[Base, Task], NDArray[Any]]) -> dict[str, Any]:
    """Rows, shares that are right and right by chance, standard error and CPU seconds a row."""
    start = time.process_time()
    right = ask(base, task) == np.array([_right(example) for example in task.test])
    choices = [len(_choices(example)) for example in task.test]
    return {
        "rows": len(right),
        "labels": max(choices),
        "chance": float(np.mean([1 / count for count in choices])),
        "right": float(right.mean()),
        "error": float(right.std(ddof=1) / len(right) ** 0.5),
        "cpu_seconds_a_row": (time.process_time() - start) / len(right),
    }


def _table(found: dict[str, Any]) -> str:
    lines = [
        "| Benchmark | labels | by chance | by letter | by text |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, shares in sorted(found.items()):
        cells = [_cell(shares.get(kind)) for kind in ("letter", "text")]
        one = next(iter(shares.values()))
        lines.append(f"| {name} | {one['labels']} | {one['chance']:.1%} | {' | '.join(cells)} |")
    return "\n".join(lines).replace("%", " %")


def _cell(share: dict[str, Any] | None) -> str:
    if share is None:
        return ""
    return f"{share['right']:.1%} ± {100 * share['error']:.1f} ({share['rows']} rows)"


def _by_letter(base: Base, task: Task) -> NDArray[Any]:
    """Place of the likeliest label among each row's choices."""
    tokens = tokenize(base.tokenizer, task.test, max_length=LONGEST)
    answers = task_answers(base, task, tokens, seed=0)
    logs = evaluate_sample(base, tokens, answers).answers
    assert logs is not None
    columns = [[answers.texts.index(label) for label, _ in _choices(e)] for e in task.test]
    return np.array([int(row[own].argmax()) for row, own in zip(logs, columns, strict=True)])


def _by_text(base: Base, task: Task) -> NDArray[Any]:
    """Place of the choice whose text has the least loss a token, of every row."""
    choices = [_texts(base, example) for example in task.test]
    flat = [tokens for row in choices for tokens in row]
    found = evaluate(base.model, plain_batches(base, flat))
    ends = np.cumsum([len(row) for row in choices])
    rows = np.split(found.losses / found.tokens, ends[:-1])
    return np.array([int(row.argmin()) for row in rows])


def _texts(base: Base, example: Example) -> list[Tokens]:
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
