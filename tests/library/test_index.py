import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import write_adapter
from mashup.library import Index, scan
from mashup.library.losses import Loss

LOSS = Loss(1.5, True, 0.25)


def damage_a_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    path.write_bytes(content)


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
    ],
)
def test_a_corrupt_index_is_made_again(tmp_path, harm):
    write_adapter(tmp_path / "a")
    first = scan(tmp_path)
    harm(tmp_path / ".mashup" / "index.sqlite")
    assert scan(tmp_path) == first
    with Index(tmp_path) as index:
        assert list(index.checkpoints()) == ["a"]


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
        "from mashup.library.losses import Loss\n"
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
