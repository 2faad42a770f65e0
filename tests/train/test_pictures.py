"""Training on rows with pictures: gradients of plain transformers, and a loss that falls."""

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForImageTextToText, AutoProcessor

from helpers import write_jsonl
from mashup import TrainSettings, UsageError, load_base, load_task, train
from mashup._train.passes import summed_loss
from mashup._train.trainer import Collator
from mashup._train.work import run_tokens
from mashup.evaluate.batches import Batch
from pictures import FAMILIES, picture_rows, write_sighted

SMALL = TrainSettings(
    max_steps=10, batch_size=8, learning_rate=1e-2, evaluations=2, lora_r=8, keep="last"
)


@pytest.fixture(scope="module", params=FAMILIES)
def sighted(request, tmp_path_factory):
    return write_sighted(tmp_path_factory.mktemp("models") / request.param, request.param)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    return write_jsonl(folder / "rows.jsonl", picture_rows(folder, 60))


def test_the_gradient_is_that_of_plain_transformers(sighted, rows):
    task, base = load_task(rows), load_base(sighted, dtype="float32")
    tokens = run_tokens(base, task, SMALL).train[:3]
    made = Collator(base.pad_id)(tokens)
    answer = made["labels"] != -100
    batch = Batch(torch.arange(3), made["input_ids"], made["attention_mask"], answer)
    base.model.train()
    summed_loss(base.model, batch, 0, made["seen"]).backward()
    base.model.eval()
    processor = AutoProcessor.from_pretrained(sighted)
    plain = AutoModelForImageTextToText.from_pretrained(sighted, dtype=torch.float32).train()
    total = torch.zeros(())
    for one, example in zip(tokens, task.train, strict=False):
        parts = [{"type": "image"}, {"type": "text", "text": example.messages[0].content}]
        said = [{"type": "text", "text": example.messages[1].content}]
        turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": said}]
        text = processor.apply_chat_template(turns)
        images = [[one.open() for one in example.pictures]]
        inputs = processor(text=[text], images=images, return_tensors="pt")
        assert inputs["input_ids"][0].tolist()[: len(one.ids)] == list(one.ids)
        count = inputs["input_ids"].shape[1]
        labels = torch.full((count,), -100)
        marked = [place for place, is_answer in enumerate(one.answer) if is_answer]
        labels[marked] = inputs["input_ids"][0][marked]
        logits = plain(**inputs).logits[0].float()
        total = total + F.cross_entropy(logits[:-1], labels[1:], reduction="sum")
    total.backward()
    expected = dict(plain.named_parameters())
    seen = 0
    for name, parameter in base.model.named_parameters():
        one = expected[name].grad
        if one is None:
            assert parameter.grad is None, name
            continue
        torch.testing.assert_close(parameter.grad, one, rtol=1e-4, atol=1e-6, msg=name)
        seen += "vis" in name and bool(one.abs().sum())  # vision_tower, visual
        parameter.grad = None
    assert seen


@pytest.mark.parametrize("way", ["lora", "full"])
def test_the_loss_falls_and_the_answer_depends_on_the_picture(sighted, rows, tmp_path, way):
    more = {"finetuning_type": "full", "learning_rate": 3e-3, "max_steps": 60}
    settings = SMALL.model_copy(update=more if way == "full" else {})
    base, task = load_base(sighted, dtype="float32"), load_task(rows)
    run = train(base, task, output=tmp_path / "run", settings=settings)
    losses = [point.dev_loss for point in run.curve]
    assert losses[-1] < losses[0]
    if way == "full":  # a LoRA of a random model learns little
        assert run.last.dev_accuracy > 0.9  # half of the rows have each answer: it must be seen
    again = train(base, task, output=tmp_path / "run", settings=settings)
    assert again.record == run.record
    assert type(AutoProcessor.from_pretrained(run.path)) is type(base.processor(""))
    warm = train(
        base, task, output=tmp_path / "warm", init=run.path,
        settings=settings.model_copy(update={"max_steps": 1}),
    )  # fmt: skip
    assert warm.curve[0].dev_loss == pytest.approx(losses[-1], rel=1e-3)


def test_several_processes_are_refused(sighted, rows, monkeypatch):
    monkeypatch.setattr("mashup._train.work.process_count", lambda: 2)
    with pytest.raises(UsageError, match="pictures in several processes"):
        run_tokens(load_base(sighted), load_task(rows), SMALL)
