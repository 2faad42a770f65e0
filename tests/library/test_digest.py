import json
import os
import shutil

import pytest

from helpers import write_adapter, write_json
from mashup.library import Index, adapter_digest


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


def test_a_digest_is_remembered_by_size_and_time(tmp_path):
    folder = write_adapter(tmp_path / "a")
    weights = folder / "adapter_model.safetensors"
    status = weights.stat()
    with Index(tmp_path) as index:
        kept = adapter_digest(folder, index)
        weights.write_bytes(bytes(status.st_size))
        os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert adapter_digest(folder, index) == kept != adapter_digest(folder)


def test_a_remembered_digest_is_not_used_for_changed_files(tmp_path):
    folder = write_adapter(tmp_path / "a")
    with Index(tmp_path) as index:
        before = adapter_digest(folder, index)
        change(folder, lora_alpha=16)
        assert adapter_digest(folder, index) == adapter_digest(folder) != before
        shutil.rmtree(folder)
        write_adapter(folder, seed=1)
        assert adapter_digest(folder, index) == adapter_digest(folder) != before
