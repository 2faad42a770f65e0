"""The Ray executor, for real on this machine: the records of the local one, also after a kill."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from experiments import values, write_experiment, write_tasks
from mashup import UsageError
from mashup.experiment.jobs import Store
from mashup.experiment.ray import _start, run_ray
from mashup.experiment.run import prepare, run_jobs
from mashup.experiment.worker import Worker

pytest.importorskip("ray", reason="Ray is not installed: pip install 'mashup-learning[ray]'")

ARMS = {"arms": ["scratch", "mashup", "best-single"], "seeds": [1]}
RAY = {"executor": {"kind": "ray", "num_cpus": 1}}


def busy():
    """Processes of this test's Ray that do a job, not those of another one's on this machine."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        process = int(folder.name)
        if title.startswith(b"ray::_task") and os.getpid() in ancestors(process):
            yield process


def ancestors(process):
    """The process that started it, the one that started that, and so on."""
    while process > 1:
        try:
            text = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            return
        process = int(text.rpartition(")")[2].split()[1])
        yield process


class Killer(threading.Thread):
    """Kills one process, a moment after it has begun a job."""

    def __init__(self):
        super().__init__(daemon=True)
        self.killed = None

    def run(self):
        while self.killed is None:
            for process in busy():
                time.sleep(0.3)
                os.kill(process, signal.SIGKILL)
                self.killed = process
                return
            time.sleep(0.05)


def test_jobs_on_ray_give_the_records_of_local_ones_though_one_is_killed(tiny_base, tmp_path):
    data = write_tasks(tmp_path)
    local = write_experiment(tmp_path / "local.yaml", tiny_base, data, **ARMS)
    run_jobs(prepare(local, tmp_path / "local"))
    remote = write_experiment(tmp_path / "ray.yaml", tiny_base, data, **ARMS, **RAY)
    killer = Killer()
    killer.start()
    run_jobs(prepare(remote, tmp_path / "ray"))
    assert killer.killed is not None
    assert values(tmp_path / "ray") == pytest.approx(values(tmp_path / "local"), abs=1e-4)


@pytest.mark.slow
def test_an_experiment_on_ray_whose_command_is_killed_at_random_goes_on(tiny_base, tmp_path):
    data = write_tasks(tmp_path)
    local = write_experiment(tmp_path / "local.yaml", tiny_base, data, **ARMS)
    run_jobs(prepare(local, tmp_path / "local"))
    write_experiment(tmp_path / "ray.yaml", tiny_base, data, **ARMS, **RAY)
    command = [sys.executable, "-m", "mashup", "loo", tmp_path / "ray.yaml", "-o", tmp_path / "ray"]
    times, killed = random.Random(0), 0
    while True:
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as run:
            if killed < 8:
                threading.Timer(times.uniform(5, 40), run.kill).start()
            ended = run.wait()
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        killed += 1
    assert killed >= 3
    assert values(tmp_path / "ray") == pytest.approx(values(tmp_path / "local"), abs=1e-4)


def test_processes_that_accelerate_started_start_no_cluster(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    experiment = write_experiment(tmp_path / "a.yaml", tiny_base, write_tasks(tmp_path), **ARMS)
    worker = Worker(experiment, Store(tmp_path / "jobs"))
    with pytest.raises(UsageError, match="Ray starts processes itself"):
        run_ray(worker, (), lambda job: None)


def test_a_cluster_that_is_not_there_is_a_usage_error(tiny_base, tmp_path):
    away = {"executor": {"kind": "ray", "address": "127.0.0.1:1"}}
    experiment = write_experiment(
        tmp_path / "a.yaml", tiny_base, write_tasks(tmp_path), **ARMS, **away
    )
    with pytest.raises(UsageError, match="no Ray cluster"):
        run_jobs(prepare(experiment, tmp_path / "out"))


def test_sigterm_stays_with_whom_it_was(tmp_path):
    """Ray takes it for itself, and would end with a dump of its stack."""

    class Fake:
        @staticmethod
        def is_initialized():
            return False

        @staticmethod
        def init(**_):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        own = signal.getsignal(signal.SIGTERM)
        experiment = write_experiment(tmp_path / "x.yaml", tmp_path, tmp_path, **RAY)
        assert _start(Fake, experiment)
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)
