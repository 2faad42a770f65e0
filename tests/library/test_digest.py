import json
import os
import shutil

import pytest

from helpers import refused, settle, write_adapter, write_json
from mashup.library import Index, adapter_digest, checkpoint_digest


def change(folder, **settings):
    config = json.loads((folder / "adapter_config.json").read_text())
    write_json(folder / "adapter_config.json", config | settings)


def test_a_digest_depends_on_content_not_on_place_or_base_name(tmp_path):
    a = write_adapter(tmp_path / "a")
    b = write_adapter(tmp_path / "b", base="/local/copy")
    assert adapter_digest(a) == adapter_digest(b)


@pytest.mark.parametrize("changed", [{"seed": 1}, {"rank": 2}, {"alpha": 16}, {"use_rslora": True}])
def test_a_digest_changes_with_weights_and_settings(tmp_path, changed):
    a = write_adapter(tmp_path / "a")
    b = write_adapter(tmp_path / "b", **changed)
    assert adapter_digest(a) != adapter_digest(b)


@pytest.mark.parametrize(
    "changed",
    [{"bias": "all"}, {"lora_bias": True}, {"trainable_token_indices": [1]},
     {"modules_to_save": ["norm"]}, {"target_parameters": ["experts.down_proj"]}],
)  # fmt: skip
def test_a_digest_covers_the_settings_that_say_what_other_tensors_mean(tmp_path, changed):
    a = write_adapter(tmp_path / "a")
    assert adapter_digest(a) != adapter_digest(write_adapter(tmp_path / "b", **changed))


def test_the_order_of_targets_says_nothing(tmp_path):
    """PEFT saves sets, in any order."""
    a = write_adapter(tmp_path / "a", target_modules=["q", "v"], modules_to_save=["norm", "head"])
    b = write_adapter(tmp_path / "b", target_modules=["v", "q"], modules_to_save=["head", "norm"])
    assert adapter_digest(a) == adapter_digest(b)


def test_a_digest_is_remembered_by_the_stamp_of_the_files(tmp_path, monkeypatch):
    folder = write_adapter(tmp_path / "a")
    settle()
    with Index(tmp_path) as index:
        kept = adapter_digest(folder, index)
    monkeypatch.setattr("mashup.library.digest.digest_file", None)  # nothing is read any more
    with Index(tmp_path) as index:
        assert adapter_digest(folder, index) == kept
        with pytest.raises(TypeError):
            adapter_digest(folder, index, afresh=True)


def in_place(folder, other):
    """The bytes of another adapter in the same file, whose mtime is set back."""
    weights = folder / "adapter_model.safetensors"
    status = weights.stat()
    weights.write_bytes((other / "adapter_model.safetensors").read_bytes())
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))


def swapped(folder, other):
    """Two folders of one mtime that change places."""
    folder.rename(folder.with_name("aside"))
    other.rename(folder)


def unpacked(folder, other):
    """What an archive with fixed times leaves where another version was deleted."""
    shutil.rmtree(folder)
    shutil.copytree(other, folder)


@pytest.mark.parametrize("replaced", [in_place, swapped, unpacked])
def test_other_weights_of_the_same_size_and_mtime_are_seen(tmp_path, replaced):
    folder, other = (write_adapter(tmp_path / "lib" / name, seed=ord(name)) for name in "ab")
    for path in (*folder.iterdir(), *other.iterdir()):
        os.utime(path, (0, 0))
    settle()
    expected = adapter_digest(other)
    with Index(tmp_path) as index:
        before = adapter_digest(folder, index)
        replaced(folder, other)
        for path in folder.iterdir():
            os.utime(path, (0, 0))
        assert adapter_digest(folder, index) == expected != before
        settle()
        assert adapter_digest(folder, index) == expected


def test_a_setting_that_is_edited_in_place_is_seen(tmp_path):
    folder = write_adapter(tmp_path / "a", alpha=8)
    settle()
    config = folder / "adapter_config.json"
    status = config.stat()
    with Index(tmp_path) as index:
        before = adapter_digest(folder, index)
        change(folder, lora_alpha=9)
        os.utime(config, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert config.stat().st_size == status.st_size
        assert adapter_digest(folder, index) != before


def test_what_changed_just_now_is_not_remembered(tmp_path):
    """A second change within one tick of the file system's clock would not be seen."""
    folder = write_adapter(tmp_path / "a")
    with Index(tmp_path) as index:
        (folder / "adapter_config.json").touch()
        adapter_digest(folder, index)
        assert not index.hashed


def test_what_is_no_checkpoint_any_more_is_a_problem(tmp_path):
    with refused("no adapter weights"):
        checkpoint_digest(tmp_path / "gone")


def test_a_remembered_digest_is_not_used_for_changed_files(tmp_path):
    folder = write_adapter(tmp_path / "a")
    with Index(tmp_path) as index:
        before = adapter_digest(folder, index)
        change(folder, lora_alpha=16)
        assert adapter_digest(folder, index) == adapter_digest(folder) != before
        shutil.rmtree(folder)
        write_adapter(folder, seed=1)
        assert adapter_digest(folder, index) == adapter_digest(folder) != before
