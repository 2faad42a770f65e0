import trees
from helpers import write_adapter, write_full
from mashup.library.walk import find


def found(root):
    return sorted(str(one.path.relative_to(root)) for one in find(root))


def test_checkpoints_are_found_at_any_depth_and_at_the_root_itself(tmp_path):
    write_adapter(tmp_path)
    write_adapter(tmp_path / "a" / "b" / "run" / "checkpoint-5")
    write_full(tmp_path / "full")
    (tmp_path / "notes").mkdir()
    assert found(tmp_path) == [".", "a/b/run/checkpoint-5", "full"]


def test_hidden_and_half_written_folders_and_links_are_left_out(tmp_path):
    for name in (".hidden", "init.part", "seen"):
        write_adapter(tmp_path / name)
    (tmp_path / "seen" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert found(tmp_path) == ["seen"]


def test_files_that_are_links_count_as_in_the_cache_of_the_hub(tmp_path):
    blobs = write_adapter(tmp_path / ".blobs")
    (tmp_path / "snapshot").mkdir()
    for path in blobs.iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    (tmp_path / "snapshot" / "trainer_state.json").symlink_to(tmp_path / "not downloaded")
    assert found(tmp_path) == ["snapshot"]


def test_a_stamp_changes_with_the_files_that_matter_only(tmp_path):
    write_adapter(tmp_path)
    before = list(find(tmp_path))
    (tmp_path / "notes.txt").write_text("words")
    assert list(find(tmp_path)) == before
    (tmp_path / "trainer_state.json").write_text("{}")
    assert list(find(tmp_path)) != before


def test_the_optimizer_that_fsdp_saved_is_no_model(tmp_path):
    trees.fsdp(tmp_path / "checkpoint-10")
    assert [one.path.name for one in find(tmp_path)] == ["checkpoint-10"]
