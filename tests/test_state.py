from typing import Literal

import pytest
from pydantic import BaseModel

from helpers import refused
from mashup.outputs import (
    write_text,
)
from mashup.state import read_lines, read_state


class State(BaseModel):
    version: Literal[1] = 1
    seconds: float


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"null", b'{"seconds": "1"}', b'{"seconds": true}', b"{}"),
        *(b"\xff\xfe{", b"[" * 100_000, b'{"a":' * 100_000, b'{"seconds": "\\ud800"}'),
    ],
)
def test_a_damaged_file_of_ours_is_one_problem_with_its_fix(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    for read in (read_state, read_lines):
        if content or read is read_state:
            with refused("damaged file", where="run.json") as caught:
                read(State, tmp_path / "run.json", "remove it")
            assert [problem.fix for problem in caught.value.problems] == ["remove it"]


def test_a_file_without_version_is_of_the_first_and_a_newer_one_is_refused(tmp_path):
    write_text(tmp_path / "a", '{"seconds": 1}')
    assert read_state(State, tmp_path / "a", "") == State(seconds=1)
    write_text(tmp_path / "a", '{"version": 2, "seconds": 1}')
    with refused("file of a newer version", where="a"):
        read_state(State, tmp_path / "a", "remove it")


def test_a_line_that_a_kill_cut_is_dropped_where_that_is_asked_for(tmp_path):
    write_text(tmp_path / "a", '{"seconds": 1}\n{"sec')
    assert read_lines(State, tmp_path / "a", "", may_be_cut=True) == (State(seconds=1),)
    with refused("damaged file"):
        read_lines(State, tmp_path / "a", "remove it")
