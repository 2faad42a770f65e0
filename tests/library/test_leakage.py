"""What is known of a source's training data: prompts of ours, datasets of others, and nothing."""

import json

import pytest
from datasets import Dataset

from helpers import prompt_rows, refused, write_adapter, write_jsonl
from mashup import Problem, load_task, scan
from mashup.library.leakage import Texts, leak_notes, leaking, seen_of, usable_sources
from mashup.task import taught_prompts

WORDS = [f"word{n}" for n in range(400)]


def sentence(number, count=20):
    """A sentence of words that no other number has in this order."""
    return " ".join(WORDS[(number * 7 + step * (number + 3)) % 400] for step in range(count))


def rows_of(numbers, count=20):
    return [{"text": sentence(n, count), "label": "yes" if n % 2 else "no"} for n in numbers]


@pytest.fixture
def task(tmp_path):
    """Sixty sentences in a template; 100 to 159."""
    rows = [
        {"prompt": f"Decide if this is true. Text: {row['text']}!\nAnswer:",
         "completion": row["label"]}
        for row in rows_of(range(100, 160))
    ]  # fmt: skip
    return load_task(write_jsonl(tmp_path / "task.jsonl", rows))


def texts_of(examples):
    return [one.messages[0].content.partition("Text: ")[2].partition("!")[0] for one in examples]


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """The caches of the Hub and of datasets, empty."""
    hub, prepared = tmp_path / "cache/hub", tmp_path / "cache/datasets"
    hub.mkdir(parents=True)
    prepared.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(prepared))
    return hub, prepared


def source(tmp_path, name, datasets=(), **config):
    folder = write_adapter(tmp_path / "lib" / name, seed=len(name), **config)
    if datasets:
        listed = "".join(f"- {one}\n" for one in datasets)
        (folder / "README.md").write_text(f"---\ndatasets:\n{listed}---\n# A model\n")
    return folder


def seen(tmp_path, task, sample=None):
    found = seen_of(scan(tmp_path / "lib").checkpoints, task, sample)
    return {one.path.rpartition("/")[2]: one for one in found}


def test_our_own_prompts_tell_of_held_out_rows_and_of_the_sample(tmp_path):
    task = load_task(write_jsonl(tmp_path / "d.jsonl", prompt_rows(90)))
    sample = task.sample(10, 7)
    folder = source(tmp_path, "ours")
    (folder / "train_prompts.txt").write_text("\n".join(taught_prompts([*sample[:4], *task.dev])))
    found = seen(tmp_path, task, sample)["ours"]
    assert found.sample == 0.4
    assert found.held_out == len(task.dev) / (len(task.dev) + len(task.test))
    assert (found.by, found.unknown) == ("", "")


def test_rows_in_a_dataset_of_the_hubs_cache_are_found(tmp_path, task, caches):
    held = texts_of(task.test)[:5]
    rows = [*rows_of(range(30)), *({"text": f"{text.upper()}.", "label": "x"} for text in held)]
    write_jsonl(caches[0] / "datasets--Some-One--my_set/snapshots/abc/data/train.jsonl", rows)
    everything = [{"text": text} for text in texts_of([*task.train, *task.dev, *task.test])]
    write_jsonl(caches[0] / "datasets--Some-One--my_set/snapshots/abc/data/test.jsonl", everything)
    source(tmp_path, "theirs", ["some-one/My-Set"])
    found = seen(tmp_path, task)["theirs"]
    assert found.held_out == 5 / (len(task.dev) + len(task.test))
    assert (found.sample, found.by, found.unknown) == (0.0, "some-one/My-Set", "")
    problem = leaking(scan(tmp_path / "lib").checkpoints, task)[str(tmp_path / "lib/theirs")]
    assert isinstance(problem, Problem)
    assert "are in some-one/My-Set, which it names" in problem.found


def test_rows_that_datasets_has_prepared_are_found(tmp_path, task, caches):
    rows = [{"messages": [{"role": "user", "content": text}]} for text in texts_of(task.train)]
    folder = caches[1] / "owner___chat/default/0.0.0/abc"
    Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    folder.mkdir(parents=True)
    (tmp_path / "saved/data-00000-of-00001.arrow").rename(folder / "chat-train.arrow")
    source(tmp_path, "theirs", ["owner/chat"])
    found = seen(tmp_path, task)["theirs"]
    assert (found.held_out, found.sample) == (0.0, 1.0)


