"""Ordinary data: each form of row through ``load_task``, and what is wrong with mixes of them."""

import os

import pytest

from helpers import prompt_rows, refused, write_json, write_jsonl
from mashup import load_task
from mashup.errors import InputError
from mashup.task.rows import LIMIT

COUNT = 30
BROKEN = "not a JSON object"


def asked(n):
    return f"Is {n} even?"


def answer(n):
    return "no" if n % 2 else "yes"


def said(task):
    """Texts of all rows, in the order of their numbers."""
    turns = (example.messages for part in (task.train, task.dev, task.test) for example in part)
    return sorted(tuple(text for _, text in one) for one in turns)


PLAIN = sorted((asked(n), answer(n)) for n in range(COUNT))
FORMS = {
    "alpaca": (lambda n: {"instruction": asked(n), "input": "", "output": answer(n)}, {}),
    "sharegpt": (
        lambda n: {
            "conversations": [
                {"from": "human", "value": asked(n)},
                {"from": "gpt", "value": answer(n)},
            ]
        },
        {},
    ),
    "parts": (
        lambda n: {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": asked(n)}]},
                {"role": "assistant", "content": [{"type": "text", "text": answer(n)}]},
            ]
        },
        {},
    ),
    "text": (
        lambda n: {"text": f"{asked(n)}\n### Answer: {answer(n)}"},
        {"separator": "### Answer:"},
    ),
    "columns": (
        lambda n: {"question": asked(n), "reply": answer(n), "id": n},
        {"prompt_column": "question", "completion_column": "reply"},
    ),
    "labels": (
        lambda n: {"text": asked(n), "label": n % 2},
        {"prompt_column": "text", "completion_column": "label", "label_names": ["yes", "no"]},
    ),
    "names": (
        lambda n: {"prompt": asked(n), "completion": answer(n)},
        {"label_names": ["yes", "no"]},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "options"), FORMS.values(), ids=FORMS)
def test_each_form_gives_the_same_rows(tmp_path, make, options):
    path = write_jsonl(tmp_path / "a.jsonl", map(make, range(COUNT)))
    task = load_task(path, **options)
    assert said(task) == PLAIN
    plain = load_task(write_jsonl(tmp_path / "b.jsonl", prompt_rows(COUNT)))
    assert task.digest == plain.digest


def test_an_input_follows_the_instruction_and_a_system_text_comes_first(tmp_path):
    rows = [
        {"instruction": "Even?", "input": str(n), "output": answer(n), "system": "Be short."}
        for n in range(COUNT)
    ]
    task = load_task(write_jsonl(tmp_path / "a.jsonl", rows))
    assert ("Be short.", "Even?\n\n4", "yes") in said(task)


def test_whole_numbers_are_answers_and_labels_without_names_stay_numbers(tmp_path):
    rows = [{"prompt": asked(n), "completion": n % 2} for n in range(COUNT)]
    assert said(load_task(write_jsonl(tmp_path / "a.jsonl", rows)))[0] == (asked(0), "0")


@pytest.mark.parametrize("label", [2, -1, "maybe", "1.0"])
def test_a_label_that_is_none_of_the_names_is_a_bad_row(tmp_path, label):
    rows = [*prompt_rows(COUNT), {"prompt": "Is it?", "completion": label}]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    with refused("bad row", where=f"line {COUNT + 1} of", found="is not yes, no or 0 to 1"):
        load_task(path, label_names=["yes", "no"])


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_cells_are_cut_at_what_the_first_line_is_cut_at(tmp_path, between):
    lines = [f'"Is {n}{between} even?"{between}{answer(n)}' for n in range(COUNT)]
    path = tmp_path / ("a.tsv" if between == "\t" else "a.csv")
    path.write_text("\n".join([f"prompt{between}completion", *lines]))
    assert said(load_task(path))[0] == (f"Is 0{between} even?", "yes")


def test_rows_may_be_the_data_of_an_object(tmp_path):
    path = write_json(tmp_path / "a.json", {"version": 1, "data": prompt_rows(COUNT)})
    assert said(load_task(path)) == PLAIN


