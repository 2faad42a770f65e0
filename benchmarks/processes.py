"""Whole processes: start-up, and scanning a thousand adapters."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from timing import interleaved, medians

_LAYERS, _RANK, _COUNT = 30, 8, 1000
_SHAPES = {  # module of SmolLM2-135M -> (d_out, d_in)
    "self_attn.q_proj": (576, 576),
    "self_attn.k_proj": (192, 576),
    "self_attn.v_proj": (192, 576),
    "self_attn.o_proj": (576, 576),
    "mlp.gate_proj": (1536, 576),
    "mlp.up_proj": (1536, 576),
    "mlp.down_proj": (576, 1536),
}


def startup() -> dict[str, Any]:
    """Seconds of ``python -c pass``, ``import mashup`` and ``mashup --help``."""
    variants = {
        "python -c pass": _process([sys.executable, "-c", "pass"]),
        "import mashup": _process([sys.executable, "-c", "import mashup"]),
        "mashup --help": _process([sys.executable, "-m", "mashup.cli", "--help"]),
    }
    return {"seconds": medians(interleaved(variants, 7))}


def scan() -> dict[str, Any]:
    """Seconds of ``mashup scan`` on 1,000 adapters of SmolLM2's shapes, cold and warm."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "library"
        write_library(library, _COUNT)
        command = _process([sys.executable, "-m", "mashup.cli", "scan", str(library)])

        def cold() -> None:
            shutil.rmtree(library / ".mashup", ignore_errors=True)
            command()

        return {
            "adapters": _COUNT,
            "seconds": medians(interleaved({"cold": cold, "warm": command}, 5)),
        }


def write_library(library: Path, count: int) -> None:
    """Adapter folders with true headers; the weights are holes in the files."""
    header = _header()
    config = {
        "peft_type": "LORA", "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "r": _RANK, "lora_alpha": 16, "task_type": "CAUSAL_LM", "bias": "none",
        "target_modules": sorted({name.split(".")[1] for name in _SHAPES}),
    }  # fmt: skip
    text = json.dumps(header).encode()
    size = max(entry["data_offsets"][1] for entry in header.values())
    for number in range(count):
        adapter = library / f"run-{number:04d}"
        adapter.mkdir(parents=True)
        (adapter / "adapter_config.json").write_text(json.dumps(config))
        with (adapter / "adapter_model.safetensors").open("wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            stream.truncate(8 + len(text) + size)


def _header() -> dict[str, Any]:
    header, offset = {}, 0
    for layer in range(_LAYERS):
        for module, (d_out, d_in) in _SHAPES.items():
            for side, shape in (("A", [_RANK, d_in]), ("B", [d_out, _RANK])):
                end = offset + 4 * shape[0] * shape[1]
                name = f"base_model.model.model.layers.{layer}.{module}.lora_{side}.weight"
                header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, end]}
                offset = end
    return header


def _process(command: list[str]) -> Callable[[], None]:
    def run() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return run