def test_a_file_that_the_trainers_state_names_is_read(tmp_path, task, caches):
    folder = source(tmp_path, "run")
    rows = rows_of(range(100, 110))
    write_jsonl(folder / "train.jsonl", rows)
    (folder / "trainer_state.json").write_text(json.dumps({"train_file": "train.jsonl"}))
    found = seen(tmp_path, task)["run"]
    assert found.by == "train.jsonl"
    both = len(task.train) * found.sample + (len(task.dev) + len(task.test)) * found.held_out
    assert round(both) == 10


def test_a_card_names_no_file(tmp_path, task, caches):
    file = write_jsonl(tmp_path / "train.jsonl", rows_of(range(100, 110)))
    source(tmp_path, "run", [str(file)])
    assert "is not here" in seen(tmp_path, task)["run"].unknown


def test_what_cannot_be_known_is_said_with_the_reason(tmp_path, task, caches):
    source(tmp_path, "mute")
    source(tmp_path, "elsewhere", ["owner/absent", "../../secrets"])
    source(tmp_path, "broken", ["owner/odd"])
    odd = caches[0] / "datasets--owner--odd/snapshots/abc/train.jsonl"
    odd.parent.mkdir(parents=True)
    odd.write_bytes(b"\xff\xfe\x00")
    found = seen(tmp_path, task)
    assert found["mute"].unknown == "no list of prompts, and no dataset is named"
    assert found["elsewhere"].unknown == "owner/absent, ../../secrets is named and is not here"
    assert found["broken"].unknown == "owner/odd is named and is not here"
    (note,) = leak_notes(scan(tmp_path / "lib").checkpoints, task, task.train)
    assert "not known whether 3 of 3 checkpoints trained on rows of task" in note


def test_a_source_whose_dataset_has_held_out_rows_is_left_out(tmp_path, task, caches):
    write_jsonl(caches[0] / "datasets--a--b/snapshots/c/train.jsonl", rows_of(range(100, 160)))
    source(tmp_path, "thief", ["a/b"])
    with refused("trained on the held-out rows"):
        usable_sources(scan(tmp_path / "lib"), task, is_full=False)
    source(tmp_path, "clean")
    kept, left_out = usable_sources(scan(tmp_path / "lib"), task, is_full=False)
    assert [one.name for one in kept.checkpoints] == ["clean"]
    assert [problem.where.rpartition("/")[2] for problem in left_out] == ["thief"]
    notes = leak_notes(scan(tmp_path / "lib").checkpoints, task, task.train)
    assert [note.partition(" ")[0] for note in notes] == ["thief", "thief", "it"]
    assert "trained on up to 100% of the scoring sample" in notes[1]


# The search itself


def rows(*texts):
    return [{"text": text} for text in texts]


def test_half_of_the_13_grams_are_enough_and_a_quotation_is_not():
    long = sentence(1, 60)
    wanted = Texts([long, sentence(2, 60), sentence(3, 60)])
    words = long.split()
    assert wanted.rows_in(rows("so: " + long)) == {0}
    assert wanted.rows_in(rows(" ".join(words[:40]))) == {0}
    assert wanted.rows_in(rows(" ".join(words[:30]))) == set()
    assert wanted.rows_in(rows(" ".join(words[::-1]))) == set()


def test_the_template_of_a_task_and_of_a_column_is_not_the_row():
    template = "Read the following review of a film and say if its writer liked the film: {} Answer"
    wanted = Texts([template.format(sentence(n, 9)) for n in range(5)])
    assert wanted.rows_in(rows(*(template.format(sentence(n, 9)) for n in range(20, 30)))) == set()
    assert wanted.rows_in(rows(sentence(3, 9), sentence(50, 9))) == {3}
    other = "Sentence: {} It was"
    assert wanted.rows_in(rows(*(other.format(sentence(n, 9)) for n in (2, 51, 52)))) == {2}


def test_very_short_texts_are_not_looked_for():
    wanted = Texts(["good film", "bad film", "a very good film"])
    assert wanted.rows_in(rows("good film", "bad film", "x", "a very good film indeed")) == set()


def test_an_empty_dataset_and_an_empty_task():
    assert Texts([]).rows_in(rows("a b c d e f")) == set()
    assert Texts(["a b c d e f g"]).rows_in([]) == set()
