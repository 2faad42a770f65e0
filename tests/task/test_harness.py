"""Tasks of lm-evaluation-harness as datasets; with the harness itself where it is installed."""

import json
import sys
from types import SimpleNamespace

import pytest

import mashup
from helpers import refused

ALL = [{"q": f"Is {n} even?", "choices": ["yes", "no"], "right": n % 2} for n in range(200)]
ROWS, DEV, TEST = ALL[:160], ALL[160:180], ALL[180:]


def task_of(**given):
    """What the harness's ``ConfigurableTask`` offers, for rows in memory."""
    config = SimpleNamespace(doc_to_text="{{q}}", description=given.pop("description", ""))
    splits = {"training": ROWS, "validation": DEV, "test": TEST} | given
    task = SimpleNamespace(
        config=config,
        OUTPUT_TYPE="multiple_choice",
        multiple_input=0,
        doc_to_text=lambda doc: f"Q: {doc['q']}\nA:",
        doc_to_target=lambda doc: doc["right"],
        doc_to_choice=lambda doc: doc["choices"],
    )
    for name, rows in splits.items():
        setattr(task, f"has_{name}_docs", lambda rows=rows: rows is not None)
        setattr(task, f"{name}_docs", lambda rows=rows: rows)
    return task


@pytest.fixture
def harness(monkeypatch):
    """A stand-in for the harness with the tasks that a test puts into it."""
    tasks = {}

    class TaskManager:
        all_groups, all_tags = ("mmlu",), ()

        def __init__(self, include_path=None):
            self.all_subtasks = list(tasks)

        def load(self, names):
            found = tasks[names[0]]
            if isinstance(found, Exception):
                raise found
            return {"tasks": {names[0]: found}}

    monkeypatch.setitem(sys.modules, "lm_eval", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", SimpleNamespace(TaskManager=TaskManager))
    return tasks


def test_prompts_and_right_choices_of_every_split(harness):
    harness["parity"] = task_of()
    task = mashup.load_task("lm-eval:parity", dev_rows=8)
    assert task.name == "parity"
    assert (len(task.dev), len(task.test)) == (8, 20)
    assert {(one.messages[0].content, one.messages[-1].content) for one in task.test} == {
        (f"Q: {row['q']}\nA:", row["choices"][row["right"]]) for row in TEST
    }


def test_validation_rows_are_trained_on_where_there_are_no_others(harness):
    harness["parity"] = task_of(training=None, validation=ROWS)
    task = mashup.load_task("lm-eval:parity", dev_rows=8)
    assert (len(task.dev), len(task.test)) == (8, 20)


def test_the_first_of_several_right_texts(harness):
    one = task_of()
    one.OUTPUT_TYPE, one.doc_to_target = "generate_until", lambda doc: [f" {doc['q']}", "other"]
    harness["text"] = one
    first = mashup.load_task("lm-eval:text", dev_rows=8).train[0]
    assert first.messages[-1].content.startswith("Is ")


def test_a_row_that_the_task_cannot_read_is_a_bad_row(harness):
    one = task_of(training=[*ROWS, {"q": "?", "choices": ["a"], "right": 3}])
    harness["odd"] = one
    with refused("bad row", where="row 161", found="IndexError"):
        mashup.load_task("lm-eval:odd")
    assert mashup.load_task("lm-eval:odd", drop_bad=True).bad


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("test-only", "test rows only"),
        ("contexts", "several contexts"),
        ("mmlu", "a group of tasks"),
        ("parityy", "lm_eval does not have it"),
        ("offline", "ConnectionError: no network"),
        ("no/such.yaml", "no such file"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(harness, name, found):
    contexts = task_of()
    contexts.multiple_input = 2
    harness |= {
        "parity": task_of(), "test-only": task_of(training=None, validation=None),
        "contexts": contexts, "offline": ConnectionError("no network"),
    }  # fmt: skip
    with pytest.raises(mashup.InputError, match=f"lm-eval:{name}\n  found: {found}"):
        mashup.load_task(f"lm-eval:{name}")


def test_without_the_harness_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(mashup.UsageError, match=r"mashup-learning\[lm-eval\]"):
        mashup.load_task("lm-eval:arc_easy")


def test_the_harness_itself_gives_the_same_rows(tmp_path):
    pytest.importorskip("lm_eval", reason="lm_eval is not installed")
    for split, rows in (("train", ROWS), ("test", TEST)):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "parity.yaml").write_text(
        f"task: parity_here\ndataset_path: json\noutput_type: multiple_choice\n"
        f"dataset_kwargs: {{data_files: {{train: {tmp_path}/train.jsonl, "
        f"test: {tmp_path}/test.jsonl}}}}\n"
        "training_split: train\ntest_split: test\ndescription: 'Answer. '\n"
        "doc_to_text: '{{q}}'\ndoc_to_target: right\ndoc_to_choice: choices\n"
    )
    task = mashup.load_task(f"lm-eval:{tmp_path}/parity.yaml", dev_rows=8)
    pairs = {(one.messages[0].content, one.messages[-1].content) for one in task.test}
    assert pairs == {(f"Answer. {row['q']}", row["choices"][row["right"]]) for row in TEST}
