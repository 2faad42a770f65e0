"""One timed merge in a process of its own: ``peers.py NAME FOLDER...``.

Prints a line of JSON: seconds without imports, and peak memory in bytes. For ``mergekit`` it
is run by the Python of an environment that has it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def linear(*arguments: str) -> dict[str, float]:
    """``mashup merge`` of all folders but the last, which is the output."""
    from transformers import AutoConfig

    from mashup import merge

    AutoConfig.for_model("llama")  # loads what comparing settings needs: imports are not timed
    *parents, output = arguments
    return {"seconds": _seconds(lambda: merge(parents, output=output, accept_base=True))}


def ties(*arguments: str) -> dict[str, float]:
    """The same by ``ties``, with the first folder as the base."""
    from mashup import merge

    *parents, output = arguments
    options = {"method": "ties", "base": parents[0], "accept_base": True}
    return {"seconds": _seconds(lambda: merge(parents, output=output, **options))}


def copy(source: str, output: str) -> dict[str, float]:
    """``cp -r``, the program."""
    return {"seconds": _seconds(lambda: subprocess.run(["cp", "-r", source, output], check=True))}


def mergekit(*arguments: str) -> dict[str, float]:
    """mergekit's ``linear`` with equal weights."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import MergeOptions, run_merge

    *parents, output = arguments
    models = [{"model": folder, "parameters": {"weight": 1 / len(parents)}} for folder in parents]
    settings = {"merge_method": "linear", "models": models, "dtype": "bfloat16"}
    config = MergeConfiguration.model_validate(settings)
    options = MergeOptions(copy_tokenizer=False, quiet=True)
    return {"seconds": _seconds(lambda: run_merge(config, out_path=output, options=options))}


def peft(*folders: str) -> dict[str, float]:
    """PEFT's ``svd`` of the first module of four LoRAs, and both tools' errors on it."""
    import tempfile

    from safetensors.torch import load_file

    parents = [load_file(Path(folder) / "adapter_model.safetensors") for folder in folders]
    key = "base_model.model.model.layers.0.self_attn.q_proj"
    halves = [(p[f"{key}.lora_A.weight"], p[f"{key}.lora_B.weight"]) for p in parents]
    exact = sum(0.25 * 2.0 * (B.double() @ A.double()) for A, B in halves)
    model, rank = _with_adapters(halves), halves[0][0].shape[0]
    names = [f"p{n}" for n in range(len(halves))]
    weights = [1 / len(halves)] * len(halves)
    seconds = _seconds(
        lambda: model.add_weighted_adapter(
            names, weights, "merged", combination_type="svd", svd_rank=rank * len(halves)
        )
    )
    layer = model.base_model.model.q_proj
    scale = layer.scaling["merged"]
    A, B = (half["merged"].weight.detach().double() for half in (layer.lora_A, layer.lora_B))
    with tempfile.TemporaryDirectory() as place:
        from mashup import merge

        merge(folders, output=Path(place) / "m", accept_base=True)
        made = load_file(Path(place) / "m" / "adapter_model.safetensors")
        own = 2.0 * (made[f"{key}.lora_B.weight"].double() @ made[f"{key}.lora_A.weight"].double())
    norm = exact.norm()
    error = {"peft_error": float((scale * (B @ A) - exact).norm() / norm)}
    return {"seconds": seconds, "ours_error": float((own - exact).norm() / norm), **error}


def _with_adapters(halves: list) -> object:
    """One linear layer with the LoRAs on it."""
    import torch
    from peft import LoraConfig, get_peft_model

    A, B = halves[0]
    bare = torch.nn.Module()
    bare.q_proj = torch.nn.Linear(A.shape[1], B.shape[0], bias=False)
    settings = LoraConfig(r=A.shape[0], lora_alpha=2 * A.shape[0], target_modules=["q_proj"])
    model = get_peft_model(bare, settings, adapter_name="p0")
    for number in range(1, len(halves)):
        model.add_adapter(f"p{number}", settings)
    layer = model.base_model.model.q_proj
    for number, (A, B) in enumerate(halves):
        layer.lora_A[f"p{number}"].weight.data, layer.lora_B[f"p{number}"].weight.data = A, B
    return model


def nothing() -> dict[str, float]:
    """Only the imports."""
    from transformers import AutoConfig

    import mashup._merge.merge  # noqa: F401

    AutoConfig.for_model("llama")
    return {"seconds": 0.0}


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    name, *arguments = sys.argv[1:]
    report = globals()[name](*arguments)
    print(json.dumps(report | {"peak": _peak()}))


def _peak() -> int:
    """Most memory in bytes; what ``getrusage`` says is at least that of the process before it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
