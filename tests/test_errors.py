import ast
import re
from pathlib import Path

import pytest

import mashup
from mashup.errors import (
    GateError,
    InputError,
    MashupError,
    OutputError,
    Problem,
    UsageError,
    grouped,
    raise_all,
    with_flags,
)

ROOT = Path(mashup.__file__).parent

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


def test_settings_are_shown_as_flags():
    assert with_flags("give `base`, or set `load_in_4bit`") == "give --model, or set --load-in-4bit"
    assert with_flags("`dtype` float32 and `text`'") == "--dtype float32 and --text'"
    assert with_flags("a `quoted thing`, and 'x'") == "a `quoted thing`, and 'x'"


#: Packages whose messages may name flags.
CLI = ("cli", "demo")


def messages(path):
    """Texts in the code of a file, without docstrings; values in f-strings are ``X``."""
    tree = ast.parse(path.read_text())
    inner = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            inner.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            inner |= set(map(id, node.values))
            constants = (isinstance(part, ast.Constant) for part in node.values)
            parts = zip(node.values, constants, strict=True)
            yield "".join(part.value if fixed else "X" for part, fixed in parts)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value  # parents come first in a walk


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_messages_below_the_command_line_name_no_flags(path):
    if path.relative_to(ROOT).parts[0] in CLI:
        return
    command = re.compile(r"(mashup|hf|pip|python) [^;,]*")
    assert not [
        text for text in messages(path) if re.search(r"(^|\s)--[a-z]", command.sub("", text))
    ]
