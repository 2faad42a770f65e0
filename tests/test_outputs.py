import errno
import json
import os
import shutil
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from helpers import full_disk, in_a_child, refused
from mashup.errors import OutputError
from mashup.outputs import (
    disk_errors,
    new_folder,
    only_one,
    refuse_existing,
    temporary_folder,
    to_json,
    write_text,
)

PART = ".mashup-part"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@given(value=st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)))
def test_json_text_does_not_depend_on_the_order_of_keys(value):
    text = to_json(value)
    assert json.loads(text) == value
    assert text == to_json(dict(reversed(value.items())))
    assert text.endswith("}\n")


def test_nan_is_not_written_as_json():
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json({"loss": float("nan")})


def test_text_that_does_not_fit_on_the_disk_leaves_the_old_text(tmp_path):
    path = tmp_path / "run.json"
    write_text(path, "old")
    with full_disk(), pytest.raises(OutputError, match=r"could not write: .*run\.json"):
        write_text(path, "new" * 1000)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["run.json"]


def test_text_is_not_written_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="could not write"):
        write_text(tmp_path / "file" / "run.json", "text")


def test_a_new_folder_is_there_only_when_all_went_well(tmp_path):
    with new_folder(tmp_path / "a" / "init") as part:
        (part / "weights").write_text("1")
        assert not (tmp_path / "a" / "init").exists()
    assert names(tmp_path / "a") == ["init"]
    assert names(tmp_path / "a" / "init") == ["weights"]


def test_an_error_on_the_way_leaves_no_folder(tmp_path):
    def write() -> None:
        with new_folder(tmp_path / "init") as part:
            (part / "weights").write_text("1")
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        write()
    assert names(tmp_path) == []


def test_ctrl_c_as_soon_as_the_temporary_folder_is_made_leaves_nothing(tmp_path, monkeypatch):
    make = os.mkdir

    def interrupted(path, *mode):
        make(path, *mode)
        signal.raise_signal(signal.SIGINT)

    with only_one(tmp_path / "init"):
        monkeypatch.setattr(os, "mkdir", interrupted)
        with pytest.raises(KeyboardInterrupt), temporary_folder(tmp_path / "init"):
            pass
    assert names(tmp_path) == []


def test_a_full_disk_leaves_no_folder(tmp_path):
    def write() -> None:
        with new_folder(tmp_path / "init") as part:
            (part / "weights").write_bytes(bytes(1000))

    with full_disk(), pytest.raises(OutputError, match=r"could not write: .*init"):
        write()
    assert names(tmp_path) == []


def test_what_a_killed_process_left_is_removed_by_the_next_that_writes_there(tmp_path):
    def killed() -> None:
        with only_one(tmp_path / "init"), temporary_folder(tmp_path / "init") as part:
            (part / "half").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    in_a_child(killed)
    assert len(names(tmp_path)) == 2  # the lock's file and the temporary folder
    with new_folder(tmp_path / "init") as part:
        (part / "weights").touch()
    assert names(tmp_path) == ["init"]
    assert names(tmp_path / "init") == ["weights"]


def test_what_another_process_is_writing_below_a_folder_is_not_removed(tmp_path):
    with new_folder(tmp_path / "run" / "init") as part:
        (part / "weights").touch()
        (tmp_path / "run" / f".run.json.01234567{PART}").touch()
        with only_one(tmp_path / "run"):
            assert part.exists()
            assert not (tmp_path / "run" / f".run.json.01234567{PART}").exists()
    assert names(tmp_path / "run") == ["init"]


@pytest.mark.parametrize("name", ["init.part", ".init.part", f".init{PART}", f".init.old{PART}"])
@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling", "pipe"])
def test_what_is_not_ours_is_left_alone_and_in_nobodys_way(tmp_path, name, kind):
    other = tmp_path / name
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis").write_text("mine")
    if kind == "file":
        other.write_text("mine")
    elif kind == "folder":
        shutil.copytree(tmp_path / "precious", other)
    elif kind == "pipe":
        os.mkfifo(other)
    else:
        other.symlink_to("precious" if kind == "link" else "nowhere")
    before = sorted((str(p), p.is_symlink(), p.is_file()) for p in tmp_path.rglob("*"))
    with new_folder(tmp_path / "init") as part:
        (part / "weights").write_text("1")
    shutil.rmtree(tmp_path / "init")
    write_text(tmp_path / "init", "text")
    (tmp_path / "init").unlink()
    assert sorted((str(p), p.is_symlink(), p.is_file()) for p in tmp_path.rglob("*")) == before
    assert (tmp_path / "precious" / "thesis").read_text() == "mine"


def test_a_link_as_output_stays_a_link_and_what_it_leads_to_is_made(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "init").symlink_to("disk/init")
    with new_folder(tmp_path / "init") as part:
        (part / "weights").touch()
    assert names(tmp_path) == ["disk", "init"]
    assert names(tmp_path / "disk" / "init") == ["weights"]
    with refused("output exists already"), new_folder(tmp_path / "init"):
        raise AssertionError


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127])
def test_a_name_as_long_as_the_file_system_takes_is_a_name(tmp_path, name):
    with new_folder(tmp_path / name) as part:
        (part / "weights").touch()
    assert names(tmp_path) == [name]


