"""The house: imports point downwards only, and torch is loaded by steps that need it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mashup
from helpers import prompt_rows, write_adapter, write_full, write_jsonl

ROOT = Path(mashup.__file__).parent
HEAVY = {"torch", "transformers", "peft", "datasets", "matplotlib", "pandas", "scipy"}
FLOORS = (
    ("errors", "settings", "progress", "strict", "faults", "processes", "tables"),
    ("files", "state"),
    ("outputs", "hub"),
    ("results",),
    ("_report",),
    ("checkpoint",),
    ("task", "tasks"),
    ("library",),
    ("weights",),
    ("delta",),
    ("sketches", "clusters"),
    ("model",),
    ("evaluate",),
    ("_score",),
    ("_select",),
    ("_merge",),
    ("_init", "_check", "_convert", "_push"),
    ("_train",),
    ("_race", "transformers"),
    ("experiment",),
    ("_verify", "demo"),
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


def test_choosing_and_reports_need_no_torch():
    code = "import mashup._select, mashup._merge.methods, mashup._report.write, mashup.results"
    assert not loaded_after(f"{code}; import mashup; mashup.select") & {"torch", "transformers"}


def test_mistakes_are_found_before_torch_is_imported(tmp_path):
    lib, base = tmp_path / "lib", write_full(tmp_path / "base")
    one = write_adapter(lib / "a", base=str(base))
    data = write_jsonl(tmp_path / "d.jsonl", [{"question": "q", "reply": "a"}] * 80)
    good = write_jsonl(tmp_path / "good.jsonl", prompt_rows(80))
    yaml = tmp_path / "e.yaml"
    yaml.write_text("name: x\nlearning_rates: [0.1]\nbase: nope\ntasks: {a: x, b: y}\n")
    bad_rows = tmp_path / "rows.yaml"
    tasks = f"{{a: {{dataset: {data}}}, b: {{dataset: {good}}}}}"
    bad_rows.write_text(f"name: x\nlearning_rates: [0.1]\nbase: {base}\ntasks: {tasks}\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("mine")
    new, full = ("-o", tmp_path / "new"), ("-o", tmp_path / "full")
    inside = ("-o", data / "below")
    of = ("-m", base, "-d", good)
    calls = [
        *(
            ("methods",),
            ("report", tmp_path / "nope"),
            ("loo", yaml),
            ("loo", bad_rows),
            ("loo", tmp_path / "no.yaml"),
        ),
        *(("score", tmp_path / "nope", *of), ("score", lib, "-m", "nope", "-d", good)),
        ("score", lib, "-m", base, "-d", data),
        *(("init", lib, *of, *where) for where in (full, inside)),
        *(("compare", lib, *of, *where) for where in (full, inside)),
        *(("compare", lib, *of, *new, "--arms", "x"), ("compare", lib, *of, *new, "--seeds", "-1")),
        *(("train", *of, *where) for where in (full, inside)),
        *(("train", *of, *new, "--init", start) for start in (tmp_path / "nope", data, base)),
        *(("merge", one, *full), ("merge", tmp_path / "nope", *new)),
        ("merge", one, *new, "-m", "nope"),
    ]
    code = f"""
import sys
from mashup.cli.__main__ import main
for call in {[[str(part) for part in call] for call in calls]!r}:
    try:
        main(call)
    except SystemExit as done:
        assert done.code in ((0,) if call[0] == "methods" else (2, 3)), (call, done.code)
        assert "torch" not in sys.modules, call
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_step_is_a_function_whichever_module_came_first():
    code = "import mashup._score.scorer, mashup._train; assert callable(mashup.score); mashup.train"
    assert "torch" in loaded_after(code)
    assert all(callable(getattr(mashup, name)) for name in ("scan", "score", "merge", "train"))


def test_public_names_exist_and_are_listed():
    for name in mashup.__all__:
        assert getattr(mashup, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mashup.nothing
