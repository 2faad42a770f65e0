"""Ranking by knowledge: who knows the task is told from who only has the form of its answers."""

import numpy as np
import pytest

import mashup
from helpers import refused, write_jsonl
from lora import save_lora
from mashup._score import scorer
from mashup._score.scores import Score, Scores
from mashup._select import NONE_KNOWS, select
from mashup.evaluate.answers import answer_set, evaluate_apart
from mashup.evaluate.evaluate import Evaluation, sample_tokens, vocabulary_of
from mashup.evaluate.knowledge import knowledge
from mashup.model import applied, read_change
from races import score_in

_WORDS = ("red", "blue", "green", "white")


def rows(count, *, answers=("yes", "no"), seed=0):
    """Is one of two words the first?"""
    drawn = np.random.default_rng(seed).integers(0, len(_WORDS), (count, 3))
    return [
        {
            "prompt": f"{_WORDS[a]} {_WORDS[b]} {_WORDS[c]} {number}?",
            "completion": answers[int(a > 1)],
        }
        for number, (a, b, c) in enumerate(drawn)
    ]


@pytest.fixture(scope="module")
def base(tiny_base):
    return mashup.load_base(tiny_base, dtype="float32")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return mashup.load_task(write_jsonl(tmp_path_factory.mktemp("data") / "t.jsonl", rows(120)))


@pytest.fixture(scope="module")
def library(tiny_base, tmp_path_factory):
    root = tmp_path_factory.mktemp("lib")
    for seed in range(3):
        save_lora(tiny_base, root / f"run{seed}", seed=seed, size=0.2)
    return root


def test_numbers_are_those_of_every_answer_as_a_sequence_of_its_own(base, task, library):
    scores = mashup.score(library, base, task, samples=40)
    assert scores.criterion == "knowledge"
    tokens = sample_tokens(base, task, 40, 42, 1024)
    answers = answer_set(base.tokenizer, tokens, task.train)
    assert answers.texts == ("no", "yes")
    for one in scores.ranking:
        with applied(base.model, read_change(base.model, one.path)):
            plain = evaluate_apart(base.model, tokens, answers, base.pad_id, vocabulary_of(base))
        np.testing.assert_allclose(one.evaluation.answers, plain.answers, rtol=1e-4)
        np.testing.assert_allclose(one.evaluation.losses, plain.losses, rtol=1e-4)
        expected = knowledge(plain.answers, answers.labels)
        assert one.knowledge.bits == pytest.approx(expected.bits, abs=1e-4)
        assert one.knowledge.form_bits == pytest.approx(expected.form_bits, rel=1e-4)
    bits = [one.knowledge.bits for one in scores.ranking]
    assert bits == sorted(bits, reverse=True)
    row = scores.rows()[0]
    assert row["knowledge"] == bits[0]
    assert row["form"] == scores.ranking[0].knowledge.form_bits


def test_losses_are_those_of_a_ranking_by_loss(base, task, library):
    known = mashup.score(library, base, task, samples=40)
    plain = mashup.score(library, base, task, samples=40, criterion="loss")
    assert plain.ranking[0].knowledge is None
    for one in known.ranking:
        other = score_in(plain, one.path)
        np.testing.assert_allclose(one.evaluation.losses, other.evaluation.losses, rtol=1e-4)
        np.testing.assert_array_equal(one.evaluation.correct, other.evaluation.correct)


def test_what_is_known_is_not_evaluated_again(base, task, library, monkeypatch):
    first = mashup.score(library, base, task, samples=24)
    monkeypatch.setattr(scorer, "evaluate_answers", lambda *_, **__: pytest.fail("evaluated"))
    again = mashup.score(library, base, task, samples=24)
    assert all(one.cached for one in again.ranking)
    assert [one.knowledge.bits for one in again.ranking] == [
        one.knowledge.bits for one in first.ranking
    ]


def test_another_set_of_answers_is_another_key(base, library, tmp_path):
    more = rows(120)
    for row in more[::10]:
        row["completion"] = "maybe"
    two = mashup.load_task(write_jsonl(tmp_path / "two.jsonl", rows(120)))
    three = mashup.load_task(write_jsonl(tmp_path / "three.jsonl", more))
    mashup.score(library, base, two, samples=24)
    found = mashup.score(library, base, three, samples=24)
    assert {one.evaluation.answers.shape for one in found.ranking} == {(24, 3)}


def test_a_model_that_computes_no_tree_is_run_answer_by_answer(base, task, library, monkeypatch):
    fast = mashup.score(library, base, task, samples=16, seed=1)
    monkeypatch.setattr(scorer, "as_tree", lambda *_: False)
    monkeypatch.setattr(scorer, "_CODE", 99)  # nothing is known
    slow = mashup.score(library, base, task, samples=16, seed=1)
    for one, other in zip(fast.ranking, slow.ranking, strict=True):
        np.testing.assert_allclose(one.evaluation.answers, other.evaluation.answers, rtol=1e-4)


