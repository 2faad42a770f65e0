import pytest

from mashup.errors import (
    GateError,
    InputError,
    MashupError,
    OutputError,
    Problem,
    UsageError,
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