def test_the_lines_of_a_csv_are_counted_with_line_breaks_in_cells(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('prompt,completion\n"two\nlines",yes\n\nIs it?,\n')
    with refused("bad row", where=f"line 5 of {path}", found="empty completion"):
        load_task(path)


def test_two_formats_in_one_file_are_one_problem_that_names_the_lines(tmp_path):
    others = [FORMS["alpaca"][0](n) for n in range(5)]
    path = write_jsonl(tmp_path / "a.jsonl", [*prompt_rows(COUNT), *others])
    found = "no column 'prompt'; the row has instruction, input, output"
    with refused("bad row", where=f"{COUNT + 3} and 2 more of {path}", found=found) as caught:
        load_task(path)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"instruction": "Is it?", "input": ""}, "no column 'output'"),
        ({"instruction": "Is it?", "output": None}, "nothing in column 'output'"),
        ({"instruction": "Is it?", "output": " "}, "empty completion"),
        ({"instruction": ["Is it?"], "output": "yes"}, "column 'instruction' has list"),
    ],
)
def test_a_bad_row_of_alpaca_says_why(tmp_path, row, found):
    rows = [FORMS["alpaca"][0](n) for n in range(COUNT)]
    with refused("bad row", where=f"line {COUNT + 1} of", found=found):
        load_task(write_jsonl(tmp_path / "a.jsonl", [*rows, row]))


def test_films_and_sound_are_refused_and_columns_that_are_named_are_all_that_is_read(tmp_path):
    """Trainers have them in columns of their own; the texts alone would be another task."""
    row = {"videos": ["a.mp4"], "prompt": "What is <video>?", "completion": "a cat"}
    turns = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "a cat"}]
    with refused("bad row", found="column 'videos' has films or sound"):
        load_task(write_jsonl(tmp_path / "a.jsonl", [{**row, "images": ["a.png"]}] * 9))
    with refused("bad row", found="column 'audios' has films or sound"):
        load_task(write_jsonl(tmp_path / "b.jsonl", [{"audios": ["a.wav"], "messages": turns}] * 9))
    named = {"prompt_column": "asked", "completion_column": "answer"}
    rows = [{"asked": f"Is {n} so?", "answer": "yes", "images": ["a"]} for n in range(60)]
    assert load_task(write_jsonl(tmp_path / "c.jsonl", rows), **named).train


def test_other_bad_rows_say_why(tmp_path):
    film = [{"role": "user", "content": [{"type": "video", "url": "x"}]}]
    human = {"conversations": [{"from": "human", "value": "Is it?"}]}
    with refused("bad row", found="a part of a message is video, not text"):
        load_task(write_jsonl(tmp_path / "a.jsonl", [{"messages": film}]))
    with refused("bad row", found="no assistant turn"):
        load_task(write_jsonl(tmp_path / "a.jsonl", [human]))
    with refused("bad row", found="the text has no separator '=>'"):
        load_task(write_jsonl(tmp_path / "a.jsonl", [{"text": "Is it?"}]), separator="=>")
    with refused("missing column", found="columns text, label"):
        load_task(write_jsonl(tmp_path / "a.jsonl", [{"text": "Is it?", "label": 1}]))
    with refused("bad row", found="no column 'answer'; the row has prompt, completion"):
        path = write_jsonl(tmp_path / "a.jsonl", prompt_rows(1))
        load_task(path, completion_column="answer")


def test_bad_rows_can_be_left_out_and_are_counted_by_their_fault(tmp_path):
    path = write_jsonl(
        tmp_path / "a.jsonl",
        [
            *prompt_rows(COUNT),
            {"prompt": " ", "completion": "yes"},
            {"prompt": "?"},
            {"prompt": "?"},
        ],
    )
    with path.open("a") as stream:
        stream.write("{\n")
    task = load_task(path, drop_bad=True)
    assert said(task) == PLAIN
    assert sorted(task.left_out.values()) == [1, 1, 2]
    assert "left out 2 rows: no column 'completion'; the row has prompt" in task.notes
    with pytest.raises(InputError) as caught:
        load_task(path)
    assert [problem.what for problem in caught.value.problems] == ["bad row"] * 2 + [BROKEN]
    assert caught.value.problems[1].where == f"lines {COUNT + 2}, {COUNT + 3} of {path}"
    with refused("bad row", found="empty prompt"):
        load_task(write_jsonl(path, [{"prompt": "", "completion": "yes"}] * 9), drop_bad=True)