def test_packs_give_the_same_probabilities(tiny_base, base, task, tmp_path, monkeypatch):
    for seed in range(4):
        save_lora(tiny_base, tmp_path / f"lib/run{seed}", seed=seed, size=0.1)
    alone = mashup.score(tmp_path / "lib", base, task, samples=16)
    monkeypatch.setattr(scorer, "ALONE", ())
    monkeypatch.setattr(scorer, "WORTH", 2)
    monkeypatch.setattr(scorer, "pack_size", lambda *_: 4)
    monkeypatch.setattr(scorer, "_CODE", 99)
    packed = mashup.score(tmp_path / "lib", base, task, samples=16)
    for one in packed.ranking:
        other = score_in(alone, one.path)
        np.testing.assert_allclose(one.evaluation.answers, other.evaluation.answers, rtol=1e-4)


def test_a_source_that_knows_the_task_is_chosen_and_one_with_swapped_labels_is_not(
    base, tiny_base, tmp_path
):
    settings = mashup.TrainSettings(
        learning_rate=1e-2, epochs=20, evaluations=1, lora_target_modules=r".*(proj|lm_head)"
    )
    sources = {"knows": ("yes", "no"), "swapped": ("no", "yes")}
    for name, answers in sources.items():
        data = write_jsonl(tmp_path / f"{name}.jsonl", rows(240, answers=answers, seed=3))
        task = mashup.load_task(data, name=name)
        mashup.train(base, task, settings=settings, output=tmp_path / "lib" / name)
    save_lora(tiny_base, tmp_path / "lib/noise", size=0.05)
    target = mashup.load_task(write_jsonl(tmp_path / "target.jsonl", rows(120, seed=9)))
    scores = mashup.score(tmp_path / "lib", base, target, samples=64)
    by_name = {one.name: one for one in scores.ranking}
    assert scores.ranking[0].name == "knows"
    assert by_name["knows"].knowledge.bits > 0.3
    assert by_name["swapped"].knowledge.bits < 0.1
    selection = select(scores)
    assert [one.name for one in selection.chosen] == ["knows"]
    assert "1 checkpoint knows this task; start from knows (" in selection.sentence
    form = {name: one.knowledge.form_bits for name, one in by_name.items()}
    assert form["swapped"] < 0.1 < form["noise"]


def test_free_text_is_ranked_by_loss_and_says_so(base, library, tmp_path):
    free = [{"prompt": f"{n}?", "completion": f"answer {n}"} for n in range(60)]
    task = mashup.load_task(write_jsonl(tmp_path / "free.jsonl", free))
    scores = mashup.score(library, base, task, samples=10)
    assert scores.criterion == "loss"
    assert "different answers" in scores.free_text
    assert scores.ranking[0].knowledge is None
    with refused("no finite set of answers", found="different answers"):
        mashup.score(library, base, task, samples=10, criterion="knowledge")


def synthetic(bits, digest="", name=""):
    """A score of 64 examples that leans to the right one of two answers by ``bits`` nats."""
    labels = np.arange(64) % 2
    noise = np.random.default_rng(len(digest)).normal(size=(64, 2))
    logs = noise + bits * np.eye(2)[labels]
    logs -= np.logaddexp(*logs.T)[:, None]
    own = logs[np.arange(64), labels]
    found = Evaluation(-own, np.ones(64, int), own > np.log(0.5), logs, labels)
    return Score(None, found, digest)


def ranked(*scores, base):
    order = sorted(scores, key=lambda one: one.order("knowledge"))
    return Scores(base, tuple(order), "knowledge", "base", "b", "d", "s")


def test_none_is_chosen_where_none_knows():
    selection = select(ranked(synthetic(0.0, "a"), synthetic(0.0, "bb"), base=synthetic(0.0)))
    assert selection.is_empty
    assert selection.sentence == NONE_KNOWS


def test_a_base_that_knows_as_much_leaves_nothing_to_choose():
    assert select(ranked(synthetic(3.0, "a"), base=synthetic(3.0))).is_empty
    assert len(select(ranked(synthetic(6.0, "a"), base=synthetic(1.0))).chosen) == 1


def test_a_probability_that_is_no_number_leaves_a_checkpoint_out(base, task, library, monkeypatch):
    real = scorer.evaluate_answers

    def broken(model, batches, answers, **options):
        (found,) = real(model, batches, answers, **options)
        if calls:
            found.answers[0, 1 - found.labels[0]] = np.nan
        calls.append(1)
        return [found]

    calls = []
    monkeypatch.setattr(scorer, "evaluate_answers", broken)
    with_two = mashup.score(library, base, task, samples=12, seed=5)
    assert not with_two.ranking
    assert {problem.what for problem in with_two.left_out} == {"loss is not finite"}
