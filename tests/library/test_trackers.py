"""Checkpoints of runs in MLflow and W&B: against the real clients where they are installed."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from types import SimpleNamespace

import pytest

import mashup
from helpers import assert_problem, refused, write_adapter
from mashup.errors import InputError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore")  # of the clients


@pytest.fixture(autouse=True)
def own_sources(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def no_client(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize("source", ["mlflow:x", "wandb:me/x"])
def test_a_client_that_is_not_installed(monkeypatch, source):
    package = source.partition(":")[0]
    no_client(monkeypatch, package)
    with pytest.raises(UsageError) as caught:
        mashup.scan(source)
    assert_problem(caught.value.problems[0], f"{package} is not installed")


@pytest.mark.parametrize("source", ["mlflow:", "wandb:"])
def test_a_source_without_a_name(source):
    with pytest.raises(UsageError):
        mashup.scan(source)


class Store:
    """What stands for MLflow's client: artifacts by run, as files of a folder."""

    def __init__(self, folder, runs):
        self.folder, self.runs, self.downloads = folder, runs, []

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id="1") if name == "sentiment" else None

    def search_runs(self, ids, max_results, page_token):
        class Page(list):
            token = None

        return Page(
            SimpleNamespace(
                info=SimpleNamespace(
                    run_name=name, run_id=name * 8, status="FINISHED",
                    artifact_uri="mlflow-artifacts:/1/x",
                ),
                data=SimpleNamespace(metrics={"eval/loss": 0.5}),
            )
            for name in self.runs
        )  # fmt: skip

    def list_artifacts(self, run, path):
        here = self.folder / run / (path or "")
        found = sorted(here.iterdir()) if here.is_dir() else []
        return [
            SimpleNamespace(path=str(p.relative_to(self.folder / run)), is_dir=p.is_dir())
            for p in found
        ]

    def download_artifacts(self, run, path, into):
        import shutil

        self.downloads.append((run, path))
        shutil.copytree(self.folder / run / path, os.path.join(into, path))


@pytest.fixture
def store(tmp_path, monkeypatch):
    made = Store(tmp_path / "store", ["a", "../b", "c"])
    write_adapter(tmp_path / "store/aaaaaaaa/final/adapter")
    write_adapter(tmp_path / "store" / ("../b" * 8) / "adapter")
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=lambda: made))
    return made


def test_runs_are_fetched_once_and_keep_their_metrics(store, tmp_path):
    library = mashup.scan("mlflow:sentiment")
    places = [c.path.relative_to(library.root).as_posix() for c in library.checkpoints]
    assert places == ["a-aaaaaaaa/final/adapter", "b-b-b-b-b-/adapter"]
    assert {c.metric for c in library.checkpoints} == {("eval_loss", 0.5)}
    assert library.notes == ("1 runs without a checkpoint: c",)
    assert library.source == "mlflow:sentiment"
    assert all(c.path.is_relative_to(tmp_path / "cache") for c in library.checkpoints)
    count = len(store.downloads)
    mashup.scan("mlflow:sentiment")
    assert len(store.downloads) == count


def test_runs_without_artifacts_and_unknown_experiments(store):
    store.runs = ["c", "d"]
    with refused("no checkpoint in the source", found="2 runs without a checkpoint: c"):
        mashup.scan("mlflow:sentiment")
    with refused("no such experiment", where="mlflow:other"):
        mashup.scan("mlflow:other")


def test_a_download_that_fails_leaves_nothing(store, monkeypatch, tmp_path):
    def cut(run, path, into):
        write_adapter(tmp_path / "x")
        raise ConnectionError("https://user:secret@host/api is gone")

    monkeypatch.setattr(store, "download_artifacts", cut)
    with pytest.raises(InputError) as caught:
        mashup.scan("mlflow:sentiment")
    assert_problem(caught.value.problems[0], "the tracker refuses", where="run a")
    assert "secret" not in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*adapter*"))


def test_offline_runs_of_wandb_are_linked(tmp_path):
    write_adapter(tmp_path / "wandb/offline-run-1-abc/files/out")
    (tmp_path / "wandb/offline-run-2-def/files").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "wandb"):
        library = mashup.scan(f"wandb:{folder}")
        assert len(library.checkpoints) == 1
        assert library.notes == ("1 runs without a checkpoint: offline-run-2-def",)


def test_a_real_mlflow_file_store(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    number = client.create_experiment("real", artifact_location=(tmp_path / "art").as_uri())
    run = client.create_run(number, run_name="first").info.run_id
    client.log_artifacts(run, str(write_adapter(tmp_path / "one")), "adapter")
    (one,) = mashup.scan("mlflow:real").checkpoints
    assert one.problem is None
    assert one.path.resolve().is_relative_to(tmp_path / "art")
    assert len(mashup.scan(f"mlflow:{number}").checkpoints) == 1


def test_a_real_mlflow_server(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--backend-store-uri", f"sqlite:///{tmp_path}/db", "--workers", "1",
        "--artifacts-destination", str(tmp_path / "art"), "--serve-artifacts",
    ]  # fmt: skip
    server = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(180):
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=5)
                break
            except OSError:
                time.sleep(1)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        client = mlflow.MlflowClient()
        number = client.create_experiment("real")
        run = client.create_run(number, run_name="first").info.run_id
        client.log_metric(run, "eval_loss", 0.25)
        client.log_artifacts(run, str(write_adapter(tmp_path / "one")), "out/adapter")
        client.set_terminated(run)
        client.create_run(number, run_name="empty")
        library = mashup.scan("mlflow:real")
        (one,) = library.checkpoints
        assert (one.problem, one.metric) == (None, ("eval_loss", 0.25))
        assert one.path.is_relative_to(tmp_path / "cache")
        assert library.notes == ("1 runs without a checkpoint: empty",)
    finally:
        os.killpg(server.pid, 15)
        server.wait()
    with refused("the tracker refuses"):
        mashup.scan("mlflow:real")


def test_a_real_offline_run_of_wandb(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    write_adapter(tmp_path / "out")
    run = wandb.init(project="p", mode="offline", dir=str(tmp_path))
    run.save("out/*", base_path=str(tmp_path))
    run.finish()
    (one,) = mashup.scan(f"wandb:{tmp_path}").checkpoints
    assert one.problem is None
