import pytest

from helpers import prompt_rows, refused, write_jsonl
from mashup.errors import InputError
from mashup.task import load_task

PIQA = {"goal": "Cool it.", "sol1": "Freeze it.", "sol2": "Cook it.", "label": 0}


def test_a_file_becomes_a_task_with_three_splits(tmp_path):
    task = load_task(write_jsonl(tmp_path / "tickets.jsonl", prompt_rows(100)))
    assert (len(task.train), len(task.dev), len(task.test)) == (72, 8, 20)
    assert (task.name, task.record, task.dropped, task.seed) == ("tickets", None, 0, 42)


def test_sizes_and_seed_are_obeyed(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", prompt_rows(100))
    task = load_task(path, train_rows=20, dev_rows=10, test_rows=12, seed=7)
    assert (len(task.train), len(task.dev), len(task.test), task.seed) == (20, 10, 12, 7)
    assert task.test != load_task(path, test_rows=12).test


def test_training_rows_that_are_in_the_test_file_are_dropped_and_counted(tmp_path):
    train = write_jsonl(tmp_path / "a.jsonl", prompt_rows(100))
    test = write_jsonl(tmp_path / "b.jsonl", prompt_rows(10))
    task = load_task(train, test=test)
    assert (len(task.test), task.dropped, len(task.train) + len(task.dev)) == (10, 10, 90)


def test_the_sample_is_drawn_from_the_training_rows_by_seed(tmp_path):
    task = load_task(write_jsonl(tmp_path / "a.jsonl", prompt_rows(100)))
    sample = task.sample(16)
    assert len(set(sample)) == 16
    assert set(sample) < set(task.train)
    assert sample == task.sample(16) == task.sample(32)[:16]
    assert sample != task.sample(16, seed=7)
    assert set(task.sample()) == set(task.train)


def test_the_digest_tells_content_and_splits_but_not_order_or_name(tmp_path):
    rows = prompt_rows(100)
    digest = load_task(write_jsonl(tmp_path / "a.jsonl", rows)).digest
    path = write_jsonl(tmp_path / "b.jsonl", reversed(rows))
    assert load_task(path).digest == digest
    assert load_task(path, seed=1).digest != digest
    assert load_task(path, train_rows=20).digest != digest


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("tickets.jsonl", "tickets"),
        ("trec/train.jsonl", "trec"),
        ("trec", "trec"),
        ("tickets-v1.5", "tickets-v1.5"),
        ("a:b.jsonl", "a:b"),
    ],
)
def test_a_task_is_called_after_its_file_or_folder(tmp_path, path, name):
    file = tmp_path / path if path.endswith(".jsonl") else tmp_path / path / "train.jsonl"
    write_jsonl(file, prompt_rows(30))
    assert load_task(tmp_path / path).name == name
    assert load_task(tmp_path / path, name="mine").name == "mine"


def test_a_dataset_in_the_current_folder_has_that_folders_name(tmp_path, monkeypatch):
    write_jsonl(tmp_path / "trec" / "train.jsonl", prompt_rows(30))
    monkeypatch.chdir(tmp_path / "trec")
    assert load_task(".").name == load_task("train.jsonl").name == "trec"


def test_a_benchmark_is_known_by_its_columns_or_named(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [PIQA | {"goal": f"Goal {n}."} for n in range(30)])
    assert load_task(path).record == load_task(path, record="piqa").record == "piqa"
    with refused("bad row", where="row 1", found="no column 'sentence'"):
        load_task(path, record="winogrande")
    with refused("unknown task record", found="pica"):
        load_task(path, record="pica")


def test_columns_that_nobody_knows_are_listed(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "Is it?", "label": "yes"}])
    with refused("missing column", where=str(path), found="columns text, label"):
        load_task(path)


def test_unknown_columns_of_a_csv_with_cells_to_spare_are_listed(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nIs it?,yes,indeed\n")
    with refused("missing column", found="columns text, label, None"):
        load_task(tmp_path / "a.csv")


def test_bad_rows_are_named_all_at_once_up_to_ten(tmp_path):
    rows = prompt_rows(100)
    for number in (3, 5):
        rows[number - 1]["completion"] = " "
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(InputError) as caught:
        load_task(path)
    found = [(problem.where, problem.found) for problem in caught.value.problems]
    assert found == [(f"{path} (train), row {n}", "empty completion") for n in (3, 5)]
    with pytest.raises(InputError) as caught:
        load_task(write_jsonl(path, [{"prompt": "", "completion": "yes"}] * 25))
    assert len(caught.value.problems) == 11
    assert caught.value.problems[-1].where == "and 15 more of this dataset"


def test_bad_rows_of_the_test_set_are_named_as_such(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", prompt_rows(30))
    write_jsonl(tmp_path / "test.jsonl", [{"prompt": "Is it?"}])
    with refused("bad row", where="(test), row 1", found="no column 'completion'"):
        load_task(tmp_path)


def test_too_few_rows_are_refused(tmp_path):
    with refused("too few rows for the splits", where="a.jsonl", found="20 rows"):
        load_task(write_jsonl(tmp_path / "a.jsonl", prompt_rows(20)))
