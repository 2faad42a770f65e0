"""Other trainers: from a library to an SFTTrainer in two lines, checked and recorded."""

import json

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

import mashup
from helpers import assert_problem, prompt_rows, refused, write_jsonl
from lora import save_lora
from mashup.checkpoint.history import read_prompts
from mashup.errors import InputError
from mashup.task import load_task, taught_prompts
from mashup.transformers import MashupCallback, check_model, init_for

pytestmark = pytest.mark.filterwarnings("ignore")  # of other packages


@pytest.fixture
def init(tiny_base, tmp_path):
    folder = save_lora(tiny_base, tmp_path / "start", seed=1, size=0.3)
    (folder / "train_prompts.txt").write_text("0123456789abcdef\n")
    return folder


@pytest.fixture
def base(tiny_base):
    return AutoModelForCausalLM.from_pretrained(tiny_base)


def rows_for(tokenizer, count=8):
    ids = [tokenizer(row["prompt"] + row["completion"])["input_ids"] for row in prompt_rows(count)]
    return [{"input_ids": one[:8], "labels": one[:8]} for one in ids]


def trainer_of(model, tokenizer, output, *callbacks, **more):
    args = TrainingArguments(
        output_dir=str(output), max_steps=2, per_device_train_batch_size=1, save_steps=1,
        logging_steps=1, use_cpu=True, report_to="none", disable_tqdm=True, learning_rate=1e-3,
        **more,
    )  # fmt: skip
    rows = rows_for(tokenizer)
    return Trainer(
        model=model, args=args, train_dataset=rows, eval_dataset=rows, callbacks=list(callbacks)
    )


def test_a_run_of_any_trainer_joins_a_library(base, init, tiny_base, tokenizer, tmp_path):
    rows = prompt_rows(8)
    model = PeftModel.from_pretrained(base, init, is_trainable=True)
    callback = MashupCallback(init, task="tickets", rows=rows)
    trainer = trainer_of(model, tokenizer, tmp_path / "run", callback, eval_strategy="steps")
    trainer.train()
    library = mashup.scan(tmp_path / "run", all_checkpoints=True)
    assert [c.step for c in library.checkpoints] == [1, 2]
    one = library.checkpoints[-1]
    assert (one.task, one.base, one.problem) == ("tickets", str(tiny_base), None)
    assert one.metric[0] == "eval_loss"
    told = json.loads((one.path / "mashup.json").read_text())
    assert told["init"] == str(init)
    assert told["start_check"]["tensors"] > 0
    assert told["settings"]["learning_rate"] == 1e-3
    steps = [(p["step"], "eval_loss" in p) for p in told["curve"]]
    assert steps == [(1, False), (1, True), (2, False), (2, True)]
    assert all(p["seconds"] > 0 for p in told["curve"])
    prompts = read_prompts(one.run)
    assert "0123456789abcdef" in prompts  # what the init has seen
    assert len(prompts) > 1
    whole = json.loads((tmp_path / "run/mashup.json").read_text())
    assert (whole["steps"], whole["metrics"]["train_loss"] > 0) == (2, True)


def test_the_prompts_are_those_that_comparisons_look_for(tmp_path):
    rows = prompt_rows(60)
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    task = load_task(str(data))
    callback = MashupCallback(rows=str(data))
    assert taught_prompts(task.train) < callback._prompts
    assert callback._prompts == MashupCallback(rows=Dataset.from_list(rows))._prompts


def test_a_fresh_adapter_in_place_of_the_init_is_noticed(base, init, tokenizer, tmp_path):
    """As with ``SFTTrainer(model=base, peft_config=...)``: it trains, and the init does nothing."""
    config = LoraConfig.from_pretrained(init)
    config.inference_mode = False
    model = get_peft_model(base, config)
    trainer = trainer_of(model, tokenizer, tmp_path / "run", MashupCallback(init))
    with refused("wrong start", found="tensors have other numbers"):
        trainer.train()
    assert not any((tmp_path / "run").glob("checkpoint-*"))


def test_a_model_without_the_adapter_or_with_a_frozen_one(base, init):
    with refused("wrong start", found="without an adapter"):
        check_model(base, init)
    with refused("wrong start", found="frozen"):
        check_model(PeftModel.from_pretrained(base, init), init)


def test_another_scale_and_other_modules_are_noticed(base, init):
    model = PeftModel.from_pretrained(base, init, is_trainable=True)
    assert check_model(model, init) > 0
    for module in model.modules():
        if isinstance(getattr(module, "scaling", None), dict) and module.scaling:
            module.scaling["default"] *= 2
            break
    with pytest.raises(InputError) as caught:
        check_model(model, init)
    assert_problem(caught.value.problems[0], "wrong start", found="scale")
    other = get_peft_model(model.unload(), LoraConfig(target_modules=["down_proj"]))
    with pytest.raises(InputError, match="missing"):
        check_model(other, init)


def test_a_model_of_fewer_bits_is_the_init_rounded(tiny_base, init):
    half = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.bfloat16)
    model = PeftModel.from_pretrained(half, init, is_trainable=True, autocast_adapter_dtype=False)
    assert check_model(model.to(torch.bfloat16), init) > 0


def test_a_full_checkpoint_as_the_start(base, tied_base, tiny_base):
    count = check_model(base, tiny_base)
    assert count == len(base.state_dict())
    on_top = get_peft_model(base, LoraConfig(target_modules=["q_proj"]))
    assert check_model(on_top, tiny_base) == count
    with torch.no_grad():
        base.model.norm.weight += 1
    with refused("wrong start", found="1 tensors with other numbers"):
        check_model(base, tiny_base)
    tied = AutoModelForCausalLM.from_pretrained(tied_base)
    assert check_model(tied, tied_base) > 0


def test_an_sft_trainer_starts_from_a_library_in_two_lines(tiny_base, tmp_path):
    from trl import SFTConfig, SFTTrainer

    for seed in (1, 2):
        save_lora(tiny_base, tmp_path / f"library/{seed}", seed=seed, size=0.3)
    rows = [
        {"prompt": [{"role": "user", "content": r["prompt"]}],
         "completion": [{"role": "assistant", "content": r["completion"]}]}
        for r in prompt_rows(60)
    ]  # fmt: skip
    data = Dataset.from_list(rows)
    start = init_for(
        tmp_path / "library", str(tiny_base), data, output=tmp_path / "init", task="t",
        samples=8, k=2, always_merge=True,
    )  # fmt: skip
    config = SFTConfig(
        output_dir=str(tmp_path / "run"), max_steps=1, per_device_train_batch_size=2,
        report_to="none", use_cpu=True, bf16=False, disable_tqdm=True, save_steps=1,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=start.model, processing_class=start.tokenizer, callbacks=[start.callback],
        args=config, train_dataset=data,
    )  # fmt: skip
    trainer.train()
    assert isinstance(start.model, PeftModel)
    (one,) = mashup.scan(tmp_path / "run").checkpoints
    assert (one.task, one.problem) == ("t", None)
    told = json.loads((one.path / "mashup.json").read_text())
    made = (tmp_path / "init").exists()
    assert told["init"] == (str(tmp_path / "init") if made else None)
    assert bool(told["start_check"]) == made == (start.result.init is not None)
