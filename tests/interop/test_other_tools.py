"""Other trainers start from the init, by the snippets of docs/use-the-init.md.

Each needs an environment of its own, named by ``INTEROP_AXOLOTL=.../bin/python``, and so on; a tool
that is not named is skipped. A tool trains on four rows in one batch, from the init, from the
model with the init merged into it, and from the base.
"""

import os
import re
import shlex
from pathlib import Path

import pytest
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM

from helpers import write_json
from snippets import filled, snippet

pytestmark = pytest.mark.slow
LOSS = re.compile(r"'loss': '?([\d.]+)")


def python_of(tool):
    """The Python that has the tool, as the environment names it."""
    variable = f"INTEROP_{tool.upper()}"
    if variable not in os.environ:
        pytest.skip(f"{tool} has an environment of its own: set {variable} to its Python")
    return Path(os.environ[variable])


@pytest.fixture(scope="module")
def whole(base, tokenizer, init, tmp_path_factory):
    """The base with the init merged into it by PEFT."""
    folder = tmp_path_factory.mktemp("whole") / "merged"
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), init)
    model.merge_and_unload().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def axolotl(python, paths, *, full):
    """Validates the YAML and trains; on a CPU without bfloat16 it would take float16."""
    config = yaml.safe_load(filled(snippet("axolotl", "yaml"), **paths))
    config |= {"bf16": False, "fp16": False, "max_steps": 1, "logging_steps": 1}
    if full:
        del config["adapter"], config["lora_model_dir"]
    file = write_json(paths["output"].with_suffix(".yaml"), config)
    return [python.with_name("axolotl"), "train", file, "--launcher", "python"]


def llamafactory(python, paths, *, full):
    """Takes the rows by name from ``dataset_info.json`` beside them."""
    folder = paths["rows"].parent
    (folder / "dataset_info.json").write_text(snippet("LLaMA-Factory", "json"))
    config = yaml.safe_load(filled(snippet("LLaMA-Factory", "yaml"), **paths))
    config |= {"dataset_dir": str(folder), "max_steps": 1, "logging_steps": 1, "report_to": "none"}
    if full:
        del config["adapter_name_or_path"]
        config["finetuning_type"] = "full"
    file = write_json(paths["output"].with_suffix(".yaml"), config)
    return [python.with_name("llamafactory-cli"), "train", file]


def swift(python, paths, *, full):
    """Needs to be told what a model is that no hub knows."""
    command = shlex.split(filled(snippet("ms-swift", "bash"), **paths))
    command[0] = python.with_name(command[0])
    if full:
        place = command.index("--adapters")
        command[place : place + 2] = ["--tuner_type", "full"]
    more = "--model_type llama --template chatml --torch_dtype float32 --max_steps 1"
    more += " --per_device_train_batch_size 4 --split_dataset_ratio 0 --report_to none"
    return command + shlex.split(more + " --logging_steps 1")


def unsloth(python, paths, *, full):
    """Gets full checkpoints by the place of the init; float32 by hand."""
    text = filled(
        snippet("Unsloth", "python"), **paths | {"init": paths["base" if full else "init"]}
    )
    wanted = f"load_in_4bit=False, dtype=torch.float32, full_finetuning={full}"
    text = text.replace("load_in_4bit=False", wanted)
    few = (
        "max_steps=1, logging_steps=1, per_device_train_batch_size=4, bf16=False, report_to='none'"
    )
    text = text.replace("SFTConfig(", f"SFTConfig({few}, ")
    script = paths["output"].with_suffix(".py")
    script.write_text(f"import unsloth, torch\n{text}")
    return [python, script]


@pytest.mark.parametrize("tool", [axolotl, llamafactory, swift, unsloth], ids=lambda t: t.__name__)
def test_the_first_loss_from_the_init_is_that_of_the_merged_model(
    tool, fresh, base, init, whole, rows, tmp_path
):
    python = python_of(tool.__name__)
    losses = {}
    for name, model in {"init": base, "merged": whole, "base": base}.items():
        paths = {"base": model, "init": init, "rows": rows, "output": tmp_path / name}
        said = fresh(tool(python, paths, full=name != "init"), cwd=tmp_path)
        losses[name] = float(LOSS.findall(said)[0])
    print(tool.__name__, losses)
    assert losses["init"] == pytest.approx(losses["merged"], abs=0.002)
    assert abs(losses["init"] - losses["base"]) > 0.1


def test_vllm_takes_the_arguments_and_reads_the_adapter(fresh, init, tmp_path):
    command = shlex.split(snippet("vLLM", "bash"))
    script = Path(__file__).with_name("read_with_vllm.py")
    fresh([python_of("vllm"), script, init, *command[1:]], cwd=tmp_path)
