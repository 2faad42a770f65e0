import errno
import os

import trees
from helpers import settle, write_adapter, write_full
from mashup.library.walk import find


def found(root):
    return sorted(str(one.path.relative_to(root)) for one in find(root).found)


def test_checkpoints_are_found_at_any_depth_and_at_the_root_itself(tmp_path):
    write_adapter(tmp_path)
    write_adapter(tmp_path / "a" / "b" / "run" / "checkpoint-5")
    write_full(tmp_path / "full")
    (tmp_path / "notes").mkdir()
    assert found(tmp_path) == [".", "a/b/run/checkpoint-5", "full"]


def test_hidden_and_half_written_folders_are_left_out(tmp_path):
    for name in (".hidden", "init.part", "seen"):
        write_adapter(tmp_path / name)
    assert found(tmp_path) == ["seen"]


def test_links_to_folders_are_followed_and_each_folder_counts_once(tmp_path):
    runs, chosen = tmp_path / "runs", tmp_path / "chosen"
    for name in "abc":
        write_adapter(runs / name)
    chosen.mkdir()
    (chosen / "a").symlink_to(runs / "a")
    (chosen / "again").symlink_to(runs / "a")
    (chosen / "all").symlink_to(runs)
    assert found(chosen) == ["a", "all/b", "all/c"]
    assert found(tmp_path) == ["runs/a", "runs/b", "runs/c"]
    assert find(tmp_path).notes == ()


def test_loops_of_links_end_and_are_counted(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    write_adapter(one / "a")
    write_adapter(two / "b")
    (one / "up").symlink_to(tmp_path)
    (one / "two").symlink_to(two)
    (two / "one").symlink_to(one)
    (two / "itself").symlink_to("itself")
    walk = find(one)
    assert [str(entry.path.relative_to(one)) for entry in walk.found] == ["a", "two/b"]
    assert sorted(walk.loops) == [str(one / name) for name in ("two/itself", "two/one", "up")]
    (note,) = walk.notes
    assert note == f"3 links to a folder above not followed: {one}/two/itself"


def test_links_that_lead_nowhere_are_counted_but_not_files_of_a_checkpoint(tmp_path):
    write_adapter(tmp_path / "a")
    (tmp_path / "a" / "README.md").symlink_to("nothing")
    (tmp_path / "gone").symlink_to("nothing")
    walk = find(tmp_path)
    assert walk.notes == (f"1 dangling link: {tmp_path}/gone",)


def test_folders_that_are_too_deep_to_be_listed_are_counted(tmp_path, monkeypatch):
    write_adapter(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    for _ in range(25):  # 25 names of 200 characters: beyond 4,096 in all
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    walk = find(tmp_path)
    assert [one.path.name for one in walk.found] == ["a"]
    assert "1 folder not searched (File name too long)" in walk.notes[0]


def test_folders_that_may_not_be_listed_are_counted(tmp_path, monkeypatch):
    for name in "ab":
        write_adapter(tmp_path / name)
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("b"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert found(tmp_path) == ["a"]
    assert find(tmp_path).notes == (f"1 folder not searched (Permission denied): {tmp_path}/b",)


def test_files_that_are_links_count_as_in_the_cache_of_the_hub(tmp_path):
    blobs = write_adapter(tmp_path / ".blobs")
    (tmp_path / "snapshot").mkdir()
    for path in blobs.iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    (tmp_path / "snapshot" / "trainer_state.json").symlink_to(tmp_path / "not downloaded")
    assert found(tmp_path) == ["snapshot"]


def test_a_stamp_changes_with_the_files_that_matter_only(tmp_path):
    write_adapter(tmp_path)
    settle()
    before = find(tmp_path).found
    assert before[0].stamp
    (tmp_path / "notes.txt").write_text("words")
    assert find(tmp_path).found == before
    (tmp_path / "trainer_state.json").write_text("{}")
    settle()
    assert find(tmp_path).found != before


def test_the_optimizer_that_fsdp_saved_is_no_model(tmp_path):
    trees.fsdp(tmp_path / "checkpoint-10")
    assert [one.path.name for one in find(tmp_path).found] == ["checkpoint-10"]
