"""``--dry-run``: what it says is what happens."""

import json
import subprocess
import sys

import pytest
import torch

from lora import save_lora
from mashup import merge
from mashup.cli.__main__ import main
from wholes import relative_of, tensors_of, write_whole

#: ``mashup`` in a process of its own, which prints its peak of memory in KiB at the end.
_PEAK = (
    "import re, runpy, sys; sys.argv = ['mashup', *sys.argv[1:]]\n"
    "try:\n    runpy.run_module('mashup.cli', run_name='__main__')\n"
    "finally:\n    print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
)


@pytest.fixture
def dry_run(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main(["merge", *map(str, arguments), "--dry-run", "--json"])
        assert not done.value.code
        return json.loads(capsys.readouterr().out)

    return run


def size(folder):
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def test_bytes_of_models(tiny_base, tmp_path, dry_run):
    parents = [relative_of(tiny_base, tmp_path / n, seed=s) for s, n in enumerate("ab")]
    cost = dry_run(*parents, "-o", tmp_path / "m", "--accept-base")
    assert not (tmp_path / "m").exists()
    init = merge(parents, output=tmp_path / "m", accept_base=True)
    assert cost["bytes_written"] == size(init.path)
    data = sum(size(folder) for folder in parents)
    assert data * 0.9 < cost["bytes_read"] <= data
    assert (cost["output_kind"], cost["files"], cost["tensors"]) == ("full", 1, 21)


def test_bytes_of_loras(tiny_base, tmp_path, dry_run):
    parents = [save_lora(tiny_base, tmp_path / n, seed=s) for s, n in enumerate("ab")]
    cost = dry_run(*parents, "-o", tmp_path / "m")
    init = merge(parents, output=tmp_path / "m")
    assert cost["bytes_read"] == sum(size(folder) for folder in parents)
    assert cost["bytes_written"] == pytest.approx(size(init.path), rel=0.2)
    assert cost["output_kind"] == "lora"


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("method", ["linear", "ties"])
def test_the_peak_of_memory_is_not_more_than_was_told(tiny_base, tmp_path, dry_run, method):
    parents = [relative_of(tiny_base, tmp_path / n, seed=s) for s, n in enumerate("ab")]
    given = (*parents, "-o", tmp_path / "m", "--accept-base", "--model", tiny_base)
    cost = dry_run(*given, "--method", method)
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, "merge", *map(str, given), "--method", method],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout.split()[-1]) * 1024 < cost["peak_memory"]


def test_a_dry_run_refuses_what_a_merge_refuses(tiny_base, tied_base, tmp_path, capsys):
    parents = [relative_of(tiny_base, tmp_path / "a", seed=1), relative_of(
        tied_base, tmp_path / "b", seed=2)]  # fmt: skip
    arguments = ["merge", *map(str, parents), "-o", str(tmp_path / "m"), "--dry-run"]
    with pytest.raises(SystemExit) as done:
        main([*arguments, "--accept-base", "--model", str(tiny_base)])
    assert done.value.code == 3
    assert "tied weights differ" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("method", "least", "most"), [("ties", 0, 9e8), ("della", 1e9, 1e10)])
def test_long_rows_are_counted_as_they_are_held(tiny_base, tmp_path, dry_run, method, least, most):
    tensors = tensors_of(tiny_base) | {"model.long": torch.ones(1, 10_000_000)}
    parents = [write_whole(tmp_path / n, tensors, tiny_base) for n in "ab"]
    options = ("--accept-base", "--model", parents[0], "--method", method)
    cost = dry_run(*parents, "-o", tmp_path / "m", *options)
    assert least < cost["peak_memory"] < most
