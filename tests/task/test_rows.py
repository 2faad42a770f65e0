import pytest

from helpers import prompt_rows, refused, write_json, write_jsonl
from mashup.task import load_task
from mashup.task.rows import read_rows

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
