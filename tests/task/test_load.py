import itertools

import pytest

from helpers import prompt_rows, refused, write_jsonl
from mashup.errors import InputError
from mashup.files import digest_of
from mashup.task import load_task
from mashup.task.example import Example
from mashup.task.examples import Store

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
    with refused("bad row", where="lines 1, 2, 3 and 27 more of", found="no column 'sentence'"):
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


def test_bad_rows_are_named_by_their_lines_and_equal_faults_are_counted(tmp_path):
    rows = [*prompt_rows(100), *prompt_rows(1)]
    for line in (3, 5, 101):
        rows[line - 1] = rows[line - 1] | {"completion": " "}
    rows[7]["prompt"] = ""
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(InputError) as caught:
        load_task(path)
    found = [(problem.where, problem.found) for problem in caught.value.problems]
    lines = f"lines 3, 5, 101 of {path}"
    assert found == [(lines, "empty completion"), (f"line 8 of {path}", "empty prompt")]
    with pytest.raises(InputError) as caught:
        load_task(write_jsonl(path, [{"prompt": "", "completion": "yes"}] * 25))
    (problem,) = caught.value.problems
    assert problem.where == f"lines 1, 2, 3 and 22 more of {path}"


def test_at_most_ten_different_faults_are_listed(tmp_path):
    rows = [{"messages": [{"role": f"role{n}", "content": "?"}]} for n in range(25)]
    with pytest.raises(InputError) as caught:
        load_task(write_jsonl(tmp_path / "a.jsonl", rows))
    assert len(caught.value.problems) == 11
    assert caught.value.problems[-1].where == "and 15 more of this dataset"


def test_bad_rows_of_the_test_set_are_named_as_such(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", prompt_rows(30))
    test = write_jsonl(tmp_path / "test.jsonl", [*prompt_rows(1), {"prompt": "Is it?"}])
    with refused("bad row", where=f"line 2 of {test}", found="no column 'completion'"):
        load_task(tmp_path)


def test_too_few_rows_are_refused(tmp_path):
    with refused("too few rows for the splits", where="a.jsonl", found="20 rows"):
        load_task(write_jsonl(tmp_path / "a.jsonl", prompt_rows(20)))


def conversations(count):
    turns = (
        [("system", "Be short."), ("user", f"Topic {n % 40} é"), ("assistant", "Ask."),
         ("user", f"Legs of {n}?"), ("assistant", str(n % 9))]
        for n in range(count)
    )  # fmt: skip
    return [{"messages": [{"role": r, "content": t} for r, t in one]} for one in turns]


def shots(count):
    shot = [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"}]
    return [
        {"prompt": [*shot, {"role": "user", "content": f"{n}+1"}], "completion": str(n + 1)}
        for n in range(count)
    ]


DOUBLED = [*prompt_rows(100), *prompt_rows(30), {"prompt": " Is  4 even? ", "completion": "so"}]
SIZES = {"seed": 7, "train_rows": 20, "dev_rows": 10, "test_rows": 12}
PINNED = [
    ({"train": DOUBLED}, {}, (95, 10, 26, 0), "d31614b4af79cd62"),
    ({"train": DOUBLED}, SIZES, (20, 10, 13, 0), "bc9eb75241223a86"),
    ({"train": prompt_rows(100), "test": prompt_rows(110)[90:]}, {}, (81, 9, 20, 10),
     "a43d30e92d68b551"),
    ({"train": conversations(120)}, {}, (87, 9, 24, 0), "b572b50ec0789178"),
    ({"train": shots(60)}, {}, (40, 8, 12, 0), "60cda53f51b139af"),
    ({"train": prompt_rows(60), "validation": prompt_rows(70)[50:]}, {}, (42, 8, 20, 10),
     "851fcb97648770d0"),
    ({"train": prompt_rows(60), "dev": prompt_rows(70)[50:], "test": prompt_rows(85)[65:]}, {},
     (50, 15, 20, 10), "67bebffa0eea29dc"),
    ({"train": [PIQA | {"goal": f"Goal {n}.", "label": n % 2} for n in range(40)]}, {},
     (24, 8, 8, 0), "40cb898e739c591e"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "options", "sizes", "digest"), PINNED)
def test_splits_stay_what_they_are(tmp_path, files, options, sizes, digest):
    """Published results depend on them: these digests are of the version that made those."""
    for name, rows in files.items():
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    task = load_task(tmp_path, **options)
    assert (len(task.train), len(task.dev), len(task.test), task.dropped) == sizes
    assert task.digest.startswith(digest)


def test_the_sample_stays_what_it_is(tmp_path):
    task = load_task(write_jsonl(tmp_path / "a.jsonl", DOUBLED))
    sample = [example.messages for example in task.sample(16)]
    assert digest_of(sample).startswith("9c1d96462656c7ac")


def test_an_example_knows_its_line(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", prompt_rows(40))
    for example in load_task(path).sample(8):
        number = int(example.messages[0].content.split()[1])
        assert example.where == f"line {number + 1} of {path}"


def test_pairs_are_kept_as_their_examples_are():
    texts = ("a", "ü\n  b", '"\\', "\u2028", "x " * 300)
    one, other = Store(), Store()
    for number, (prompt, completion) in enumerate(itertools.product(texts, texts)):
        one.add(Example.of(prompt, completion), number)
        other.add_pair(prompt, completion, number)
    assert one == other


@pytest.mark.parametrize("line", ["null", "3", '"text"', "[{}]", '{"prompt": "p"} x', "{'a': 1}"])
def test_a_line_that_is_no_object_is_a_bad_row(tmp_path, line):
    path = write_jsonl(tmp_path / "a.jsonl", prompt_rows(60))
    path.write_text(f"{line}\n\n \n" + path.read_text())
    with pytest.raises(InputError, match="not a JSON object: line 1 of"):
        load_task(path)