def test_halves_of_characters_and_deep_nesting_are_rows_problems(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", prompt_rows(COUNT))
    with path.open("a") as stream:
        stream.write('{"prompt": "\\ud83d", "completion": "yes"}\n')
        stream.write('{"prompt": "Is it?", "completion": "\\ud83d"}\n')
        stream.write("[" * 100_000 + "\n")
        stream.write('{"prompt": ' + "9" * 5000 + "}\n")
    with pytest.raises(InputError) as caught:
        load_task(path)
    found = {problem.where: (problem.what, problem.found) for problem in caught.value.problems}
    places = [f"line {COUNT + n} of {path}" for n in (1, 2, 3, 4)]
    half = "half of a surrogate pair, as a cut emoji is"
    assert found[f"lines {COUNT + 1}, {COUNT + 2} of {path}"] == ("bad row", half)
    assert found[places[2]] == (BROKEN, "nested too deep")
    assert found[places[3]][0] == BROKEN
    (tmp_path / "b.json").write_text("[" * 100_000)
    with refused("cannot read dataset", found="nested too deep"):
        load_task(tmp_path / "b.json")


def test_what_is_no_plain_file_or_too_large_is_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for name in ("pipe.jsonl", "zero.csv"):
        with refused("cannot read dataset", where=name, found="not a plain file"):
            load_task(tmp_path / name)
    with (tmp_path / "sparse.jsonl").open("wb") as stream:
        stream.truncate(2**40)
    with refused("dataset is too large", where="sparse.jsonl", found="1,099,511,627,776 bytes"):
        load_task(tmp_path / "sparse.jsonl")
    path = write_jsonl(tmp_path / "a.jsonl", prompt_rows(COUNT))
    monkeypatch.setenv(LIMIT, "100")
    with refused("dataset is too large", where="a.jsonl"):
        load_task(path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json", "a.parquet"])
def test_a_file_of_zeros_ends(tmp_path, name):
    with (tmp_path / name).open("wb") as stream:
        stream.truncate(40_000_000)
    with pytest.raises(InputError, match=r"longer than|cannot read dataset|no rows"):
        load_task(tmp_path / name)


def test_rows_in_memory_are_taken_as_a_file_is():
    from datasets import Dataset, DatasetDict

    rows = prompt_rows(COUNT)
    plain = load_task(rows)
    assert said(plain) == PLAIN
    assert load_task(Dataset.from_list(rows)).digest == plain.digest
    held = prompt_rows(40)[COUNT:]
    both = DatasetDict(train=Dataset.from_list(rows), test=Dataset.from_list(held))
    assert load_task(both).digest == load_task(rows, test=held).digest
    with refused("bad row", where="row 2 of the dataset", found="list, not columns and values"):
        load_task([rows[0], ["a"]])
    with refused("dataset has no rows"):
        load_task([])


def test_labels_that_datasets_has_names_for_are_these_names():
    from datasets import ClassLabel, Dataset, Features, Value

    rows = {"prompt": [asked(n) for n in range(COUNT)], "completion": [n % 2 for n in range(COUNT)]}
    kinds = Features({"prompt": Value("string"), "completion": ClassLabel(names=["yes", "no"])})
    assert said(load_task(Dataset.from_dict(rows, features=kinds))) == PLAIN


def test_a_record_and_columns_are_not_given_together():
    with pytest.raises(ValueError, match="a benchmark and names of columns"):
        load_task(prompt_rows(COUNT), record="piqa", prompt_column="goal")
