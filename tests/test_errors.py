import pytest

from mashup.errors import (
    GateError,
    InputError,
    MashupError,
    OutputError,
    Problem,
    UsageError,
    grouped,
    raise_all,
)

FULL = Problem("not JSON", "a.json", "a brace", "a document", "copy it again")
BARE = Problem("no such folder", "runs/")


def test_a_problem_reads_as_one_line_for_each_thing_it_knows():
    assert str(FULL) == (
        "not JSON: a.json\n  found: a brace\n  expected: a document\n  fix: copy it again"
    )
    assert str(BARE) == "no such folder: runs/"


def test_a_problem_comes_back_from_its_json():
    assert Problem(**FULL.to_json()) == FULL


def test_the_code_is_made_from_the_title_unless_it_is_given():
    assert BARE.to_json()["code"] == "no-such-folder"
    assert Problem("no such folder", "x", code="base.missing").code == "base.missing"


def test_problems_that_differ_only_in_their_place_are_shown_as_one():
    same = [Problem("truncated safetensors", f"run{n}", fix="copy it again") for n in range(1200)]
    error = InputError(BARE, *same, FULL)
    assert error.problems == (BARE, *same, FULL)
    assert [(one.what, one.where) for one in grouped(error.problems)] == [
        (BARE.what, BARE.where),
        ("truncated safetensors (1,200 times)", "run0, run1, run2 and 1,197 more"),
        (FULL.what, FULL.where),
    ]
    assert str(error).count("\n  fix: copy it again") == 2


@pytest.mark.parametrize(
    ("kind", "builtin", "code"),
    [
        (MashupError, Exception, 1),
        (UsageError, ValueError, 2),
        (InputError, ValueError, 3),
        (OutputError, OSError, 3),
        (GateError, MashupError, 4),
    ],
)
def test_every_error_keeps_its_problems_its_exit_code_and_its_builtin(kind, builtin, code):
    error = kind(FULL, BARE)
    assert error.problems == (FULL, BARE)
    assert str(error) == f"{FULL}\n{BARE}"
    assert error.exit_code == code
    assert isinstance(error, builtin)


def test_all_problems_are_raised_together():
    with pytest.raises(InputError) as caught:
        raise_all(iter([FULL, BARE]))
    assert caught.value.problems == (FULL, BARE)


def test_no_problem_is_no_error():
    raise_all(())
