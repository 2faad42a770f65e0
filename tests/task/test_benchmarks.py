"""The eight benchmarks on their real rows, which lie beside the repository."""

import json

import pytest

from helpers import BENCHMARKS, needs_benchmarks
from mashup.task import load_task
from mashup.task.records import known_records


def labelled(row):
    return dict(zip(row["choices"]["label"], row["choices"]["text"], strict=True))[row["answerKey"]]


def lettered(row):
    letter = row["correct"]
    return row["options"].split(f"{letter} ) ")[-1].split(f" , {chr(ord(letter) + 1)} )")[0]


#: The text of the right option, read off a row without the record that is tested.
RIGHT = {
    "arc_easy": labelled,
    "commonsense_qa": labelled,
    "openbookqa": labelled,
    "hellaswag": lambda row: row["endings"][int(row["label"])],
    "math_qa": lettered,
    "piqa": lambda row: row[("sol1", "sol2")[row["label"]]],
    "social_iqa": lambda row: row["answer" + " ABC"[int(row["label"])]],
    "winogrande": lambda row: row["option" + row["answer"]],
}


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@needs_benchmarks
@pytest.mark.parametrize("record", known_records(), ids=lambda record: record.name)
def test_every_row_becomes_an_example_that_names_the_right_option(record):
    folder = BENCHMARKS / record.name
    task = load_task(folder)
    train, test = read(folder / "train.jsonl"), read(folder / "validation.jsonl")
    assert (task.name, task.record) == (record.name, record.name)
    assert len(task.test) == len(test)
    assert len(task.train) + len(task.dev) + task.dropped == len(train)
    for row in (*train, *test):
        prompt, answer = (message.content for message in record.example(row).messages)
        assert f"\n{answer}. {RIGHT[record.name](row).strip()}\n" in prompt
