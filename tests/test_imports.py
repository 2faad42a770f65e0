"""The house: imports point downwards only, and torch is loaded by steps that need it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mashup
from helpers import write_adapter, write_full

ROOT = Path(mashup.__file__).parent
HEAVY = {"torch", "transformers", "peft", "datasets", "matplotlib", "pandas", "scipy"}
FLOORS = (
    ("errors", "settings", "progress", "strict", "faults", "processes", "tables"),
    ("files",),
    ("results",),
    ("report",),
    ("headers",),
    ("checkpoint",),
    ("task", "tasks"),
    ("library",),
    ("weights",),
    ("delta",),
    ("similarity",),
    ("model",),
    ("evaluate",),
    ("score",),
    ("select",),
    ("merge",),
    ("start", "check", "convert"),
    ("train",),
    ("compare",),
    ("loo",),
    ("demo",),
    ("cli", "__main__"),
)
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mashup."):
            yield node.module.split(".")[1]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path):
    here = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if here == "__init__":
        return
    for there in imports(path):
        assert FLOOR[there] <= FLOOR[here], f"{here} imports {there}"


def loaded_after(code):
    check = f"import sys; {code}; print(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code", ["import mashup", "from mashup.cli.__main__ import make_app; make_app()"]
)
def test_importing_and_help_load_nothing_heavy(code):
    assert not loaded_after(code) & HEAVY


def test_scanning_and_checking_need_no_torch(tmp_path):
    one, base = write_adapter(tmp_path / "lib/a"), write_full(tmp_path / "base")
    call = f"mashup.scan({str(one)!r}); mashup.check([{str(one)!r}], base={str(base)!r})"
    assert not loaded_after(f"import mashup; {call}") & HEAVY


def test_a_step_is_a_function_whichever_module_came_first():
    code = "import mashup.score.scorer, mashup.train; assert callable(mashup.score); mashup.train"
    assert "torch" in loaded_after(code)
    assert all(callable(getattr(mashup, name)) for name in ("scan", "score", "merge", "train"))


def test_public_names_exist_and_are_listed():
    for name in mashup.__all__:
        assert getattr(mashup, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mashup.nothing
