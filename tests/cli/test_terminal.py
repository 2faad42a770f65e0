"""What reaches the terminal: no control codes, no tracebacks, in any encoding."""

import ast
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import prompt_rows, write_adapter, write_jsonl
from lora import save_lora
from mashup.cli import show
from mashup.cli.__main__ import main
from mashup.cli.show import Board
from mashup.errors import Problem, printable
from mashup.progress import Bars

EVIL = "run\x1b[2J\x07\x9b31m\u202egnp\ud800"


def start(*arguments, module="mashup", **more):
    """A process of ours with all of its output in pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
    )  # fmt: skip


def version():
    import mashup

    return f"{mashup.__version__}\n"


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_told(mashup, flag):
    code, out, err = mashup(flag)
    assert (code, out, err) == (0, version(), "")


def test_the_package_runs_as_a_command():
    process = start("--version")
    assert process.communicate() == (version(), "")
    assert process.returncode == 0


@pytest.mark.parametrize("verb", ["methods", "tasks", "--help", "merge --help"])
def test_an_encoding_without_our_signs_gets_other_ones(verb):
    process = start(*verb.split(), env=os.environ | {"PYTHONIOENCODING": "ascii"})
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.isascii()


@pytest.mark.parametrize("verb", ["methods --json", "tasks", "--help", "train --help"])
def test_a_reader_that_has_gone_ends_us_quietly(verb):
    process = start(*verb.split())
    process.stdout.close()
    with process.stderr as stream:
        assert stream.read() == ""
    assert process.wait() == 141


def test_a_broken_pipe_that_is_not_ours_is_a_crash(monkeypatch, tmp_path):
    def broken(*_, **__):
        raise BrokenPipeError(32, "a socket of some library")

    monkeypatch.setattr("mashup.library.scan", broken)
    with pytest.raises(RuntimeError, match="connection"):
        main(["scan", str(tmp_path)])


@pytest.mark.parametrize("module", ["mashup", "mashup.cli"])
def test_ctrl_c_while_modules_are_loaded_is_one_line(tmp_path, module):
    (tmp_path / "typer").mkdir()
    (tmp_path / "typer/__init__.py").write_text(
        "import sys, time\nprint('loading', flush=True)\ntime.sleep(60)\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    process = start("methods", module=module, env=os.environ | {"PYTHONPATH": path})
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    if module == "mashup":
        assert (process.returncode, err) == (130, "stopped\n")


def test_ctrl_c_in_a_verb_is_one_line(mashup, monkeypatch, tmp_path):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mashup.library.scan", stop)
    code, out, err = mashup("scan", tmp_path)
    assert (code, out) == (130, "")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain, λ · − ± “x” 漢字", "plain, λ · − ± “x” 漢字"),
        ("12 345\u00a0%", "12 345\u00a0%"),
        ("a\nb", "a\nb"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b2J\x07\r\b", "\\x9b2J\\x07\\r\\x08"),
        ("a\u202eb\u2028c", "a\\u202eb\\u2028c"),
        ("\ud800", "\\ud800"),
    ],
)
def test_control_codes_are_spelled_out(text, safe):
    assert printable(text) == safe


def assert_harmless(text):
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\ud800"} & set(text)


def test_nothing_that_we_print_obeys_a_name(capsys):
    show.line(f"written: {EVIL}")
    show.table(("name", EVIL), [(EVIL, "x\ny")])
    show.problems([Problem(EVIL, EVIL, EVIL, EVIL, EVIL)])
    show.print_json({EVIL: EVIL})
    for progress in (Bars(), Board()):
        progress.say(EVIL)
        with progress.bar(EVIL, 1) as advance:
            advance()
    out, err = capsys.readouterr()
    assert_harmless(out)
    assert_harmless(err)
    assert "x\\ny" in out


def test_verbs_print_by_way_of_show_alone():
    folder = Path(show.__file__).parent
    for path in folder.glob("*.py"):
        called = (n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call))
        names = {function.id for function in called if isinstance(function, ast.Name)}
        assert path.name == "show.py" or "print" not in names, path


@pytest.mark.parametrize("verb", ["scan", "check"])
def test_names_and_settings_of_checkpoints_are_harmless(mashup, tmp_path, verb):
    name = "run\x1b[2J\x07"
    write_adapter(tmp_path / "lib" / name, base="owner/\x1b]0;x\x07tiny", task_type="\x1b[31m")
    write_adapter(tmp_path / "lib" / f"{name}bad", use_dora=True)
    _, out, err = mashup(verb, tmp_path / "lib")
    assert "run\\x1b[2J\\x07" in out
    assert_harmless(out)
    assert_harmless(err)
    _, out, err = mashup(verb, tmp_path / "lib", "--json")
    assert_harmless(out)
    assert "\x1b" in json.dumps(json.loads(out), ensure_ascii=False).replace("\\u001b", "\x1b")


def test_flags_and_configs_are_harmless(mashup, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text('"\\e[31mx": 1\nmodel: "\\e[31m"\nseed: "\\e[31m"\n')
    for arguments in (("train", "--config", path), ("scan", "a", "b\x1b[31m"), ("sc\x1b[31m",),
                      ("scan", "--x\x1b[31m"), ("scan", "-\x1b[31m")):  # fmt: skip
        code, out, err = mashup(*arguments)
        assert code == 2
        assert_harmless(out + err)


def test_a_row_is_one_line_and_never_wider_than_the_terminal(monkeypatch, capsys):
    rows = [("ok", "a very long name of a checkpoint" * 3, "123"), ("bad", "b", "4")]
    monkeypatch.setenv("COLUMNS", "40")
    show.table(("state", "name", "rank"), rows, numbers=("rank",), cut=True)
    out = capsys.readouterr().out.rstrip("\n").splitlines()
    assert len([line for line in out if line.strip()]) == 4  # a head, a rule, two rows
    assert max(map(len, out)) <= 40
    assert all(number in "\n".join(out) for number in ("123", "4", "…"))
    monkeypatch.delenv("COLUMNS")
    show.table(("state", "name", "rank"), rows, numbers=("rank",), cut=True)
    assert "a very long name of a checkpoint" * 3 in capsys.readouterr().out


def test_a_dataset_with_codes_in_it(mashup, tmp_path):
    path = write_jsonl(tmp_path / "d\x1b[31m.jsonl", [{"\x1b[31mx": 1}])
    code, out, err = mashup("train", "-m", tmp_path, "-d", path, "-o", tmp_path / "o")
    assert code == 3
    assert_harmless(out + err)


def test_off_a_terminal_a_problem_is_never_folded(capsys):
    long = "word " * 60 + "end"
    show.problems([Problem("fault", "here", found=long, fix="say `base` or `accept_base`")])
    err = capsys.readouterr().err
    assert long in err
    assert "say --model or --accept-base" in err


def test_a_ranking_fits_80_columns(mashup, tiny_base, tmp_path, monkeypatch):
    for seed, name in enumerate(("group-of-runs/checkpoint-200", "other")):
        save_lora(tiny_base, tmp_path / "lib" / name, seed=seed, size=0.05)
    data = write_jsonl(tmp_path / "task.jsonl", prompt_rows(80))
    monkeypatch.setenv("COLUMNS", "80")
    given = ("--model", tiny_base, "--dataset", data, "--samples", 20)
    for criterion in ("loss", "knowledge"):
        code, out, _ = mashup("score", tmp_path / "lib", *given, "--criterion", criterion)
        assert code == 0
        lines = out.splitlines()
        head = next(line for line in lines if "checkpoint" in line)
        rows = lines[lines.index(head) + 2 :]
        rows = rows[: next(n for n, row in enumerate(rows) if not row.strip())]
        assert max(map(len, (head, *rows))) <= 80
        assert sum("±" in row for row in rows) >= 2
        assert any(row.split()[0] == "base" for row in rows)
        assert "-0.00 " not in out
        assert "…" not in out
