"""Let vLLM read an adapter and parse its own arguments; run by the Python that has vLLM.

``python read_with_vllm.py FOLDER serve BASE --enable-lora ...``. vLLM serves on a GPU; on a CPU
this goes as far as its reader: the product that it holds must be the folder's ``s·B·A``.
"""

import json
import sys
from pathlib import Path

import torch
import vllm.lora.lora_model as reading
import vllm.platforms as platforms
from safetensors.torch import load_file
from vllm.config.lora import LoRAConfig
from vllm.lora.peft_helper import PEFTHelper
from vllm.platforms.cpu import CpuPlatform


def parse(arguments):
    """Arguments as ``vllm serve`` takes them."""
    platforms._current_platform = CpuPlatform()
    from vllm.entrypoints.common.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    return make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)


def read(folder, rank):
    """Modules as vLLM holds them, after its own check of the rank."""
    helper = PEFTHelper.from_local_dir(str(folder), 512)
    helper.validate_legal(LoRAConfig(max_lora_rank=rank, max_loras=1))
    reading.PIN_MEMORY = False
    tensors = load_file(folder / "adapter_model.safetensors")
    names = {name.split(".lora_")[0].split(".")[-1] for name in tensors}
    model = reading.LoRAModel.from_local_checkpoint(
        str(folder), names, helper, lora_model_id=1, device="cpu", dtype=torch.float32
    )
    return model.loras, tensors


def main(folder, arguments):
    """Every module's product is the folder's own."""
    asked = parse(arguments[1:])
    assert asked.enable_lora, asked
    held, tensors = read(folder, asked.max_lora_rank)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert len(held) == len(tensors) // 2, sorted(held)
    for name, module in held.items():
        key = f"base_model.model.{name}"
        b, a = (tensors[f"{key}.lora_{side}.weight"] for side in "BA")
        expected = config["lora_alpha"] / config["r"] * (b @ a)
        torch.testing.assert_close(module.scaling * (module.lora_b @ module.lora_a), expected)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
