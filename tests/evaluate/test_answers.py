"""All answers of a set in one pass: the numbers of plain sequences, one prompt and answer each."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from kinds import load, save_kind, write_base
from mashup.delta import read_delta
from mashup.evaluate.answers import (
    AnswerSet,
    FreeTextError,
    Tree,
    answer_set,
    as_tree,
    evaluate_answers,
    evaluate_apart,
)
from mashup.evaluate.batches import make_batches
from mashup.evaluate.evaluate import evaluate
from mashup.evaluate.prefix import common_prefix, with_prefix
from mashup.model import applied, load_base
from mashup.task import Example, Tokens, tokenize
from samples import alike
from seeing import MAKERS

_FAMILIES = ("llama", "gemma", "gemma2", "mistral", "gpt2", "mixtral", "gpt-oss", *MAKERS)
_ANSWERS = ((7, 3), (7, 4, 3), (7, 4, 5, 3), (9, 3), (11, 12, 13, 3))


def prompts(answers=_ANSWERS):
    """Prompts of several lengths with a common start, and an answer after each."""
    made = []
    for number, one in enumerate(alike()):
        prompt = one.ids[: one.answer.index(True)]
        answer = answers[number % len(answers)]
        marks = (False,) * len(prompt) + (True,) * len(answer)
        made.append(Tokens(prompt + answer, marks))
    labels = np.arange(len(made)) % len(answers)
    names = tuple(str(number) for number in range(len(answers)))
    return tuple(made), AnswerSet(names, answers, labels)


def by_definition(model, tokens, answers):
    """``(n, answers)`` straight from the definition, one full sequence at a time.

    In float64 where torch has the model's products in it; experts' it has not.
    """
    model, rows = model if hasattr(model.config, "num_local_experts") else model.double(), []
    for one in tokens:
        prompt = one.ids[: one.answer.index(True)]
        row = []
        for answer in answers.tokens:
            with torch.no_grad():
                logits = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
            places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
            row.append(sum(float(logits[i, t]) for i, t in zip(places, answer, strict=True)))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("family", _FAMILIES)
@pytest.mark.parametrize("prefix", [False, True])
def test_probabilities_are_those_of_plain_sequences(tmp_path, family, prefix):
    model = load(write_base(tmp_path, family))
    tokens, answers = prompts()
    batches = make_batches(tokens, 0, 320, size=200)
    assert as_tree(model, tokens, answers, 0, 320)
    if prefix:
        batches = with_prefix(batches, common_prefix(batches), "cpu")
        assert batches[0].prefix
    (found,) = evaluate_answers(model, batches, answers)
    plain = evaluate(model, make_batches(tokens, 0, 320))
    np.testing.assert_allclose(found.losses, plain.losses, rtol=1e-4)
    np.testing.assert_array_equal(found.correct, plain.correct)
    np.testing.assert_array_equal(found.tokens, plain.tokens)
    apart = evaluate_apart(model, tokens, answers, 0, 320)
    np.testing.assert_allclose(apart.answers, found.answers, rtol=1e-4)
    np.testing.assert_array_equal(apart.correct, found.correct)
    np.testing.assert_allclose(found.answers, by_definition(model, tokens, answers), rtol=1e-4)


def test_an_adapter_that_is_on_decides(tmp_path):
    base = write_base(tmp_path / "base", "llama")
    folder = save_kind(base, tmp_path / "lora", target_modules=["q_proj", "down_proj"])
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    tokens, answers = prompts()
    batches = make_batches(tokens, 0, 320)
    (bare,) = evaluate_answers(model, batches, answers)
    with applied(model, read_delta(folder)):
        (found,) = evaluate_answers(model, batches, answers)
        apart = evaluate_apart(model, tokens, answers, 0, 320)
    np.testing.assert_allclose(found.answers, apart.answers, rtol=1e-4)
    assert np.abs(found.answers - bare.answers).max() > 0.01


def test_copies_get_numbers_of_their_own(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(write_base(tmp_path, "llama")).eval()
    tokens, answers = prompts()
    batches = with_prefix(batches := make_batches(tokens, 0, 320), common_prefix(batches), "cpu")
    one, two = evaluate_answers(model, batches, answers, copies=2)
    np.testing.assert_allclose(one.answers, two.answers, rtol=1e-5)


def test_logits_of_a_large_tree_are_made_in_parts(tmp_path, monkeypatch):
    model = AutoModelForCausalLM.from_pretrained(write_base(tmp_path, "llama")).eval()
    tokens, answers = prompts()
    batches = with_prefix(batches := make_batches(tokens, 0, 320), common_prefix(batches), "cpu")
    (whole,) = evaluate_answers(model, batches, answers)
    most = 3 * (1 + len(answers.tree.ids)) * model.config.vocab_size
    monkeypatch.setattr("mashup.evaluate.answers.LOGITS", most)
    made, told = [], []
    model.register_forward_hook(lambda *given: made.append(given[2].logits.numel()))
    (parts,) = evaluate_answers(model, batches, answers, advance=lambda: told.append(1))
    assert max(made) == most
    assert len(told) == len(batches)
    np.testing.assert_allclose(parts.answers, whole.answers, rtol=1e-4)


def test_a_model_that_ignores_the_mask_is_run_apart(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(write_base(tmp_path, "llama")).eval()
    tokens, answers = prompts()
    model.model.register_forward_pre_hook(
        lambda _, args, kwargs: (args, {**kwargs, "attention_mask": None}), with_kwargs=True
    )
    assert not as_tree(model, tokens, answers, 0, 320)


@given(st.sets(st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple), min_size=2))
def test_a_tree_reads_every_answer_once(answers):
    ended = [(*answer, 9) for answer in sorted(answers)]  # as the end of a turn does
    tree = Tree.of(ended)
    starts = {answer[:length] for answer in ended for length in range(1, len(answer))}
    assert len(tree.ids) == len(starts)
    for number, answer in enumerate(ended):
        mine = tree.answer == number
        assert tree.token[mine].tolist() == list(answer)
        nodes = [place - 1 for place in tree.place[mine].tolist()[1:]]
        assert tree.ids[nodes].tolist() == list(answer[:-1])
        assert tree.depth[nodes].tolist() == list(range(1, len(answer)))
        for node, before in zip(nodes, range(1, len(nodes) + 1), strict=True):
            assert sorted(tree.sees[node].nonzero()[:, 0].tolist()) == sorted(nodes[:before])


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, dtype="float32")


def rows_of(answers):
    return [Example.of(f"Question {n}?", answer) for n, answer in enumerate(answers)]


def made_of(base, answers, others=()):
    examples = rows_of([*answers, *others])
    tokens = tokenize(base.tokenizer, examples[: len(answers)], max_length=512)
    return answer_set(base.tokenizer, tokens, examples), tokens


def test_the_set_is_all_answers_of_the_task(base):
    found, tokens = made_of(base, ["yes", "no", "yes", "no"], ["maybe", "no", "yes"])
    assert found.texts == ("maybe", "no", "yes")
    assert found.labels.tolist() == [2, 1, 2, 1]
    for label, one in zip(found.labels, tokens, strict=True):
        assert one.ids[one.answer.index(True) :] == found.tokens[label]
    (maybe,) = tokenize(base.tokenizer, [Example.of("Question 0?", "maybe")], max_length=512)
    assert maybe.ids[maybe.answer.index(True) :] == found.tokens[0]


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (["yes"] * 4, "one answer only"),
        (["a", "b", "c", "d"], "4 different answers in 4 rows"),
        ([f"answer {n % 65}" for n in range(200)], "more than 64 different answers"),
    ],
)
def test_other_answers_are_free_text(base, answers, why):
    with pytest.raises(FreeTextError, match=why):
        made_of(base, answers)


def test_a_long_answer_elsewhere_in_the_task_makes_no_set(base):
    with pytest.raises(FreeTextError, match=r"3 different answers of [\d,]+ tokens together"):
        made_of(base, ["yes", "no", "yes", "no"], ["yes " * 2000, "no"])


def test_an_answer_that_another_one_begins_with_is_none_of_a_set():
    from mashup.evaluate.answers import _refuse_prefixes

    with pytest.raises(FreeTextError, match="'light' is the beginning"):
        _refuse_prefixes({"light": (5,), "light on": (5, 6)})
    _refuse_prefixes({"light": (5, 9), "light on": (5, 6, 9)})
