"""The tiny models that stand for the paper's are what they stand for."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3ForConditionalGeneration

from helpers import prompt_rows, refused
from mashup import load_base
from mashup.evaluate.evaluate import batches_for, evaluate
from mashup.task import tokenize
from mashup.task.example import Example, Message, from_row
from papers import CAPS, TEMPLATES, make_tokenizer_of, write_paper_base
from proofs import plain_loss

ROWS = prompt_rows(12)
EXAMPLES = [from_row(row) for row in ROWS]
TEXTS = [text for row in ROWS for text in row.values()]
CLASSES = {
    "gemma-2-2b": "Gemma2ForCausalLM",
    "gemma-3-1b": "Gemma3ForCausalLM",
    "gemma-3-4b": "Gemma3ForConditionalGeneration",
    "mistral-7b": "MistralForCausalLM",
}


@pytest.fixture(scope="module", params=TEMPLATES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    return write_paper_base(tmp_path_factory.mktemp("paper") / family, family, TEXTS)


def test_the_class_is_that_of_the_released_model(folder, family):
    assert json.loads((folder / "config.json").read_text())["architectures"] == [CLASSES[family]]
    assert type(load_base(folder).model).__name__ == CLASSES[family]


def test_scores_are_those_of_whole_forward_passes(folder):
    base = load_base(folder, dtype="float32")
    tokens = tokenize(base.tokenizer, EXAMPLES, max_length=512)
    found = evaluate(base.model, batches_for(base, tokens)).loss
    assert found == pytest.approx(plain_loss(base.model, tokens), rel=1e-5)


def test_a_prompt_begins_once_and_its_answer_ends_with_the_turn(family):
    tokenizer = make_tokenizer_of(family, TEXTS)
    (tokens, *_) = tokenize(tokenizer, EXAMPLES, max_length=512)
    answer = [n for n, wanted in zip(tokens.ids, tokens.answer, strict=True) if wanted]
    end = "<eos>" if family == "mistral-7b" else "<end_of_turn>"
    assert tokens.ids.count(tokenizer.bos_token_id) == 1
    assert tokens.ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(answer).strip() == f"yes{end}"


TOLD = Example((Message("system", "Be brief."), *EXAMPLES[0].messages))


def test_gemma_3_puts_a_system_text_into_the_first_turn():
    tokenizer = make_tokenizer_of("gemma-3-1b", TEXTS)
    (tokens,) = tokenize(tokenizer, [TOLD], max_length=512)
    text = tokenizer.decode(tokens.ids)
    assert text.startswith("<bos><start_of_turn>user\nBe brief.\n\nIs 0 even?<end_of_turn>\n")


def test_gemma_2_refuses_a_system_text():
    with refused("cannot use row", found="System role not supported"):
        tokenize(make_tokenizer_of("gemma-2-2b", TEXTS), [TOLD], max_length=512)


@pytest.mark.parametrize("cap", CAPS)
def test_gemma_2_caps_its_logits(tmp_path, cap):
    folder = write_paper_base(tmp_path / "capped", "gemma-2-2b", TEXTS)
    ids = torch.randint(10, 200, (2, 9), generator=torch.Generator().manual_seed(0))
    capped = AutoModelForCausalLM.from_pretrained(folder)
    free = AutoModelForCausalLM.from_pretrained(folder, **{cap: None})
    with torch.no_grad():
        found, other = capped(ids).logits, free(ids).logits
    assert float((found - other).abs().max()) > 0.1
    assert float(found.abs().max()) < CAPS["final_logit_softcapping"]
    if cap == "final_logit_softcapping":
        limit = CAPS[cap]
        torch.testing.assert_close(found, limit * torch.tanh(other / limit))


def test_gemma_3_of_four_billion_loads_as_the_model_that_sees(tmp_path):
    folder = write_paper_base(tmp_path / "seeing", "gemma-3-4b", TEXTS)
    model, report = Gemma3ForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    assert isinstance(load_base(folder).model, type(model))
