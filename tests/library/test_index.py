import contextlib
import math
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import damage_a_page, full_disk, make_read_only, settle, write_adapter
from mashup.library import Index, database, scan
from mashup.library.index import Loss

LOSS = Loss(1.5, True, 0.25)


def test_scores_and_digests_are_kept(tmp_path):
    with Index(tmp_path) as index:
        index.losses.keep("key", {"example": LOSS})
        index.keep_digest(tmp_path / "a", "stamp", "digest")
    with Index(tmp_path) as index:
        assert index.losses.get("key", ["example", "new"]) == {"example": LOSS}
        assert index.losses.get("other", ["example"]) == {}
        assert index.digest(tmp_path / "a", "stamp") == "digest"
        assert index.digest(tmp_path / "a", "later") is None


def test_checkpoints_are_replaced_and_forgotten(tmp_path):
    with Index(tmp_path) as index:
        index.replace_checkpoints({"a": ("1", "old"), "b": ("1", "old")}, gone=())
        index.replace_checkpoints({"a": ("2", "new")}, gone=["b"])
        assert index.checkpoints() == {"a": ("2", "new")}


def test_the_index_lies_beside_the_library_with_a_write_ahead_log(tmp_path):
    with Index(tmp_path) as index:
        assert index.path == tmp_path / ".mashup" / "index.sqlite"
    with sqlite3.connect(index.path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(b"no database at all" * 1000),
        lambda path: path.write_bytes(b""),
        damage_a_page,
        make_read_only,
    ],
)
def test_a_corrupt_index_is_made_again(tmp_path, harm):
    write_adapter(tmp_path / "a")
    settle()
    first = scan(tmp_path)
    harm(tmp_path / ".mashup" / "index.sqlite")
    assert scan(tmp_path) == first
    write_adapter(tmp_path / "b")
    settle()
    assert not scan(tmp_path).notes
    with Index(tmp_path) as index:
        assert sorted(index.checkpoints()) == ["a", "b"]


