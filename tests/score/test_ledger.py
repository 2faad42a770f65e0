import math
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from helpers import assert_problem, damage_a_page, make_read_only
from mashup._score.ledger import VERSION, Ledger, Measured
from mashup.library import Index, database

ROW = Measured("base", "donor", "task", "a task", 64, 0.5, 0.75, 0.25, at=1.0)


def rows_of(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT * FROM measured ORDER BY base, donor, task").fetchall()


def keep(root, *rows):
    with Ledger(root) as ledger:
        assert ledger.problem is None
        ledger.keep(rows)
    return ledger.path


def test_it_lies_beside_the_index(tmp_path):
    with Ledger(tmp_path) as ledger, Index(tmp_path) as index:
        assert ledger.path == tmp_path / ".mashup" / "ledger.sqlite"
        assert ledger.path.parent == index.path.parent


def test_it_lies_beside_the_index_of_a_library_that_cannot_be_written(tmp_path):
    (tmp_path / ".mashup").touch()
    with Ledger(tmp_path) as ledger, Index(tmp_path) as index:
        assert ledger.path.parent == index.path.parent
        assert tmp_path not in ledger.path.parents


def test_all_that_was_measured_is_remembered(tmp_path):
    path = keep(tmp_path, ROW)
    row = ("base", "donor", "task", "a task", 64, 0.5, 0.75, 1.0, 0.25)
    assert rows_of(path) == [row]
    keep(tmp_path)
    assert rows_of(path) == [row]


@pytest.mark.parametrize(("examples", "loss"), [(63, 0.5), (64, 0.1), (65, 0.1)])
def test_only_as_many_examples_replace_what_is_known(tmp_path, examples, loss):
    path = keep(tmp_path, ROW, replace(ROW, examples=examples, loss=0.1))
    assert rows_of(path)[0][5] == loss


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_unknown(tmp_path, bad):
    half = replace(ROW, donor="half", loss=bad, knowledge=bad)
    path = keep(tmp_path, replace(ROW, loss=bad, accuracy=bad), half)
    assert rows_of(path) == [("base", "half", "task", "a task", 64, None, 0.75, 1.0, None)]


def test_a_measurement_without_knowledge_does_not_forget_it(tmp_path):
    path = keep(tmp_path, ROW, replace(ROW, examples=65, knowledge=None))
    assert (rows_of(path)[0][4], rows_of(path)[0][8]) == (65, 0.25)


def test_the_matrix_has_a_row_a_donor_and_a_column_a_known_task(tmp_path):
    keep(
        tmp_path,
        Measured("base", "a", "one", "", 8, 1.0, 0.1),
        Measured("base", "b", "one", "", 8, 2.0, 0.2),
        Measured("base", "b", "two", "", 8, 3.0, 0.3),
        Measured("base", "c", "three", "", 8, 4.0, 0.4),
        Measured("other", "a", "two", "", 8, 5.0, 0.5),
    )
    with Ledger(tmp_path) as ledger:
        losses, tasks = ledger.matrix("base", ["b", "a", "unknown"])
        assert tasks == ("one", "two")
        np.testing.assert_array_equal(losses, [[2, 3], [1, math.nan], [math.nan, math.nan]])
        accuracies, tasks = ledger.matrix("base", ["a", "b"], exclude_task="two", value="accuracy")
        assert tasks == ("one",)
        np.testing.assert_array_equal(accuracies, [[0.1], [0.2]])
        assert ledger.matrix("none", ["a"])[0].shape == (1, 0)
        assert ledger.matrix("base", [])[0].shape == (0, 0)
        assert ledger.matrix("base", ["a"], value="knowledge")[1] == ()
        with pytest.raises(ValueError, match="expected one of"):
            ledger.matrix("base", ["a"], value="name")


WRITER = """
import sys, pathlib
from mashup._score.ledger import Ledger, Measured
for examples in range(1, 21):
    with Ledger(pathlib.Path(sys.argv[1])) as ledger:
        assert ledger.problem is None, ledger.problem
        for donor in ("shared", sys.argv[2]):
            ledger.keep([Measured("base", donor, str(t), "", examples, 1.0, 0.5) for t in range(5)])
"""


def test_processes_that_write_at_once_lose_and_double_nothing(tmp_path):
    commands = [[sys.executable, "-c", WRITER, str(tmp_path), f"own {n}"] for n in range(2)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    assert [process.communicate()[1] for process in running] == [b""] * 2
    rows = rows_of(keep(tmp_path))
    assert len(rows) == 15
    assert {row[4] for row in rows} == {20}


def as_version(path, version, *statements):
    with closing(sqlite3.connect(path)) as db, db:
        for statement in (*statements, f"PRAGMA user_version={version}"):
            db.execute(statement)


FIRST_VERSION = (
    "CREATE TABLE measured (base TEXT, donor TEXT, task TEXT, name TEXT, examples INTEGER,"
    " loss REAL, accuracy REAL, at REAL, PRIMARY KEY (base, donor, task)) WITHOUT ROWID",
    "INSERT INTO measured VALUES ('base', 'donor', 'task', 'a task', 64, 0.5, 0.75, 1.0)",
)


def test_a_ledger_of_version_1_is_brought_to_this_one(tmp_path):
    path = keep(tmp_path)
    path.unlink()
    as_version(path, 1, *FIRST_VERSION)
    for _ in range(2):
        keep(tmp_path)
        assert rows_of(path) == [("base", "donor", "task", "a task", 64, 0.5, 0.75, 1.0, None)]
    keep(tmp_path, ROW)
    with Ledger(tmp_path) as ledger:
        values, tasks = ledger.matrix("base", ["donor"], value="knowledge")
        assert (values.tolist(), tasks) == ([[0.25]], ("task",))
    assert [file.name for file in path.parent.glob("*.sqlite")] == ["ledger.sqlite"]


def test_version_1_with_another_table_is_set_aside(tmp_path):
    path = keep(tmp_path)
    path.unlink()
    as_version(path, 1, FIRST_VERSION[0].replace("accuracy REAL,", ""))
    with Ledger(tmp_path) as ledger:
        assert_problem(ledger.problem, "the ledger is damaged")
    assert path.with_name("ledger.damaged.sqlite").exists()


def test_a_file_without_a_version_is_set_aside_under_a_free_name(tmp_path):
    path = keep(tmp_path, ROW)
    for name in ("ledger.v0.sqlite", "ledger.v0.2.sqlite"):
        as_version(path, 0)
        with Ledger(tmp_path) as ledger:
            assert_problem(
                ledger.problem, "the ledger is of an unknown old version", found="version 0"
            )
            assert name in ledger.problem.fix
            ledger.keep([replace(ROW, task=name)])
        assert len(rows_of(path.with_name(name))) == 1
    keep(tmp_path)


def overwrite(path):
    path.write_bytes(b"no database at all" * 1000)


@pytest.mark.parametrize("harm", [overwrite, damage_a_page, make_read_only])
def test_a_damaged_ledger_is_set_aside_as_it_is(tmp_path, harm):
    path = keep(tmp_path, ROW)
    harm(path)
    content = path.read_bytes()
    with Ledger(tmp_path) as ledger:
        assert_problem(ledger.problem, "the ledger is damaged", where=str(path))
        ledger.keep([ROW])
    assert path.with_name("ledger.damaged.sqlite").read_bytes() == content
    keep(tmp_path)
    assert len(rows_of(path)) == 1


def test_a_newer_ledger_is_left_alone_and_read_as_empty(tmp_path):
    path = keep(tmp_path, ROW)
    as_version(path, VERSION + 1)
    content = path.read_bytes()
    with Ledger(tmp_path) as ledger:
        assert_problem(ledger.problem, "the ledger is of a newer version", found="version 3")
        ledger.keep([replace(ROW, examples=1000)])
        values, tasks = ledger.matrix("base", ["donor"])
        assert (values.shape, tasks) == ((1, 0), ())
    assert path.read_bytes() == content


def test_an_empty_file_becomes_a_ledger(tmp_path):
    (tmp_path / ".mashup").mkdir()
    (tmp_path / ".mashup" / "ledger.sqlite").touch()
    assert len(rows_of(keep(tmp_path, ROW))) == 1


def test_other_splits_of_the_same_data_are_no_past_task(tmp_path):
    with Ledger(tmp_path) as ledger:
        ledger.keep(
            [
                Measured("base", "a", "key 1", "tickets", 8, 1.0, 0.5),
                Measured("base", "a", "key 2", "reviews", 8, 2.0, 0.5),
                Measured("base", "a", "key 3", "", 8, 3.0, 0.5),
            ]
        )
        losses, tasks = ledger.matrix("base", ["a"], "new key", "tickets")
        assert (losses.tolist(), tasks) == ([[2.0, 3.0]], ("key 2", "key 3"))
        assert ledger.matrix("base", ["a"])[1] == ("key 1", "key 2", "key 3")


@pytest.mark.parametrize(
    "statement",
    ["DROP TABLE measured", "ALTER TABLE measured RENAME COLUMN loss TO lost"],
)
def test_a_ledger_without_its_table_is_set_aside(tmp_path, statement):
    path = keep(tmp_path, ROW)
    as_version(path, VERSION, statement)
    with Ledger(tmp_path) as ledger:
        assert ledger.matrix("base", ["donor"])[1] == ()
        ledger.keep([ROW])
        assert_problem(ledger.problem, "the ledger is damaged")
    assert path.with_name("ledger.damaged.sqlite").exists()
    assert len(rows_of(keep(tmp_path))) == 1


def test_rows_that_are_damaged_are_not_known(tmp_path):
    path = keep(tmp_path, ROW, *(replace(ROW, task=f"task {n}") for n in range(3)))
    as_version(
        path, VERSION,
        "UPDATE measured SET loss = 'x' WHERE task = 'task 0'",
        "UPDATE measured SET task = CAST(x'ff00' AS TEXT), loss = x'00' WHERE task = 'task 1'",
        "UPDATE measured SET donor = CAST(x'ff' AS TEXT) WHERE task = 'task 2'",
    )  # fmt: skip
    with Ledger(tmp_path) as ledger:
        losses, tasks = ledger.matrix("base", ["donor"])
        assert (losses.tolist(), tasks) == ([[0.5]], ("task",))
        assert ledger.problem is None


def test_a_ledger_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch):
    path = keep(tmp_path, ROW)
    monkeypatch.setattr(database, "_PATIENCE", 0.05)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with Ledger(tmp_path) as ledger:
            ledger.keep([replace(ROW, donor="other")])
            assert ledger.matrix("base", ["donor"])[1] == ()
            assert_problem(ledger.problem, "cannot remember results", where=str(path))
    assert len(rows_of(path)) == 1
    path.rename(path.with_name("kept"))
    path.mkdir()
    with Ledger(tmp_path) as ledger:
        ledger.keep([ROW])
        assert_problem(ledger.problem, "cannot remember results", where=str(path))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_left_alone(tmp_path, make):
    with Ledger(tmp_path) as ledger:
        path = ledger.path
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    make(path)
    with Ledger(tmp_path) as ledger:
        assert_problem(ledger.problem, "cannot remember results", found="not a regular file")
        ledger.keep([ROW])
        assert ledger.matrix(ROW.base, [ROW.donor])[1] == ()
    assert not path.is_file()


def test_a_task_whose_name_is_not_utf_8_is_kept(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    keep(tmp_path, replace(ROW, name=name), replace(ROW, task="other"))
    with Ledger(tmp_path) as ledger:
        assert ledger.matrix("base", ["donor"])[1] == ("other", "task")
        assert ledger.matrix("base", ["donor"], exclude_name=name)[1] == ("other",)
