import json

import pytest

from helpers import refused, write_json, write_jsonl
from mashup.task.formats import LineError
from mashup.task.formats import read_file as numbered

ROWS = [
    {"prompt": "Is it?", "completion": "yes"},
    {"prompt": 'One\u2028line, "said"\x85 näive', "completion": "no\nand no"},
]


def read_file(path):
    return [row for _, row in numbered(path)]


def test_jsonl_is_read_with_blank_lines_a_byte_order_mark_and_separators_in_strings(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert read_file(path) == ROWS


def test_json_csv_and_parquet_give_the_same_rows(tmp_path):
    from datasets import Dataset

    dataset = Dataset.from_list(ROWS)
    dataset.to_csv(tmp_path / "a.csv")
    dataset.to_parquet(tmp_path / "a.parquet")
    write_json(tmp_path / "a.json", ROWS)
    for name in ("a.json", "a.csv", "a.parquet"):
        assert read_file(tmp_path / name) == ROWS


def test_nested_columns_come_out_of_parquet_as_lists_and_objects(tmp_path):
    from datasets import Dataset

    rows = [{"choices": {"text": ["a", "b"], "label": ["A", "B"]}, "messages": [{"role": "user"}]}]
    Dataset.from_list(rows).to_parquet(tmp_path / "a.parquet")
    assert read_file(tmp_path / "a.parquet") == rows


def test_every_bad_line_has_its_number_and_the_good_ones_are_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "Is it?"}\n{"prompt": \n\n["a list"]\n{} {}\n{"n": 1}')
    rows = dict(numbered(path))
    assert [number for number, row in rows.items() if isinstance(row, dict)] == [1, 6]
    assert {number: str(row) for number, row in rows.items() if isinstance(row, LineError)} == {
        2: "Expecting value at character 11",
        4: "list ['a list'], not an object",
        5: "more text at character 3",
    }


def test_an_unknown_suffix_is_refused(tmp_path):
    (tmp_path / "a.txt").touch()
    with refused("unknown kind of dataset", where="a.txt", found=".txt"):
        read_file(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps({"rows": []}).encode()),
        ("a.json", b"["),
        ("a.jsonl", b'{"prompt": "\xff"}'),
        ("a.csv", b"prompt,completion\n" + b"x" * 200_000),
        ("a.parquet", b"no parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with refused("cannot read dataset", where=name):
        read_file(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with refused("cannot read dataset", where="none.jsonl"):
        read_file(tmp_path / "none.jsonl")
