"""Merges beside ``cp``, mergekit and PEFT: seconds and peak memory, every run a fresh process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthetic import write_lora, write_model
from timing import medians, ratio

HERE = Path(__file__).parent
_ROUNDS = 5
_MERGEKIT = HERE.parent / ".oracles" / "bin" / "python"


def full_merge(gib: float = 1.0, parents: int = 2, rounds: int = _ROUNDS) -> dict[str, Any]:
    """``linear`` of whole bfloat16 models: ours, mergekit's, and ``cp`` of one of them."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("MASHUP_BENCH_DIR")) as place:
        folder = Path(place)
        models = [folder / f"m{n}" for n in range(parents)]
        size = max(write_model(model, gib, seed) for seed, model in enumerate(models))
        runs = {"ours": _python("linear", *models), "cp": _python("copy", models[0])}
        if _mergekit() is not None:
            runs["mergekit"] = [str(_mergekit()), str(HERE / "peers.py"), "mergekit"] + [
                str(model) for model in models
            ]
        seconds, memory = _interleaved(runs, folder / "out", rounds)
        moved = {"ours": (parents + 1) * size, "cp": 2 * size, "mergekit": (parents + 1) * size}
        result: dict[str, Any] = {
            "GiB each": size / 2**30,
            "parents": parents,
            "seconds": medians(seconds),
            "GB moved a second": {n: moved[n] / 1e9 / s for n, s in medians(seconds).items()},
            "peak GiB": {name: memory[name] / 2**30 for name in runs if name != "cp"},
        }
        speed = {n: [s / moved[n] for s in times] for n, times in seconds.items()}
        result["throughput of ours / cp (bytes read and written)"] = ratio(speed, "cp", "ours")
        result["seconds of cp / ours (for one output)"] = ratio(seconds, "cp", "ours")
        if "mergekit" in seconds:
            result["mergekit / ours (seconds)"] = ratio(seconds, "mergekit", "ours")
        return result


def memory() -> dict[str, Any]:
    """Peak memory of full merges of two models of 1, 4 and 16 GiB, which are made and deleted."""
    idle = _report([sys.executable, str(HERE / "peers.py"), "nothing"])["peak"]
    peaks: dict[str, Any] = {"an idle process with the imports, GiB": idle / 2**30}
    for gib in (1, 4, 16):
        with tempfile.TemporaryDirectory(dir=os.environ.get("MASHUP_BENCH_DIR")) as place:
            models = [Path(place) / f"m{n}" for n in range(2)]
            for seed, model in enumerate(models):
                write_model(model, gib, seed)
            for method in ("linear", "ties"):
                command = [*_python(method, *models), str(Path(place) / "out")]
                peaks[f"{gib} GiB each, {method}: peak GiB"] = _report(command)["peak"] / 2**30
                shutil.rmtree(Path(place) / "out")
    return peaks


def lora_merge(width: int = 4096, layers: int = 32, rank: int = 16) -> dict[str, Any]:
    """Four LoRAs of all layers here, one module in PEFT (``svd``), extrapolated to all."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("MASHUP_BENCH_DIR")) as place:
        folder = Path(place)
        loras = [folder / f"l{n}" for n in range(4)]
        for seed, lora in enumerate(loras):
            write_lora(lora, width, layers, rank, seed)
        ours, memory = _interleaved({"ours": _python("linear", *loras)}, folder / "out", 3)
        size = sum((lora / "adapter_model.safetensors").stat().st_size for lora in loras)
        peft = _report([sys.executable, str(HERE / "peers.py"), "peft", *map(str, loras)])
        modules = 4 * layers
        seconds = medians(ours)["ours"]
        base = _report([sys.executable, str(HERE / "peers.py"), "nothing"])["peak"]
        return {
            "modules": modules,
            "ours: seconds, all modules": seconds,
            "PEFT svd: seconds, one module": peft["seconds"],
            "PEFT svd: seconds, all modules (extrapolated)": peft["seconds"] * modules,
            "PEFT / ours": peft["seconds"] * modules / seconds,
            "ours: peak bytes above an idle process / bytes of the parents": (
                (memory["ours"] - base) / size
            ),
            "ours: relative error to float64": peft["ours_error"],
            "PEFT svd: relative error to float64": peft["peft_error"],
        }


def _python(what: str, *folders: Path) -> list[str]:
    return [sys.executable, str(HERE / "peers.py"), what, *map(str, folders)]


def _mergekit() -> Path | None:
    found = Path(os.environ.get("MASHUP_MERGEKIT", _MERGEKIT))
    return found if found.exists() else None


def _interleaved(
    runs: dict[str, list[str]], out: Path, rounds: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds and peak bytes of each; the first round is not counted, the output is deleted."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    peaks: dict[str, int] = dict.fromkeys(runs, 0)
    for number in range(rounds + 1):
        for name, command in runs.items():
            shutil.rmtree(out, ignore_errors=True)
            report = _report([*command, str(out)])
            peaks[name] = max(peaks[name], report["peak"])
            if number:
                seconds[name].append(report["seconds"])
    shutil.rmtree(out, ignore_errors=True)
    return seconds, peaks


def _report(command: Sequence[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
