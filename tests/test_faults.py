"""Faults of settings, for flags and for YAML: what, where, found, expected, fix."""

import os
from pathlib import Path

import pytest
from pydantic import Field, model_validator

from mashup import UsageError
from mashup.cli.options import JsonOption, build
from mashup.faults import read_yaml, validated
from mashup.settings import Settings


class Part(Settings):
    size: int = Field(1, ge=1)
    shape: str = "round"


class Whole(Settings):
    name: str
    part: Part = Part()
    parts: dict[str, Part] = Field(default_factory=dict)
    some: tuple[Part, ...] = ()
    seeds: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _agrees(self):
        if self.name == "square" and self.part.shape != "square":
            raise ValueError("a square is square")
        return self


class Flags(Whole, JsonOption):
    pass


def problems(make, *arguments):
    with pytest.raises(UsageError) as caught:
        make(*arguments)
    return caught.value.problems


def told(values):
    return problems(validated, Whole, values, "x.yaml")


@pytest.mark.parametrize(
    ("values", "found", "fix"),
    [
        ({"nam": 1, "name": "x"}, "nam", "did you mean name?"),
        ({"name": "x", "part": {"siz": 1}}, "part.siz", "did you mean size?"),
        ({"name": "x", "parts": {"a": {"shap": 1}}}, "parts.a.shap", "did you mean shape?"),
        ({"name": "x", "some": [{}, {"q": 1}]}, "some.1.q", "known are shape, size"),
    ],
)
def test_an_unknown_name_has_a_suggestion_at_any_depth(values, found, fix):
    (problem,) = told(values)
    assert (problem.what, problem.where, problem.found, problem.fix) == (
        "unknown setting", "x.yaml", found, fix,
    )  # fmt: skip


def test_all_faults_are_told_and_only_the_innermost():
    found = told({"part": {"size": 0}, "seeds": [1, "x", "y"]})
    assert [(p.what, p.where, p.found) for p in found] == [
        ("missing setting", "x.yaml", ""),
        ("bad setting", "part.size (x.yaml)", "0"),
        ("bad setting", "seeds.1 (x.yaml)", "x"),
        ("bad setting", "seeds.2 (x.yaml)", "y"),
    ]


def test_values_that_do_not_go_together():
    (problem,) = told({"name": "square"})
    assert (problem.what, problem.where) == ("bad settings", "x.yaml")
    assert "a square is square" in problem.fix


def test_a_long_value_is_cut():
    (problem,) = told({"name": "x", "seeds": ["9x" * 500]})
    assert len(problem.found) == 200


@pytest.mark.parametrize("values", [{1: 2, "name": "x"}, {"name": "x", "part": {True: 2}}])
def test_names_that_are_no_text_are_told(values):
    (problem,) = told(values)
    assert problem.expected == "names that are text"


def test_flags_are_called_as_they_are_typed():
    found = problems(build, Flags, {"seeds": ["x"], "part": {"size": 0, "sise": 1}}, "c.yaml")
    assert [(p.what, p.where, p.expected if not p.found else p.found) for p in found] == [
        ("missing setting", "c.yaml", "name"),
        ("bad setting", "--part.size (c.yaml)", "0"),
        ("bad setting", "--seeds (c.yaml)", "x"),
        ("unknown setting", "c.yaml", "part.sise"),
    ]
    assert found[0].fix == "give --name, or name in YAML"


def test_flags_whose_name_in_python_is_another_are_suggested():
    (problem,) = problems(build, Flags, {"name": "x", "jsn": True}, "c.yaml")
    assert problem.fix == "did you mean json?"
    (problem,) = problems(build, Flags, {"name": "x", True: 1}, "c.yaml")
    assert (problem.what, problem.found) == ("unknown setting", "True")


@pytest.mark.parametrize(
    "text",
    [b"a: [", b"- 1", b"", b"\xff\xfe\xfa", b"a: 2001-99-99", b"[a]: 1", b"[" * 1500],
    ids=["open", "list", "empty", "no text", "no date", "no name", "deep"],
)
def test_a_file_that_holds_no_names_and_values(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_bytes(text)
    (problem,) = problems(read_yaml, path)
    assert (problem.what, problem.where) == ("cannot read config", str(path))
    assert problem.found


def test_a_file_that_is_not_there(tmp_path):
    (problem,) = problems(read_yaml, tmp_path / "c.yaml")
    assert "No such file" in problem.found


def test_a_pipe_a_device_and_a_huge_file_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with (tmp_path / "huge.yaml").open("wb") as stream:
        stream.truncate(1 << 40)
    for path in (tmp_path / "pipe.yaml", tmp_path / "huge.yaml", Path("/dev/full")):
        with pytest.raises(UsageError, match="cannot read config"):
            read_yaml(path)
