import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save

from helpers import refused
from mashup.checkpoint.safetensors import TensorInfo, read_header
from mashup.errors import InputError

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BOOL": np.bool_,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
}
SHAPES = st.lists(st.integers(1, 4), max_size=3).map(tuple)
INFOS = st.builds(TensorInfo, st.sampled_from(sorted(DTYPES)), SHAPES)
HEADERS = st.dictionaries(st.text(min_size=1), INFOS, min_size=1, max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries(
    {}, optional={"dtype": JSON, "shape": JSON, "data_offsets": JSON | st.lists(st.integers())}
)


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("headers") / "a.safetensors"


def content(header: dict[str, TensorInfo]) -> bytes:
    tensors = {name: np.zeros(info.shape, DTYPES[info.dtype]) for name, info in header.items()}
    return save(tensors, metadata={"format": "pt"})


def with_header(header: object, data: int = 0) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


@given(header=HEADERS)
def test_a_header_says_what_the_library_wrote(path, header):
    path.write_bytes(content(header))
    assert read_header(path) == header


def test_types_that_numpy_does_not_have_are_read(path):
    header = {"a": {"dtype": "BF16", "shape": [3, 2], "data_offsets": [0, 12]}}
    path.write_bytes(with_header(header, data=12))
    assert read_header(path) == {"a": TensorInfo("BF16", (3, 2))}


@given(header=HEADERS, data=st.data())
def test_a_file_that_is_cut_anywhere_is_refused(path, header, data):
    whole = content(header)
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with refused("truncated safetensors", where=str(path)):
        read_header(path)


def test_a_file_with_more_than_its_tensors_is_refused_as_the_library_does(path):
    path.write_bytes(content({"a": TensorInfo("F32", (2,))}) + b"\0")
    with pytest.raises(Exception, match="header"), safe_open(path, "numpy"):
        pass
    with refused("damaged safetensors"):
        read_header(path)


def test_a_tensor_whose_bytes_do_not_match_its_shape_is_refused(path):
    header = {"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}
    path.write_bytes(with_header(header, data=8))
    with refused("damaged safetensors", found="a: 8 bytes"):
        read_header(path)


@given(header=JSON | st.dictionaries(st.text(), ENTRY | JSON, max_size=3), data=st.integers(0, 9))
def test_no_header_is_so_strange_that_it_escapes_as_another_error(path, header, data):
    path.write_bytes(with_header(header, data))
    with contextlib.suppress(InputError):
        read_header(path)


@given(junk=st.binary(max_size=64))
def test_no_bytes_are_so_strange_that_they_escape_as_another_error(path, junk):
    path.write_bytes(junk)
    with contextlib.suppress(InputError):
        read_header(path)


def test_a_git_lfs_pointer_is_called_one(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    with refused("git-lfs pointer", where=str(path)):
        read_header(path)


def test_a_tensor_of_size_zero_is_refused_by_name(path):
    path.write_bytes(save({"w.lora_A.weight": np.zeros((0, 16), np.float32)}))
    with refused("tensor of size zero", found="w.lora_A.weight has shape [0, 16]"):
        read_header(path)


def test_a_missing_file_cannot_be_read(tmp_path):
    with refused("cannot read file", where="none.safetensors"):
        read_header(tmp_path / "none.safetensors")
