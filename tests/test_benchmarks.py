"""The scripts under benchmarks/ use names that exist: nothing else runs them in the tests."""

import ast
import importlib
import json
import random
import tarfile
from pathlib import Path

import pytest

from experiments import FEW, write_experiment, write_tasks
from mashup.experiment.run import prepare, run_jobs
from studies import write_study

SCRIPTS = sorted((Path(__file__).parents[1] / "benchmarks").rglob("*.py"))


def imported(script):
    """Module and name of every ``from mashup... import name`` of a script."""
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mashup":
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_what_a_script_imports_exists(script):
    for module, name in imported(script):
        if not hasattr(importlib.import_module(module), name):
            importlib.import_module(f"{module}.{name}")  # a module of a package


def test_an_experiment_goes_on_from_published_runs(tiny_base, tmp_path, monkeypatch):
    write_tasks(tmp_path)

    def prepared(folder, arms):
        path = tmp_path / "tiny.yaml"
        experiment = write_experiment(path, tiny_base, tmp_path, arms=arms, **FEW)
        return prepare(experiment, tmp_path / folder)

    first = prepared("first", ["mashup"])
    run_jobs(first)
    monkeypatch.syspath_prepend(str(SCRIPTS[0].parent))
    publish = importlib.import_module("publish")
    public = tmp_path / "public"
    words = ["publish.py", str(first.output), str(public), "--jobs", str(first.store.root)]
    monkeypatch.setattr(
        "sys.argv", [*words, "--path", f"{tmp_path}=DATA", "--path", f"{tiny_base}=BASE"]
    )
    publish.main()
    with tarfile.open(public / "runs.tar.xz") as archive:
        archive.extractall(tmp_path / "second", filter="data")
    more = prepared("second", ["mashup", "best-single"])
    old = {key for key in more.plan.jobs if first.store.has(key)}
    again = {key for key in old if not more.store.is_done(more.plan.jobs[key])}
    assert {more.plan.jobs[key].name.split()[0] for key in again} == {"train", "init"}  # of sources
    assert all(more.plan.jobs[key].keeps_weights for key in again)
    assert len(again) < len(old)
    assert {record.arm for record in run_jobs(more)} >= {"scratch", "mashup", "best-single"}


def test_the_page_on_races_has_what_the_replay_of_published_runs_prints(monkeypatch, capsys):
    root = SCRIPTS[0].parents[1]
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    families = root / "docs/results/families"
    monkeypatch.setattr("sys.argv", ["race_rungs", f"{families}/short", f"{families}/orphans"])
    importlib.import_module("race_rungs").main()
    page = (root / "docs/race.md").read_text().replace("**", "").replace(" (scratch) |", " |")
    rows = capsys.readouterr().out.replace(" (scratch) |", " |").splitlines()
    assert len(rows) == 2 + 11 + 3
    assert [row for row in rows if row not in page] == []


@pytest.fixture
def transfer(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module("transfer")


def write_transfer(transfer, folder):
    """Every pair: gains that follow knowledge, losses that have nothing to do with either."""
    draw = random.Random(1)
    for target, family in transfer.TARGETS.items():
        slug = target.replace("/", "-")
        scores = {"base": {"loss": 4, "accuracy": 0.1, "form": 3, "knowledge": 0.0, "error": 0.03}}
        rows = [{"source": "scratch", "rate": rate, "accuracy": 0.6} for rate in (5e-4, 1e-3)]
        for name in transfer.sources_for(target):
            bits = draw.uniform(0.3, 0.5) if name.startswith(f"{family}/") else draw.random() / 10
            scores[name] = {
                "loss": draw.random(), "accuracy": draw.random(), "form": draw.random(),
                "knowledge": bits, "error": 0.06,
            }  # fmt: skip
            rows.append({"source": name, "rate": 5e-4, "accuracy": 0.6 + bits})
        (folder / f"scores-{slug}.json").write_text(json.dumps(scores))
        probes = {name: 0.1 if name == "base" else draw.random() for name in scores}
        (folder / f"probes-{slug}.json").write_text(json.dumps(probes))
        (folder / f"gains-{slug}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def test_transfer_writes_correlations_goals_and_a_picture(transfer, tmp_path, capsys):
    write_transfer(transfer, tmp_path)
    transfer.report(tmp_path)
    text = (tmp_path / "transfer.md").read_text()
    assert text == capsys.readouterr().out
    assert text.startswith("126 of 126 pairs")
    assert "by 0.7 or more | +1.00 [+1.00, +1.00] | yes |" in text
    assert "| 5 of 5 | yes |" in text
    assert "| none knows trec | none | yes |" in text
    assert "| a probe adds 0.1 or more to knowledge | -" in text
    svg = (tmp_path / "transfer.svg").read_text()
    assert "prefers-color-scheme: dark" in svg
    assert svg.count("<title>") == 2 * 126


def test_transfer_reports_unfinished_work(transfer, tmp_path):
    with pytest.raises(SystemExit, match="no target"):
        transfer.report(tmp_path)
    write_transfer(transfer, tmp_path)
    for path in sorted(tmp_path.glob("gains-*"))[1:]:
        path.unlink()
    transfer.report(tmp_path)
    assert (tmp_path / "transfer.md").read_text().startswith("16 of 126 pairs")


def test_predictions_stand_beside_what_came(transfer, tmp_path, monkeypatch, capsys):
    predictions = importlib.import_module("predictions")
    sizes = {"crises/a": (16, 256), "reviews/b": (16, 256)}
    targets = ("crises/a", "reviews/b", "trec")
    folder = write_study(tmp_path / "families", targets=targets, budgets=(0.25, 1.0), sizes=sizes)
    (tmp_path / "transfer").mkdir()
    monkeypatch.setattr(
        "sys.argv", ["predictions.py", str(folder), "--transfer", str(tmp_path / "transfer")]
    )
    predictions.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    came = {row[0].removeprefix("| "): row[2:] for row in rows if len(row) == 4}
    assert came["crises, all steps, mashup"][0].startswith("+8.0 [")
    assert came["crises, all steps, mashup"][1] == "no |"
    assert came["emotion, all steps, mashup"] == ["", " |"]
    assert came["16 labels, mashup"][0].startswith("+")
    assert "times" in came["scratch needs as many labels as mashup at 64"][0]
