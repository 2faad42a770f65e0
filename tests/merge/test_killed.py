"""A merge that is killed leaves nothing that looks finished, and run again it completes."""

import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save_file

from helpers import write_json
from mashup import merge
from mashup.errors import OutputError

LOCK = ".m.mashup-lock"
#: Merges ``argv[1:]`` into the folder of the last argument.
_CODE = (
    "import sys, mashup; merge = mashup.merge; print('ready', flush=True); "
    "merge(sys.argv[1:-1], output=sys.argv[-1], accept_base=True, shard_size=0.02)"
)
#: ``mashup`` whose merges write a tensor each half second: a signal comes before the last one.
_SLOW = (
    "import time; from mashup._merge.shards import ShardWriter; write = ShardWriter.write; "
    "ShardWriter.write = lambda *a: (time.sleep(0.5), write(*a)); "
    "from mashup.__main__ import main; main()"
)


def large(folder, seed):
    """A model of 64 MB in tensors of 4 MB, random and cheap to make."""
    tensors = {
        f"model.layers.{n}.mlp.up_proj.weight": torch.full((1024, 1024), seed + n / 7)
        for n in range(16)
    }
    write_json(folder / "config.json", {"model_type": "llama", "tie_word_embeddings": True})
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def parents(tmp_path_factory):
    root = tmp_path_factory.mktemp("large")
    return [large(root / name, seed) for seed, name in enumerate("abc")]


def contents(folder):
    kept = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "mashup.json"}
    assert "mashup.json" in {path.name for path in folder.iterdir()}
    return kept


def test_killed_at_any_moment_and_run_again(parents, tmp_path):
    started = time.perf_counter()
    whole = merge(parents, output=tmp_path / "whole", accept_base=True, shard_size=0.02)
    seconds = time.perf_counter() - started
    output, killed = tmp_path / "m", 0
    for moment in (0, 0.1, 0.3, 0.5, 0.7, 0.9):
        command = [sys.executable, "-c", _CODE, *map(str, parents), str(output)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            while not list(tmp_path.glob(".m.*-part")) and not output.exists():
                time.sleep(0.001)
            time.sleep(seconds * moment)
            process.send_signal(signal.SIGKILL)
        if output.exists():
            break
        killed += 1
        (part,) = tmp_path.glob(".m.*-part")
        assert {path.name for path in tmp_path.iterdir()} == {"whole", part.name, LOCK}
        shutil.rmtree(part)  # so that the next one is seen to begin
    assert killed
    if not output.exists():
        merge(parents, output=output, accept_base=True, shard_size=0.02)
    assert contents(output) == contents(whole.path)
    assert {p.name for p in tmp_path.iterdir()} == {"whole", "m"}


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_merge_leaves_nothing(parents, tmp_path, stop, code):
    flags = ["-o", str(tmp_path / "m"), "--method", "ties", "--model", str(parents[0])]
    command = [sys.executable, "-c", _SLOW, "merge", *map(str, parents), "--accept-base", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob(".m.*-part")):
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(stop)
        told = process.stderr.read()
    assert process.returncode == code
    assert "stopped" in told
    assert "Traceback" not in told
    assert not list(tmp_path.iterdir())


def test_a_part_that_a_killed_merge_left_is_not_used(parents, tmp_path):
    part = tmp_path / ".m.0123abcd.mashup-part"
    part.mkdir()
    (part / "model-00099-of-00099.safetensors").write_bytes(b"old")
    init = merge(parents, output=tmp_path / "m", accept_base=True)
    assert {p.name for p in init.path.glob("*.safetensors")} == {"model.safetensors"}


def test_a_disk_without_room_is_refused_before_a_byte_is_written(parents, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: _Usage)
    with pytest.raises(OutputError, match="not enough disk space"):
        merge(parents, output=tmp_path / "m", accept_base=True)
    assert not list(tmp_path.iterdir())


class _Usage:
    free = 1_000_000