def test_a_name_that_is_too_long_a_loop_and_a_file_on_the_way_are_output_errors(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    for name in ("n" * 256, "loop", "loop/init", "file/init"):
        with pytest.raises(OutputError, match="could not write"):
            refuse_existing(tmp_path / name)
        with pytest.raises(OutputError, match="could not write"), new_folder(tmp_path / name):
            raise AssertionError
    assert names(tmp_path) == ["file", "loop"]


def test_a_folder_that_is_removed_while_it_is_written_is_an_output_error(tmp_path):
    def write() -> None:
        with new_folder(tmp_path / "m") as part:
            shutil.rmtree(part)
            (part / "weights").touch()

    with pytest.raises(OutputError, match="could not write"):
        write()
    assert names(tmp_path) == []


def test_a_full_disk_is_told_with_the_room_that_there_is(tmp_path):
    with full_disk(), pytest.raises(OutputError, match=r"[1-9]\S* .?B free"):
        write_text(tmp_path / "a", "new" * 1000)


@pytest.mark.parametrize("wait", [False, True])
def test_the_lock_of_a_killed_process_is_gone_with_it(tmp_path, wait):
    def killed() -> None:
        with only_one(tmp_path / "run"):
            os.kill(os.getpid(), signal.SIGKILL)

    in_a_child(killed)
    with only_one(tmp_path / "run", wait=wait):
        with refused("output is being written", where="run"), only_one(tmp_path / "run"):
            raise AssertionError
        with refused("output is being written"), only_one(tmp_path / "." / "run"):
            raise AssertionError
    assert names(tmp_path) == []


def test_who_waits_for_a_lock_gets_it_and_nobody_else(tmp_path):
    inside, most, order = [], [], []

    def work(n: int) -> None:
        with only_one(tmp_path / "new" / "base", wait=True):
            inside.append(n)
            most.append(len(inside))
            time.sleep(0.01)
            inside.remove(n)
            order.append(n)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    assert set(most) == {1}
    assert sorted(order) == list(range(16))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_folder_that_another_just_removed_is_not_a_file_system_without_names(
    tmp_path, monkeypatch
):
    make, missed = tempfile.mkdtemp, []

    def removed(dir):
        if not missed:  # the one who held the lock ends at this moment, and removes the folder
            other.close()
            missed.append(dir)
        return make(dir=dir)

    other = ExitStack()
    other.enter_context(only_one(tmp_path / "new" / "base"))
    monkeypatch.setattr(tempfile, "mkdtemp", removed)
    with only_one(tmp_path / "new" / "base", wait=True):
        assert missed == [tmp_path / "new"]


def test_a_folder_that_is_removed_while_it_is_made_is_made_again(tmp_path, monkeypatch):
    make, missed = os.mkdir, []

    def removed(path, mode=0o777):
        if not missed:  # it is there, and gone when pathlib looks whether it is a folder
            missed.append(path)
            raise FileExistsError(path)
        make(path, mode)

    monkeypatch.setattr(os, "mkdir", removed)
    with only_one(tmp_path / "new" / "base"):
        assert missed


def test_folders_made_for_a_lock_are_removed_if_nothing_was_written(tmp_path):
    with only_one(tmp_path / "a" / "b" / "run"):
        assert (tmp_path / "a" / "b").is_dir()
    assert names(tmp_path) == []


def test_our_own_temporary_files_do_not_count_as_content(tmp_path):
    (tmp_path / f".run.json.0123abcd{PART}").touch()
    refuse_existing(tmp_path)
    (tmp_path / "run.json.part").touch()
    with refused("output exists already"):
        refuse_existing(tmp_path)


def test_a_full_disk_under_safetensors_is_an_output_error(tmp_path):
    tensors = {"a": np.zeros(1000)}
    with full_disk(), pytest.raises(OutputError), disk_errors(tmp_path):
        save_file(tensors, tmp_path / "a.safetensors")


def test_other_errors_pass_the_disk_check_unchanged(tmp_path):
    with pytest.raises(ZeroDivisionError), disk_errors(tmp_path):
        1 / 0  # noqa: B018


def test_what_exists_is_not_written_over(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for path, found in (
        (tmp_path / "full", "a folder with files in it"),
        (tmp_path / "full" / "file", "a file"),
    ):
        with refused("output exists already", where=str(path), found=found):
            refuse_existing(path)
        with refused("output exists already"), new_folder(path):
            pass
    assert names(tmp_path) == ["full"]


def test_an_empty_folder_is_as_good_as_none(tmp_path):
    (tmp_path / "init").mkdir()
    with new_folder(tmp_path / "init") as part:
        (part / "weights").touch()
    assert names(tmp_path / "init") == ["weights"]


def test_two_that_make_one_folder_at_once_do_not_mix(tmp_path):
    with new_folder(tmp_path / "m") as first:
        (first / "a").write_text("first")
        with refused("output is being written", where="/m"), new_folder(tmp_path / "m"):
            raise AssertionError
        assert (first / "a").read_text() == "first"
    assert names(tmp_path) == ["m"]
    assert (tmp_path / "m/a").read_text() == "first"


def test_a_missing_file_within_the_block_is_not_taken_for_a_lost_lock(tmp_path):
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "m"):
        (tmp_path / "nothing").read_text()
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no file system here without folders")
@pytest.mark.parametrize("name", ["x", "x/y"])
def test_a_file_system_that_makes_no_folders_is_a_problem(name):
    with pytest.raises(OutputError, match="could not write"), only_one(Path("/proc") / name):
        pass


@pytest.mark.parametrize(
    ("error", "found", "fix"),
    [
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . pos"),
            "cut off",
            "free",
        ),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied", "choose"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left", "free"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_from_a_full_one(tmp_path, error, found, fix):
    with pytest.raises(OutputError) as caught, disk_errors(tmp_path):
        raise error
    (problem,) = caught.value.problems
    assert found in problem.found
    assert problem.fix.startswith(fix)
