"""The demo's plan holds together; the real thing is run by ``make demo-quick`` in CI."""

import sys
import time
from pathlib import Path

import pytest

from mashup.demo import data, run
from mashup.errors import InputError
from mashup.experiment.settings import Experiment
from mashup.progress import Progress

SIZES = pytest.mark.parametrize("size", [run.FULL, run.QUICK], ids=["full", "quick"])


class Lines(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def command(name: str, *words: str) -> run._Command:
    return run._Command(name, f"about {name}", list(words))


@SIZES
def test_every_source_has_a_task_and_is_not_the_target(size: run.Size) -> None:
    kinds = {recipe.name: recipe.kind for recipe in data._RECIPES}
    assert kinds[data.TARGET] == "target"
    assert all(kinds[name] != "target" for name in size.sources)


@SIZES
def test_the_experiment_is_one_that_mashup_takes(size: run.Size, tmp_path: Path) -> None:
    experiment = Experiment(**run._settings("base", tmp_path, size, size.seeds))
    assert experiment.wanted[0] == data.TARGET
    assert experiment.choose.samples == experiment.train_rows == size.labels
    assert len(experiment.wanted) == 1 + bool(size.more)


def test_a_line_for_each_step_of_each_command() -> None:
    shown = Lines()
    run._run_all([command(name, "--version") for name in "abc"], shown)
    assert [line for line in shown.lines if "about" in line] == [f"{n}: about {n}" for n in "abc"]
    assert sum(": done in " in line for line in shown.lines) == 3


def test_a_command_that_fails_is_named_and_the_others_are_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, begun = Lines(), []
    begin = run._begin

    def noted(one: run._Command, progress: Progress):  # type: ignore[no-untyped-def]
        begun.append(begin(one, progress))
        return begun[-1]

    monkeypatch.setattr(run, "_begin", noted)
    script = tmp_path / "python"  # in place of Python: "wait" waits, anything else fails
    script.write_text('#!/bin/sh\n[ "$3" = wait ] && exec sleep 60\necho why >&2\nexit 3\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    since = time.monotonic()
    with pytest.raises(InputError, match="a step failed") as error:
        run._run_all([command("long", "wait"), command("bad", "x"), command("never", "x")], shown)
    assert error.value.problems[0].where == "bad"
    assert time.monotonic() - since < 30
    assert [one.process.poll() is not None for one in begun] == [True, True]
    assert "never: about never" not in shown.lines
