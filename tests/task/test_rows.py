import json
import time

import pytest

from helpers import prompt_rows, refused, write_json, write_jsonl
from hubserver import serving
from mashup.task import load_task
from mashup.task.rows import LineError, read_file, read_rows

A, B, C = prompt_rows(30)[:10], prompt_rows(30)[10:20], prompt_rows(30)[20:]


def splits(source, **options):
    found = read_rows(str(source), **options)
    sources = (found.train, found.dev, found.test)
    return tuple([row for _, row in one.read()] if one else [] for one in sources)


def test_a_file_is_all_train(tmp_path):
    assert splits(write_jsonl(tmp_path / "a.jsonl", A)) == (A, [], [])


def test_a_folder_gives_its_splits_in_any_format(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", A)
    write_json(tmp_path / "validation.json", B)
    assert splits(tmp_path) == (A, [], B)
    write_jsonl(tmp_path / "test.jsonl", C)
    assert splits(tmp_path) == (A, B, C)


def test_test_rows_can_come_from_a_file_of_their_own(tmp_path):
    folder = tmp_path / "task"
    write_jsonl(folder / "train.jsonl", A)
    write_jsonl(folder / "dev.jsonl", B)
    write_jsonl(folder / "test.jsonl", B)
    test = write_jsonl(tmp_path / "other.jsonl", C)
    assert splits(folder, test=str(test)) == (A, B, C)


@pytest.mark.parametrize("named", [True, False])
def test_a_folder_that_datasets_saved_is_read(tmp_path, named):
    from datasets import Dataset, DatasetDict

    train = Dataset.from_list(A)
    saved = DatasetDict(train=train, validation=Dataset.from_list(B)) if named else train
    saved.save_to_disk(tmp_path / "saved")
    assert splits(tmp_path / "saved") == (A, [], B if named else [])


def test_a_damaged_folder_of_datasets_is_refused(tmp_path):
    write_json(tmp_path / "state.json", {})
    with refused("cannot read dataset", where=str(tmp_path)):
        read_rows(str(tmp_path))


def test_a_dataset_without_rows_is_refused(tmp_path):
    rows, none = write_jsonl(tmp_path / "a.jsonl", A), write_jsonl(tmp_path / "none.jsonl", [])
    with refused("dataset has no rows", where="none.jsonl"):
        load_task(str(none))
    with refused("dataset has no rows", where="none.jsonl"):
        load_task(str(rows), test=str(none))


def test_a_folder_without_a_dataset_is_refused(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", A)
    with refused("no dataset in the folder", where=str(tmp_path)):
        read_rows(str(tmp_path))


def test_a_missing_file_is_refused_without_asking_the_hub(tmp_path):
    for source in (f"{tmp_path}/none", "none.jsonl", "./none"):
        with refused("no such dataset", where=source):
            read_rows(source)


def test_a_hub_id_that_cannot_be_reached_is_refused():
    with refused("no such file or Hub dataset", where="owner/no-such-dataset:config"):
        read_rows("owner/no-such-dataset:config")


ROWS = [
    {"prompt": "Is it?", "completion": "yes"},
    {"prompt": 'One\u2028line, "said"\x85 näive', "completion": "no\nand no"},
]


def read(path):
    return [row for _, row in read_file(path)]


def test_jsonl_is_read_with_blank_lines_a_byte_order_mark_and_separators_in_strings(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert read(path) == ROWS


def test_json_csv_and_parquet_give_the_same_rows(tmp_path):
    from datasets import Dataset

    dataset = Dataset.from_list(ROWS)
    dataset.to_csv(tmp_path / "a.csv")
    dataset.to_parquet(tmp_path / "a.parquet")
    write_json(tmp_path / "a.json", ROWS)
    for name in ("a.json", "a.csv", "a.parquet"):
        assert read(tmp_path / name) == ROWS


def test_nested_columns_come_out_of_parquet_as_lists_and_objects(tmp_path):
    from datasets import Dataset

    rows = [{"choices": {"text": ["a", "b"], "label": ["A", "B"]}, "messages": [{"role": "user"}]}]
    Dataset.from_list(rows).to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == rows


def test_every_bad_line_has_its_number_and_the_good_ones_are_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "Is it?"}\n{"prompt": \n\n["a list"]\n{} {}\n{"n": 1}')
    rows = dict(read_file(path))
    assert [number for number, row in rows.items() if isinstance(row, dict)] == [1, 6]
    assert {number: str(row) for number, row in rows.items() if isinstance(row, LineError)} == {
        2: "Expecting value at character 11",
        4: "list ['a list'], not an object",
        5: "more text at character 3",
    }


def test_an_unknown_suffix_is_refused(tmp_path):
    (tmp_path / "a.txt").touch()
    with refused("unknown kind of dataset", where="a.txt", found=".txt"):
        read(tmp_path / "a.txt")


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
        read(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with refused("cannot read dataset", where="none.jsonl"):
        read(tmp_path / "none.jsonl")


def test_a_hub_without_the_dataset_or_without_a_connection_is_noticed_in_seconds(
    tmp_path, monkeypatch, capfd
):
    with serving(tmp_path):
        with refused("no such file or Hub dataset", found="no such dataset on the Hub"):
            read_rows("owner/none")
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
        start = time.monotonic()
        with refused("no such file or Hub dataset", found="the Hub cannot be reached"):
            read_rows("owner/none")
        assert time.monotonic() - start < 5
    assert "Retrying" not in capfd.readouterr().err
