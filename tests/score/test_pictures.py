"""Rows with pictures: losses are those of a plain forward pass on the processor's output."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText, AutoProcessor

from helpers import write_jsonl
from mashup import load_base, load_task, score
from mashup.evaluate.answers import as_tree, evaluate_apart, evaluate_sample, task_answers
from mashup.evaluate.continued import continues, evaluate_continued
from mashup.evaluate.evaluate import (
    batches_for,
    evaluate,
    sample_digest,
    sample_tokens,
    vocabulary_of,
)
from mashup.task.tokens import Seen
from pictures import FAMILIES, picture, picture_rows, save_picture, write_sighted


@pytest.fixture(scope="module", params=FAMILIES)
def sighted(request, tmp_path_factory):
    return write_sighted(tmp_path_factory.mktemp("models") / request.param, request.param)


@pytest.fixture(scope="module")
def base(sighted):
    return load_base(sighted, dtype="float32")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    return write_jsonl(folder / "rows.jsonl", picture_rows(folder, 60))


def plain_loss(sighted, example):
    """From the processor's output alone, in one call, as transformers' documentation has it."""
    processor = AutoProcessor.from_pretrained(sighted)
    model = AutoModelForImageTextToText.from_pretrained(sighted, dtype=torch.float32).eval()
    question, answer = (turn.content for turn in example.messages)
    images = [one.open() for one in example.pictures]
    parts = [{"type": "image", "image": images[0]}, {"type": "text", "text": question}]
    turns = [{"role": "user", "content": parts}]
    ways = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    prompt = processor.apply_chat_template(turns, add_generation_prompt=True, **ways)
    turns.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    inputs = processor.apply_chat_template(turns, **ways)
    start = prompt["input_ids"].shape[1]
    count = inputs["input_ids"].shape[1] - start - 1  # without the line break after the turn
    with torch.no_grad():
        logits = model(**inputs).logits[0].log_softmax(-1)
    ids = inputs["input_ids"][0]
    return -sum(float(logits[i - 1, ids[i]]) for i in range(start, start + count))


def test_losses_are_those_of_a_plain_forward_pass(base, sighted, rows):
    task = load_task(rows)
    tokens = sample_tokens(base, task, 4, 42, 1024)
    found = evaluate(base.model, batches_for(base, tokens)).losses
    expected = [plain_loss(sighted, one) for one in task.sample(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len(set(np.round(found, 6))) == 4


def test_other_pictures_give_other_losses_and_other_keys(base, tmp_path):
    turns = [
        {
            "role": "user",
            "content": [{"type": "image", "path": "x.png"}, {"type": "text", "text": "?"}],
        },
        {"role": "assistant", "content": "yes"},
    ]
    made = {}
    for name, seed in (("a", 1), ("b", 2), ("c", 1)):
        for number in range(30):
            save_picture(tmp_path / name / f"{number}.png", seed if number else 99)
        rows = [
            {"messages": [{"role": "user", "content": [
                {"type": "image", "path": f"{number}.png"}, {"type": "text", "text": f"{number}?"},
            ]}, turns[1]]}
            for number in range(30)
        ]  # fmt: skip
        task = load_task(write_jsonl(tmp_path / name / "rows.jsonl", rows))
        tokens = sample_tokens(base, task, 3, 42, 1024)
        losses = evaluate(base.model, batches_for(base, tokens)).losses
        made[name] = task.digest, sample_digest(tokens), losses.tolist()
    assert made["a"] == made["c"]  # other paths, same bytes
    assert made["a"][0] != made["b"][0]
    assert made["a"][1] != made["b"][1]
    assert made["a"][2] != made["b"][2]


def test_knowledge_is_that_of_every_answer_as_a_row_of_its_own(base, sighted, rows):
    task = load_task(rows)
    tokens = sample_tokens(base, task, 3, 42, 1024)
    answers = task_answers(base, task, tokens, 42)
    assert answers.texts == ("dark", "light")
    found = evaluate_sample(base, tokens, answers)
    for row, example in enumerate(task.sample(3)):
        for number, text in enumerate(answers.texts):
            turns = (example.messages[0], example.messages[1]._replace(content=text))
            alone = plain_loss(sighted, type(example)(turns, pictures=example.pictures))
            assert found.answers[row, number] == pytest.approx(-alone, rel=1e-5)


def test_a_prompt_is_run_once_for_all_answers(base, rows, monkeypatch):
    task = load_task(rows)
    tokens = sample_tokens(base, task, 3, 42, 1024)
    answers = task_answers(base, task, tokens, 42)
    shapes = base.pad_id, vocabulary_of(base)
    assert not as_tree(base.model, tokens, answers, *shapes)
    assert continues(base.model, tokens, answers, *shapes)
    calls = []
    monkeypatch.setattr(Seen, "inputs", counting(Seen.inputs, calls))
    found = evaluate_continued(base.model, tokens, answers, *shapes)
    assert len(calls) == len(tokens)
    plain = evaluate_apart(base.model, tokens, answers, *shapes)
    np.testing.assert_allclose(found.answers, plain.answers, rtol=1e-5)
    np.testing.assert_array_equal(found.correct, plain.correct)
    np.testing.assert_array_equal(found.tokens, plain.tokens)
    np.testing.assert_allclose(found.losses, plain.losses, rtol=1e-5)


def counting(work, calls):
    def counted(*arguments):
        calls.append(1)
        return work(*arguments)

    return counted


def test_a_row_with_two_pictures_and_two_answers(base, tmp_path):
    save_picture(tmp_path / "a.png", 1)
    rows = [
        {
            "images": ["a.png", picture(number)],
            "messages": [
                {"role": "user", "content": f"<image>what is {number}?"},
                {"role": "assistant", "content": "one"},
                {"role": "user", "content": "and <image> this?"},
                {"role": "assistant", "content": "two"},
            ],
        }
        for number in range(30)
    ]
    for row in rows:
        row["images"][0] = str(tmp_path / "a.png")
    task = load_task(rows)
    (tokens,) = sample_tokens(base, task, 1, 42, 1024)
    said = base.tokenizer.decode([i for i, a in zip(tokens.ids, tokens.answer, strict=True) if a])
    assert said == "one<|im_end|>two<|im_end|>"
    (example,) = task.sample(1)
    assert [(one.turn, one.at) for one in example.pictures] == [(0, 0), (2, 4)]
    assert np.isfinite(evaluate(base.model, batches_for(base, [tokens])).loss)


def test_a_library_is_scored(base, sighted, rows, tmp_path):
    for seed in (1, 2):
        save_noise(sighted, tmp_path / f"lib/{seed}", seed)
    scores = score(tmp_path / "lib", base, load_task(rows), samples=8)
    assert len(scores.ranking) == 2
    assert scores.criterion == "knowledge"
    again = score(tmp_path / "lib", base, load_task(rows), samples=8)
    assert all(one.cached for one in again.ranking)


def save_noise(sighted, folder, seed):
    """A LoRA of noise on the language model."""
    model = AutoModelForImageTextToText.from_pretrained(sighted, dtype=torch.float32)
    config = LoraConfig(
        r=2, target_modules=r".*language_model.*(q_proj|v_proj)|.*text_model.*(q_proj|v_proj)"
    )
    adapted = get_peft_model(model, config)
    torch.manual_seed(seed)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1)
    adapted.save_pretrained(folder)
