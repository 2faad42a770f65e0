import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mashup.strict import check_plain, parse_json, read_plain

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(value=JSON)
def test_json_is_read_as_python_does(value):
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False)) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"r": 1, "r": 2}', "r twice"),
        ('[{"a": {"b": 1, "b": 1}}]', "b twice"),
        ("[" * 10_000 + "]" * 10_000, "nested too deep"),
        ("[" * 101 + "1" + "]" * 101, "nested too deep"),
        (r'"\ud800"', "surrogates not allowed"),
        (r'{"\udfff": 1}', "surrogates not allowed"),
        ("9" * 5000, "integer string"),
        ("{", "Expecting"),
        ("\ufeff{}", "BOM"),
    ],
)
def test_json_that_means_two_things_or_breaks_its_readers_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        parse_json(text)


def test_whole_characters_beyond_the_first_plane_are_fine():
    assert parse_json(r'"\ud83d\ude00"') == "\U0001f600"


def test_a_name_that_stands_twice_among_many_is_found_at_once():
    pairs = ", ".join(f'"{n}": 0' for n in range(100_000))
    with pytest.raises(ValueError, match="7 twice"):
        parse_json(f'{{{pairs}, "7": 1}}')


def test_pipes_folders_and_devices_are_no_plain_files_and_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "zeros"):
        with pytest.raises(OSError, match="not a plain file"):
            read_plain(path)


def test_a_link_to_a_file_is_a_file(tmp_path):
    (tmp_path / "blob").write_bytes(b"{}")
    (tmp_path / "name").symlink_to("blob")
    assert read_plain(tmp_path / "name") == b"{}"
    assert check_plain(tmp_path / "name") == 2


def test_a_huge_file_is_not_read(tmp_path):
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(200_000_000)
    with pytest.raises(OSError, match="200,000,000 bytes"):
        read_plain(tmp_path / "huge")
