import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import refused
from mashup.files import digest_file, digest_of, read_json, user_cache

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


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
