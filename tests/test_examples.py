"""The scripts of examples/ run on a small random model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import write_jsonl
from mashup import TrainSettings, load_base, load_task, train

ROOT = Path(__file__).parents[1]


def rows(count, ending=""):
    """Free answers: checkpoints are chosen by loss, since so small a model cannot know a task."""
    return [
        {"prompt": f"Is {n} good or bad?{ending}", "completion": f"It is {n}, good."}
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def inputs(tiny_base, tmp_path_factory):
    """A library with one checkpoint that knows the task, the base, and the task's rows."""
    folder = tmp_path_factory.mktemp("examples")
    more = write_jsonl(folder / "more.jsonl", rows(120, " Say it."))
    settings = TrainSettings(max_steps=12, batch_size=8, learning_rate=3e-2)
    base = load_base(tiny_base, dtype="float32")
    train(base, load_task(more), output=folder / "library/even", settings=settings)
    task = write_jsonl(folder / "task.jsonl", rows(120))
    return [str(folder / "library"), str(tiny_base), str(task)]


def run(script, *arguments):
    """What a script prints; a failure shows its stderr."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / script, *map(str, arguments)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_start_or_scratch(inputs, tmp_path):
    printed = run("start_or_scratch.py", *inputs, tmp_path / "run")
    assert "start from even" in printed
    assert (tmp_path / "run/adapter_model.safetensors").is_file()
    assert (tmp_path / "run-init/adapter_model.safetensors").is_file()


def test_sft_from_library(inputs, tmp_path):
    run("sft_from_library.py", *inputs, tmp_path / "run")
    assert (tmp_path / "run/adapter_model.safetensors").is_file()


def test_labels_needed(inputs, tmp_path):
    printed = run(
        "labels_needed.py", *inputs, tmp_path / "runs", "--labels", "16", "40", "--max-steps", "4"
    )
    lines = printed.splitlines()
    assert lines[0].split() == ["labels", "scratch", "from", "a", "start"]
    assert [line.split()[0] for line in lines[1:]] == ["16", "40"]
