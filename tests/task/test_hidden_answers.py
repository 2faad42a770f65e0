"""Benchmarks that keep their test answers to themselves are tested on their validation rows."""

from helpers import refused, write_jsonl
from mashup import load_task


def rows(count, answer, start=0):
    choices = {"label": ["A", "B"], "text": ["yes", "no"]}
    return [
        {"question": f"{n}?", "question_concept": "n", "choices": choices, "answerKey": answer}
        for n in range(start, start + count)
    ]


def test_validation_takes_the_place_of_a_test_split_without_answers(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", rows(60, "A"))
    write_jsonl(tmp_path / "validation.jsonl", rows(20, "B", 100))
    write_jsonl(tmp_path / "test.jsonl", rows(20, "", 200))
    task = load_task(tmp_path)
    assert len(task.test) == 20
    assert all(example.messages[-1].content == "B" for example in task.test)
    assert len(task.train) + len(task.dev) == 60


def test_a_single_bad_test_row_is_still_told(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", rows(60, "A"))
    write_jsonl(tmp_path / "validation.jsonl", rows(20, "B", 100))
    write_jsonl(tmp_path / "test.jsonl", [*rows(20, "A", 200), *rows(1, "", 300)])
    with refused("bad row", where="line 21 of"):
        load_task(tmp_path)


def test_asking_for_more_rows_than_a_given_split_has_is_refused(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", rows(60, "A"))
    write_jsonl(tmp_path / "test.jsonl", rows(20, "B", 100))
    with refused("too few rows for the splits", where="test"):
        load_task(tmp_path, test_rows=21)


def test_a_test_file_that_was_given_is_never_replaced(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", rows(60, "A"))
    write_jsonl(tmp_path / "validation.jsonl", rows(20, "B", 100))
    given = write_jsonl(tmp_path / "mine.jsonl", rows(20, "", 200))
    with refused("bad row", where="lines 1, 2, 3 and 17 more of"):
        load_task(tmp_path, test=given)


def test_other_faults_of_a_test_split_are_told(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", rows(60, "A"))
    write_jsonl(tmp_path / "validation.jsonl", rows(20, "B", 100))
    write_jsonl(tmp_path / "test.jsonl", [{"question": "?"}] * 20)
    with refused("bad row", found="no column"):
        load_task(tmp_path)