def test_the_index_of_another_version_is_emptied(tmp_path):
    with Index(tmp_path) as index:
        index.losses.keep("key", {"example": LOSS})
    with sqlite3.connect(index.path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with Index(tmp_path) as index:
        assert index.losses.get("key", ["example"]) == {}


def test_processes_that_make_the_same_index_do_not_trip_over_each_other(tmp_path):
    code = (
        "import sys, pathlib\n"
        "from mashup.library import Index\n"
        "from mashup.library.index import Loss\n"
        "for root in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    with Index(root) as index:\n"
        "        index.losses.keep(sys.argv[2], {'one': Loss(1.0, True, 0.5)})\n"
    )
    for number in range(20):
        (tmp_path / str(number)).mkdir()
    commands = [[sys.executable, "-c", code, str(tmp_path), f"key {n}"] for n in range(6)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    assert [process.communicate()[1] for process in running] == [b""] * 6
    for root in tmp_path.iterdir():
        with Index(root) as index:
            for number in range(6):
                assert index.losses.get(f"key {number}", ["one"]) == {"one": Loss(1.0, True, 0.5)}


def test_two_libraries_that_cannot_be_written_do_not_share_an_index(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".mashup").touch()
    with Index(tmp_path / "a") as a, Index(tmp_path / "b") as b:
        assert a.path != b.path
        assert os.environ["XDG_CACHE_HOME"] in str(a.path)


def sql(statement: str):
    """Harm that is done by a statement to a file that stays sound for SQLite."""

    def harm(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute(statement)

    return harm


@pytest.mark.parametrize(
    "harm",
    [
        sql("UPDATE checkpoint SET record = 'x'"),
        sql("UPDATE checkpoint SET record = '[' || record || ']'"),
        sql("UPDATE checkpoint SET record = replace(record, '\"kind\"', '\"sort\"')"),
        sql("UPDATE checkpoint SET record = replace(record, '\"lora\"', '7')"),
        sql("UPDATE checkpoint SET record = CAST(x'ff22' AS TEXT), stamp = CAST(x'ff' AS TEXT)"),
        sql("UPDATE checkpoint SET record = 7"),
        sql("UPDATE checkpoint SET path = 'a'"),
        sql("UPDATE checkpoint SET path = NULL"),
        sql("DROP TABLE checkpoint"),
        sql("ALTER TABLE checkpoint RENAME COLUMN record TO text"),
    ],
)
def test_a_record_that_cannot_be_read_is_not_known(tmp_path, harm):
    write_adapter(tmp_path / "a")
    settle()
    first = scan(tmp_path)
    harm(tmp_path / ".mashup" / "index.sqlite")
    for _ in range(2):
        assert scan(tmp_path) == first


@pytest.mark.parametrize("table", ["digest", "content", "model", "example", "loss"])
def test_a_missing_table_is_made_again(tmp_path, table):
    with Index(tmp_path) as index:
        index.losses.keep("key", {"example": LOSS})
    sql(f"DROP TABLE {table}")(index.path)
    for known in ({}, {"example": LOSS}):
        with Index(tmp_path) as index:
            index.digest(tmp_path, "stamp")
            index.sketch("digest", "scheme")
            assert index.losses.get("key", ["example"]) in ({}, known)
            index.losses.keep("key", {"example": LOSS})
            assert index.problem is None


@pytest.mark.parametrize("column", ["loss", "correct", "seconds"])
def test_losses_that_are_damaged_are_not_known(tmp_path, column):
    with Index(tmp_path) as index:
        index.losses.keep("key", {"example": LOSS})
        index.keep_sketch("digest", "scheme", b"sketch")
    sql(f"UPDATE loss SET {column} = 'x'")(index.path)
    sql("UPDATE content SET sketch = 7")(index.path)
    with Index(tmp_path) as index:
        assert index.losses.get("key", ["example"]) == {}
        assert index.sketch("digest", "scheme") is None


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE loss SET loss = loss + 0.01",  # as a flipped bit does
        "UPDATE loss SET correct = 1 - correct",
        "UPDATE loss SET answers = x'0000000000000000'",
        "UPDATE loss SET model = 2",  # the loss of another model
        "ALTER TABLE model RENAME COLUMN id TO other",  # SQLite would take the example's id for it
    ],
)
def test_a_loss_that_was_changed_or_is_of_something_else_is_not_known(tmp_path, harm):
    others = {"other": LOSS._replace(loss=9.0), "example": LOSS._replace(loss=8.0)}
    with Index(tmp_path) as index:
        index.losses.keep("key", {"example": LOSS})
        index.losses.keep("second", others)
        assert index.losses.get("key", ["example"]) == {"example": LOSS}
    sql(harm.replace("UPDATE loss", "UPDATE OR IGNORE loss"))(index.path)
    with Index(tmp_path) as index:
        found = index.losses.get("key", ["example"]) | index.losses.get("second", list(others))
        assert all(found[name] == others[name] for name in found if name == "other")
        assert found.get("example") in (None, LOSS, others["example"])
        assert index.losses.get("key", ["example"]) in ({}, {"example": LOSS})
        assert index.losses.get("second", ["example"]) in ({}, {"example": others["example"]})


@pytest.mark.parametrize("loss", [math.nan, math.inf, -0.0, 1e308])
def test_any_number_is_known_again(tmp_path, loss):
    one = LOSS._replace(loss=loss)
    with Index(tmp_path) as index:
        index.losses.keep("key", {"example": one})
        (found,) = index.losses.get("key", ["example"]).values()
    assert found.loss == loss or math.isnan(loss)


def test_flipped_bytes_stop_nothing(tmp_path):
    for name in "abc":
        write_adapter(tmp_path / name)
    settle()
    scan(tmp_path)
    with Index(tmp_path) as index:
        index.losses.keep("key", {"example": LOSS})
    whole = index.path.read_bytes()
    draw = random.Random(0)
    for _ in range(15):
        content = bytearray(whole)
        for place in draw.sample(range(len(content)), 30):
            content[place] = draw.randrange(256)
        index.path.write_bytes(content)
        assert len(scan(tmp_path).usable) == 3
        with Index(tmp_path) as index:
            index.losses.get("key", ["example"])
            index.losses.keep("key", {"example": LOSS})
            assert index.problem is None


def lock(root: Path, monkeypatch: pytest.MonkeyPatch) -> sqlite3.Connection:
    """Another process's transaction that does not end."""
    monkeypatch.setattr(database, "_PATIENCE", 0.05)
    other = sqlite3.connect(root / ".mashup" / "index.sqlite")
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    return other


def test_an_index_that_is_locked_stops_nothing(tmp_path, monkeypatch):
    write_adapter(tmp_path / "a")
    first = scan(tmp_path)
    with contextlib.closing(lock(tmp_path, monkeypatch)):
        found = scan(tmp_path)
    assert found.checkpoints == first.checkpoints
    assert "cannot remember results" in found.notes[0]
    assert "locked" in found.notes[0]
    assert scan(tmp_path) == first


def test_a_full_disk_under_the_index_stops_nothing(tmp_path):
    write_adapter(tmp_path / "a")
    for room in (0, 512, 5000, 20_000, 40_000):
        with full_disk(room), Index(tmp_path) as index:
            for number in range(200):
                index.losses.keep("key", {f"{number} {'x' * 1000}": LOSS})
            index.keep_digest(tmp_path, "stamp", "digest")
            assert index.digest(tmp_path, "stamp") == "digest"
            assert len(index.losses.get("key", [f"{n} {'x' * 1000}" for n in range(200)])) == 200
            assert index.problem
    with Index(tmp_path) as index:
        assert index.problem is None


def test_the_folder_of_the_index_may_go_away_while_it_is_used(tmp_path):
    with Index(tmp_path) as index:
        index.losses.keep("key", {"example": LOSS})
        shutil.rmtree(tmp_path / ".mashup")
        index.losses.keep("key", {"other": LOSS})
        assert index.losses.get("key", ["example", "other"]).keys() == {"example", "other"}


@pytest.mark.parametrize("kind", ["folder", "socket", "no home", "no cache"])
def test_a_library_without_any_place_for_its_index_is_scanned(tmp_path, monkeypatch, kind):
    root = tmp_path / "lib"
    write_adapter(root / "a")
    first = scan(root)
    path = root / ".mashup" / "index.sqlite"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "socket":
        monkeypatch.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    else:
        shutil.rmtree(path.parent)
        path.parent.touch()
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none" if kind == "no cache" else "")
        monkeypatch.setattr(Path, "home", raising(RuntimeError("no home")))
    found = scan(root)
    assert found.checkpoints == first.checkpoints
    assert len(found.notes) == 1
    assert "cannot remember results" in found.notes[0]


def raising(error: Exception):
    def fail(*_: object) -> None:
        raise error

    return fail
