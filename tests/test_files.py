import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from helpers import full_disk, refused
from mashup.errors import OutputError
from mashup.files import (
    digest_file,
    digest_of,
    disk_errors,
    new_folder,
    read_json,
    refuse_existing,
    to_json,
    user_cache,
    write_text,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", [b"{", b"", b"\xef\xbb\xbf{}"])
def test_what_is_not_json_is_said_to_be(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with refused("not JSON", where="a.json"):
        read_json(tmp_path / "a.json")


def test_a_missing_file_and_one_that_is_not_text_cannot_be_read(tmp_path):
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.json", "bytes.json"):
        with refused("cannot read file", where=name):
            read_json(tmp_path / name)


@given(value=st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)))
def test_json_text_does_not_depend_on_the_order_of_keys(value):
    text = to_json(value)
    assert json.loads(text) == value
    assert text == to_json(dict(reversed(value.items())))
    assert text.endswith("}\n")


def test_nan_is_not_written_as_json():
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json({"loss": float("nan")})


@given(value=JSON)
def test_a_digest_depends_on_values_only(value):
    assert digest_of(value) == digest_of(json.loads(json.dumps(value)))
    assert digest_of(value) != digest_of([value])
    assert digest_of(value) != digest_of(value, value)


def test_digests_are_the_same_in_every_version():
    assert digest_of("a", {"y": [1, 2.5], "x": None}) == (
        hashlib.sha256(b'["a",{"x":null,"y":[1,2.5]}]').hexdigest()
    )


def test_the_digest_of_a_file_is_the_sha256_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"weights")
    assert digest_file(tmp_path / "a") == hashlib.sha256(b"weights").hexdigest()


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "mashup"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_cache() == tmp_path / ".cache" / "mashup"


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


def test_a_full_disk_leaves_no_folder(tmp_path):
    def write() -> None:
        with new_folder(tmp_path / "init") as part:
            (part / "weights").write_bytes(bytes(1000))

    with full_disk(), pytest.raises(OutputError, match=r"could not write: .*init"):
        write()
    assert names(tmp_path) == []


def test_what_a_killed_run_left_is_cleared_away(tmp_path):
    (tmp_path / "init.part").mkdir()
    (tmp_path / "init.part" / "half").touch()
    with new_folder(tmp_path / "init") as part:
        (part / "weights").touch()
    assert names(tmp_path) == ["init"]
    assert names(tmp_path / "init") == ["weights"]


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
