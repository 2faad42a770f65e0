"""Two processes of ``accelerate launch`` on one run, for real: the numbers of one process."""

import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from experiments import values, write_experiment, write_tasks
from helpers import prompt_rows, write_jsonl
from mashup import TrainSettings, UsageError, load_base, load_task, train
from mashup.experiment.run import prepare, run_jobs
from mashup.results.curve import read_curve

LAUNCH = (sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes=2")
OPTIONS = ("--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no")
WORDS = {"max_steps": 4, "batch_size": 8, "learning_rate": 1e-2, "evaluations": 2, "seed": 1}


def launch(folder, *arguments):
    """Start ``mashup`` in two processes, in a folder of its own."""
    command = (*LAUNCH, *OPTIONS, "--main_process_port=0", "--module", "mashup.cli", *arguments)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "hf")}
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_run_of_two_processes_is_the_run_of_one(tiny_base, tmp_path, kind):
    rows = write_jsonl(tmp_path / "even.jsonl", prompt_rows(90))
    words = WORDS | {"finetuning_type": kind}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in words.items()]
    here = f"--model={tiny_base}", f"--dataset={rows}", "--dtype=float32", "--device=cpu"
    done = launch(tmp_path, "train", *here, *flags, "-o", "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written:") == 1
    base = load_base(tiny_base, dtype="float32", device="cpu")
    settings = TrainSettings(**words)
    one = train(base, load_task(rows), output=tmp_path / "one", settings=settings)
    curve = read_curve(tmp_path / "two" / "curve.jsonl")
    again = train(base, load_task(rows), output=tmp_path / "two", settings=settings)
    assert again.last == curve[-1]  # the same run: known, not trained again
    assert [point.tokens for point in curve] == [point.tokens for point in one.curve]
    losses = [point.test_loss for point in one.curve]
    assert [point.test_loss for point in curve] == pytest.approx(losses, abs=1e-4)
    name = "adapter_model.safetensors" if kind == "lora" else "model.safetensors"
    assert_close(
        load_file(tmp_path / "two" / name), load_file(one.path / name), rtol=1e-3, atol=1e-4
    )
    assert not (tmp_path / "two" / ".resume").exists()


def test_an_experiment_of_two_processes_has_the_records_of_one(tiny_base, tmp_path):
    small = {"seeds": [1], "learning_rates": [0.02]}
    experiment = write_experiment(tmp_path / "e.yaml", tiny_base, write_tasks(tmp_path), **small)
    done = launch(tmp_path, "loo", "e.yaml", "-o", "two")
    assert done.returncode == 0, done.stderr
    run_jobs(prepare(experiment, tmp_path / "one"))
    found, expected = values(tmp_path / "two"), values(tmp_path / "one")
    assert found.keys() == expected.keys()
    assert {k: v for k, v in found.items() if v is not None} == pytest.approx(
        {k: v for k, v in expected.items() if v is not None}, abs=1e-3
    )
    assert {task for task, *_ in found} == {"one"}


@pytest.mark.slow
def test_rows_that_cannot_be_read_end_both(tiny_base, tmp_path):
    write_experiment(tmp_path / "e.yaml", tiny_base, write_tasks(tmp_path), seeds=[1])
    (tmp_path / "two.jsonl").write_text("{")
    done = launch(tmp_path, "loo", "e.yaml", "-o", "two")
    assert done.returncode != 0
    assert "two.jsonl" in done.stderr


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED"])
def test_shards_are_refused_before_anything_is_written(tiny_base, tmp_path, monkeypatch, name):
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    rows = write_jsonl(tmp_path / "even.jsonl", prompt_rows(90))
    base = load_base(tiny_base, dtype="float32", device="cpu")
    with pytest.raises(UsageError, match="sharded training"):
        train(base, load_task(rows), output=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_batch_that_does_not_divide_is_told(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    rows = write_jsonl(tmp_path / "even.jsonl", prompt_rows(90))
    base = load_base(tiny_base, dtype="float32", device="cpu")
    with pytest.raises(UsageError, match="uneven batch"):
        train(base, load_task(rows), output=tmp_path / "r", settings=TrainSettings(batch_size=8))
    assert not (tmp_path / "r").exists()
