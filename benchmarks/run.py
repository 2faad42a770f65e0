"""Run benchmarks and write results.json and RESULTS.md beside this file."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from mashup._merge.manifest import versions
from merging import full_merge, lora_merge, memory
from processes import scan, startup
from scoring import packing, prefix, score, swap
from training import train_step

HERE = Path(__file__).parent
_SMALL = 0.001
BENCHMARKS = {
    "startup": startup,
    "scan": scan,
    "score": score,
    "swap": swap,
    "prefix": prefix,
    "packing": packing,
    "train_step": train_step,
    "full_merge": full_merge,
    "lora_merge": lora_merge,
}
#: Run only when named: needs 55 GB of disk and some minutes.
LARGE = {"memory": memory}


def main(names: list[str]) -> None:
    path = HERE / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    results["environment"] = {"machine": machine, **versions()}
    for name in names or BENCHMARKS:
        print(f"{name} ...", file=sys.stderr)
        results[name] = (BENCHMARKS | LARGE)[name]()
        print(json.dumps(results[name], indent=2))
        path.write_text(json.dumps(results, indent=2) + "\n")
    (HERE / "RESULTS.md").write_text(_markdown(results))


def _markdown(results: dict[str, Any]) -> str:
    lines = [
        "# Benchmark results",
        "",
        "Written by `benchmarks/run.py`; medians, ratios with",
        "the least and the most of the rounds.",
        "",
    ]
    for name, result in results.items():
        lines += [f"## {name}", "", "| what | value |", "|---|---|"]
        lines += [f"| {key} | {_shown(value)} |" for key, value in _flat(result).items()]
        lines.append("")
    return "\n".join(lines)


def _flat(result: dict[str, Any]) -> dict[str, Any]:
    flat = {}
    for key, value in result.items():
        if isinstance(value, dict) and "median" not in value:
            flat |= {f"{key}: {inner}": number for inner, number in value.items()}
        else:
            flat[key] = value
    return flat


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['median']:.3f} ({value['min']:.3f} to {value['max']:.3f})"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) >= _SMALL else f"{value:.2g}"
    return str(value)


if __name__ == "__main__":
    main(sys.argv[1:])
