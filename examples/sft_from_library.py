"""Make a start from a library and train it with TRL's SFTTrainer.

python examples/sft_from_library.py LIBRARY BASE DATASET OUTPUT
"""

import sys

import torch
from datasets import load_dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

import mashup


def as_messages(row: dict) -> dict:
    """Lists of messages get the chat template, plain strings do not."""
    return {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "completion": [{"role": "assistant", "content": row["completion"]}],
    }


def main(library: str, name: str, dataset: str, output: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(name)
    tokenizer = AutoTokenizer.from_pretrained(name)

    result = mashup.init(library, name, dataset, output=f"{output}-init", k=2)
    print(result)
    if result.init is None:
        sys.exit("no checkpoint knows this task: train from scratch, with a new LoRA")
    model = PeftModel.from_pretrained(model, result.init.path, is_trainable=True)

    rows = load_dataset("json", data_files=dataset, split="train").map(as_messages)
    use_cpu = not torch.cuda.is_available()
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        args=SFTConfig(output_dir=output, learning_rate=2e-4, num_train_epochs=1, use_cpu=use_cpu),
        train_dataset=rows,
    )
    trainer.train()
    trainer.save_model(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
