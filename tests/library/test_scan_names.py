"""Every checkpoint of a library has a name of its own: as much of its path as it takes."""

import json

import pytest

from helpers import write_adapter, write_full
from lora import save_lora
from mashup import merge, read_checkpoint, scan
from mashup.errors import UsageError
from mashup.library import name_bases


def names(root, **options):
    return [checkpoint.name for checkpoint in scan(root, **options).checkpoints]


def test_names_that_are_different_stay_short(tmp_path):
    for place in ("a", "deep/b", "run/checkpoint-10"):
        write_adapter(tmp_path / place)
    assert names(tmp_path) == ["a", "b", "run/checkpoint-10"]


def test_names_that_are_shared_take_as_much_of_the_path_as_tells_them_apart(tmp_path):
    places = (
        "alone/final", "one/run/final", "one/run/checkpoint-5", "two/run/final",
        "two/run/checkpoint-5", "zoo",
    )  # fmt: skip
    for place in places:
        write_adapter(tmp_path / place)
    assert names(tmp_path) == [
        "alone/final", "one/run/checkpoint-5", "one/run/final", "two/run/checkpoint-5",
        "two/run/final", "zoo",
    ]  # fmt: skip
    assert names(tmp_path) == names(tmp_path, all_checkpoints=True)


def test_siblings_count_too_so_a_name_does_not_depend_on_what_is_shown(tmp_path):
    for place in ("one/run/checkpoint-5", "one/run/checkpoint-6", "two/run/checkpoint-5"):
        write_adapter(tmp_path / place)
    assert names(tmp_path) == ["run/checkpoint-6", "two/run/checkpoint-5"]


def test_the_folder_itself_may_be_a_checkpoint(tmp_path):
    write_adapter(tmp_path / "lib")
    write_adapter(tmp_path / "lib/x/lib")
    assert names(tmp_path / "lib") == [f"{tmp_path.name}/lib", "x/lib"]


def test_snapshots_of_the_hub_are_called_as_their_repository(tmp_path):
    places = (
        "me--lora-a/snapshots/0123", "you--lora-a/snapshots/4567", "me--all/snapshots/89ab/one",
        "me--all/snapshots/89ab/two/checkpoint-5", "me--twice/snapshots/aaaaaaaaaaaa",
        "me--twice/snapshots/bbbbbbbbbbbb",
    )  # fmt: skip
    for place in places:
        write_adapter(tmp_path / f"models--{place}")
    assert names(tmp_path) == [
        "one", "two/checkpoint-5", "me/lora-a", "me/twice@aaaaaaaa", "me/twice@bbbbbbbb",
        "you/lora-a",
    ]  # fmt: skip


def test_axolotls_merged_models_are_told_apart(tmp_path):
    for run in ("run1", "run2"):
        write_adapter(tmp_path / run)
        write_full(tmp_path / run / "merged")
    assert names(tmp_path) == ["run1", "run1/merged", "run2", "run2/merged"]


def test_a_name_of_several_is_refused_where_a_base_is_named(tmp_path):
    for run in ("run1", "run2"):
        write_full(tmp_path / run / "merged")
    library = scan(tmp_path)
    with pytest.raises(UsageError) as error:
        name_bases(tmp_path, library.checkpoints, ["merged:owner/tiny"])
    (problem,) = error.value.problems
    assert problem.what == "name of several checkpoints"
    assert problem.found == "run1/merged, run2/merged"
    name_bases(tmp_path, library.checkpoints, ["run1/merged:owner/tiny"])
    assert [c.base for c in scan(tmp_path).checkpoints] == ["owner/tiny", ""]


def test_a_path_with_signs_of_patterns_is_itself_alone(tmp_path):
    for place in ("run[1]", "run1"):
        write_adapter(tmp_path / place, base="")
    name_bases(tmp_path, scan(tmp_path).checkpoints, ["run[1]:owner/tiny"])
    assert {c.name: c.base for c in scan(tmp_path).checkpoints} == {
        "run[1]": "owner/tiny",
        "run1": "",
    }


def test_parents_of_a_merge_are_told_apart(tiny_base, tmp_path):
    folders = [save_lora(tiny_base, tmp_path / task / "final", seed=ord(task)) for task in "ab"]
    made = merge(folders, output=tmp_path / "out")
    manifest = json.loads((made.path / "mashup.json").read_text())
    assert {parent["name"] for parent in manifest["parents"]} == {"a/final", "b/final"}
    card = (made.path / "README.md").read_text()
    assert "a/final" in card
    assert "b/final" in card


def test_a_checkpoint_alone_has_its_short_name(tmp_path):
    assert read_checkpoint(write_adapter(tmp_path / "a/final")).name == "final"
