"""Use an init as somebody does who has never heard of mashup; run in a process of its own.

``python -I use_folder.py FOLDER IDS ROWS OUTPUT`` loads the folder, adapter or full checkpoint,
trains one step of TRL on the rows, and writes ``logits.safetensors`` and ``facts.json``.
"""

import json
import sys
from pathlib import Path

import torch
from datasets import load_dataset
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def load(folder):
    """The model to train, from the folder alone: an adapter names its base."""
    if (folder / "adapter_config.json").exists():
        return AutoPeftModelForCausalLM.from_pretrained(folder, is_trainable=True)
    return AutoModelForCausalLM.from_pretrained(folder)


def logits(model, ids):
    """What the model computes, a copy."""
    with torch.no_grad():
        return model.eval()(ids).logits.clone()


def make_trainer(folder, rows, output):
    """TRL, one step over all rows, with loss on answers only."""
    settings = SFTConfig(
        output_dir=str(output / "run"),
        max_steps=1,
        warmup_steps=0,
        learning_rate=1e-3,
        logging_steps=1,
        per_device_train_batch_size=len(rows),
        per_device_eval_batch_size=len(rows),
        report_to="none",
        bf16=False,
        use_cpu=True,
    )
    return SFTTrainer(
        model=load(folder),
        processing_class=AutoTokenizer.from_pretrained(folder),
        args=settings,
        train_dataset=rows,
        eval_dataset=rows,
    )


def main(folder, ids, rows, output):
    """Load three ways, train one step, write down what happened."""
    ids = load_file(ids)["ids"]
    found = {"loaded": logits(load(folder), ids)}
    found["transformers"] = logits(AutoModelForCausalLM.from_pretrained(folder), ids)
    trainer = make_trainer(folder, load_dataset("json", data_files=rows, split="train"), output)
    found["before"] = logits(trainer.model, ids)
    facts = {
        "trainable": [n for n, p in trainer.model.named_parameters() if p.requires_grad],
        "loss_before": trainer.evaluate()["eval_loss"],
    }
    trainer.train()
    found["after"] = logits(trainer.model, ids)
    facts["losses"] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    facts["mashup"] = [name for name in sys.modules if name.split(".")[0] == "mashup"]
    save_file(found, output / "logits.safetensors")
    (output / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
