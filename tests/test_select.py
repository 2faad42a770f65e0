"""Choosing, and choosing nothing."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mashup._score.scores import Score, Scores
from mashup._select import (
    NONE_KNOWS,
    NOTHING_HELPS,
    least_loss,
    marginal,
    relative,
    select,
)
from mashup.clusters import SAME, cosine_rows, groups
from mashup.evaluate.evaluate import Evaluation
from mashup.evaluate.knowledge import Knowledge


def scored(losses, digest=""):
    losses = np.array(losses, float)
    return Score(None, Evaluation(losses, np.ones(len(losses), int), losses < 1), digest)


def scores(*rows, base=(2.0, 2.1, 1.9, 2.0)):
    ranking = sorted((scored(row, str(n)) for n, row in enumerate(rows)), key=lambda s: s.loss)
    return Scores(scored(base), tuple(ranking), "loss", "base", "b", "d", "s")


def test_the_best_k_that_beat_the_base_for_sure():
    good, better, best = [1.5, 1.6, 1.4, 1.5], [1.0, 1.1, 0.9, 1.0], [0.5, 0.6, 0.4, 0.5]
    assert [s.digest for s in select(scores(good, better, best)).chosen] == ["2", "1"]
    assert [s.digest for s in select(scores(good, better, best), k=1).chosen] == ["2"]
    assert len(select(scores(good, better, best), k=9).chosen) == 3


def test_a_gain_within_two_standard_errors_is_no_gain():
    lucky = [0.1, 2.4, 2.0, 2.6]
    selection = select(scores(lucky))
    assert selection.is_empty
    assert selection.sentence == NOTHING_HELPS == "no checkpoint helps; start from the base"


def test_worse_than_the_base_is_never_chosen():
    assert select(scores([3.0, 3.1, 2.9, 3.0])).is_empty


def test_exactly_the_base_is_not_chosen():
    assert select(scores([2.0, 2.1, 1.9, 2.0])).is_empty


def test_the_least_loss_is_taken_of_those_below_the_base_whether_sure_or_known():
    lucky, lower, worse = [0.1, 2.4, 2.0, 2.6], [0.1, 2.4, 2.0, 2.5], [3.0, 3.1, 2.9, 3.0]
    found = scores(lucky, lower, lower, worse)
    assert select(found).is_empty
    assert [one.digest for one in least_loss(found, 5)] == ["1", "2", "0"]
    assert [one.digest for one in least_loss(found, 1)] == ["1"]
    assert least_loss(scores(worse), 2) == ()
    same = tuple(replace(one, digest="same") for one in found.ranking[:2])
    assert len(least_loss(replace(found, ranking=same), 2)) == 1
    knows, formed, base = about(0.6, "knows", 1.5), about(-0.4, "formed", 0.1), about(0, "base", 2)
    assert [one.digest for one in least_loss(by_knowledge(base, knows, formed), 1)] == ["formed"]


def test_k_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        select(scores([1.0, 1.0, 1.0, 1.0]), k=0)


def test_two_copies_of_one_adapter_are_one_parent():
    one = scored([0.5, 0.6, 0.4, 0.5], "same")
    other = scored([1.0, 1.1, 0.9, 1.0], "other")
    base = scored([2.0, 2.1, 1.9, 2.0])
    both = Scores(base, (one, one, other), "loss", "base", "b", "d", "s")
    assert [s.digest for s in select(both).chosen] == ["same", "other"]


@dataclass(frozen=True)
class Named:
    """As much of a checkpoint as a sentence needs."""

    name: str


def library(losses, directions):
    """Scores of checkpoints that beat a base of loss 2, and the cosines of their deltas."""
    rows = [
        Score(Named(name), scored([loss] * 4).evaluation, name) for name, loss in losses.items()
    ]
    ranking = tuple(sorted(rows, key=lambda score: (score.loss, score.digest)))

    sketches = {name: np.array(directions[name], np.float32) for name in losses}
    base = scored([2.0] * 4)
    return Scores(base, ranking, "loss", "base", "b", "d", "s", sketches=sketches)


RUN = {"end": [1, 0, 0], "step 9": [1, 0.1, 0], "near": [1, 1, 0], "far": [0, 0, 1]}
LOSSES = {"end": 1.0, "step 9": 1.1, "near": 1.3, "far": 1.6}


def names(selection):
    return [score.name for score in selection.chosen]


def test_of_one_run_only_the_best_is_chosen():
    found = library(LOSSES, RUN)
    assert names(select(replace(found, sketches={}))) == ["end", "step 9"]
    selection = select(found)
    assert names(selection) == ["end", "near"]
    (passed,) = selection.passed
    assert (passed.score.name, passed.like.name, passed.is_same) == ("step 9", "end", True)
    assert passed.cosine == pytest.approx(1 / np.sqrt(1.01))
    assert selection.sentence.endswith(
        " against the base; passed over: step 9 (nearly the same as end, cosine 1.00)"
    )


def test_diversity_gives_up_fit_for_difference():
    found = library(LOSSES, RUN)
    # "near" lacks 0.3 of the gain at a cosine of 0.71, "far" 0.6 at a cosine of 0
    assert names(select(found, diversity=0.4)) == ["end", "near"]
    selection = select(found, diversity=0.45)
    assert names(selection) == ["end", "far"]
    assert [(p.score.name, p.is_same) for p in selection.passed] == [
        ("step 9", True),
        ("near", False),
    ]
    assert "near (like end, cosine 0.71)" in selection.sentence


def test_who_would_not_have_been_chosen_anyway_is_not_told():
    found = library({"end": 1.0, "far": 1.1, "step 9": 1.2}, RUN)
    selection = select(found)
    assert names(selection) == ["end", "far"]
    assert selection.passed == ()
    assert selection.sentence.endswith("against the base")


def test_a_long_run_is_told_in_short():
    steps = {f"step {n}": 1 + n / 100 for n in range(6)}
    directions = {step: [1, 0] for step in steps} | {"far": [0, 1]}
    found = library(steps | {"far": 1.5}, directions)
    selection = select(found)
    assert len(selection.passed) == 5
    assert selection.sentence.count("nearly the same as step 0") == 3
    assert selection.sentence.endswith(" and 2 more")


def test_only_those_that_beat_the_base_are_candidates():
    found = library({"end": 1.0, "far": 2.5, "near": 2.0}, RUN)
    assert names(select(found, k=3, diversity=9.0)) == ["end"]
    none = library({"end": 2.0}, RUN)
    assert select(none, diversity=1.0).is_empty


@pytest.mark.parametrize("diversity", [-0.1, float("nan"), float("inf")])
def test_diversity_must_be_a_price(diversity):
    with pytest.raises(ValueError, match="at least 0"):
        select(library(LOSSES, RUN), diversity=diversity)


def test_diversity_of_nothing_is_nothing():
    assert select(scores(), diversity=0.2).is_empty
    assert select(scores([2.5, 2.6, 2.4, 2.5]), diversity=0.2).is_empty


def test_diversity_needs_sketches():
    with pytest.raises(ValueError, match="needs sketches"):
        select(replace(library(LOSSES, RUN), sketches={}), diversity=0.5)


@given(st.integers(0, 999), st.integers(1, 10), st.integers(1, 4), st.floats(0, 2))
def test_the_chosen_are_leaders_of_groups_in_the_order_of_the_ranking(seed, count, k, diversity):
    generator = np.random.default_rng(seed)
    directions = {str(n): generator.standard_normal(2) for n in range(count)}
    losses = dict(zip(directions, generator.uniform(1, 1.9, count), strict=True))
    found = library(losses, directions)
    ranked = [score.digest for score in found.ranking]
    led = np.unique(groups(np.array([directions[d] for d in ranked], np.float32), SAME))
    leading = [ranked[index] for index in led]
    assert names(select(found, k=k)) == leading[:k]
    chosen = names(select(found, k=k, diversity=diversity))
    assert chosen[0] == leading[0]
    assert set(chosen) <= set(leading)
    assert len(chosen) == min(k, len(leading))


def knowing(gained, name="", form=None, loss=1.0):
    """A score of known bits above the label prior, for each example."""
    made = Score(None, scored([loss] * len(gained)).evaluation, name)
    form = np.zeros(len(gained)) if form is None else form
    vars(made)["knowledge"] = Knowledge(form, np.asarray(gained, float))
    return made


def by_knowledge(base, *ranking):
    order = sorted(ranking, key=lambda one: -one.knowledge.bits)
    return Scores(base, tuple(order), "knowledge", "base", "b", "d", "s")


def test_with_a_thousand_sources_that_are_no_better_none_is_chosen():
    generator = np.random.default_rng(0)
    base = scored(np.full(64, 3.0))
    chosen = 0
    for _ in range(40):
        losses = 3.0 + generator.normal(size=(1000, 64))
        order = np.argsort((losses.mean(1) - 3) / losses.std(1))
        luckiest = losses[order[:10]]  # no other can pass
        rest = [scored([9.0, 9.0], f"early {n}") for n in range(990)]
        ranking = [*(scored(row, str(n)) for n, row in enumerate(luckiest)), *rest]
        found = Scores(base, tuple(ranking), "loss", "base", "b", "d", "s")
        difference, error = ranking[0].against(base)
        assert difference < -2 * error  # two standard errors alone would let it through
        chosen += not select(found).is_empty
    assert chosen <= 4  # 5 % of 40 families, and the spread of their number


def test_none_of_many_ignorant_sources_knows_and_a_relative_among_them_is_found():
    generator = np.random.default_rng(1)
    labels = generator.permutation(np.arange(48) % 2)

    def source(lean, name=""):
        """Log-probabilities that lean to the right answer by ``lean`` nats, with a bias."""
        logs = generator.standard_t(4, size=(48, 2)) + lean * np.eye(2)[labels] + [1.0, 0.0]
        logs -= np.logaddexp(*logs.T)[:, None]
        own = logs[np.arange(48), labels]
        return Score(None, Evaluation(-own, np.ones(48, int), own > -0.7, logs, labels), name)

    base, *ignorant = (source(0.0, str(n)) for n in range(40))
    early = [knowing([-1.0, -1.0], f"early {n}") for n in range(960)]
    assert select(by_knowledge(base, *ignorant, *early)).is_empty
    selection = select(by_knowledge(base, source(4.0, "relative"), *ignorant, *early))
    assert [score.digest for score in selection.chosen] == ["relative"]


def test_checkpoints_that_were_eliminated_count_as_looked_at():
    generator = np.random.default_rng(2)
    base = knowing(np.zeros(64))
    good = knowing(0.25 + generator.normal(size=64), "good")
    assert 2.2 < good.knowledge.bits / good.knowledge.error < 3
    assert not select(by_knowledge(base, good)).is_empty
    early = [knowing(generator.normal(size=32) - 1, str(n)) for n in range(300)]
    assert select(by_knowledge(base, good, *early)).is_empty


@pytest.mark.parametrize(("rows", "is_empty"), [(8, True), (16, False)])
def test_with_fewer_than_sixteen_rows_knowledge_must_be_surer(rows, is_empty):
    generator = np.random.default_rng(5)
    noise = generator.normal(size=rows)
    bits = 2.9 * noise.std(ddof=1) / np.sqrt(rows)
    lucky = knowing(noise - noise.mean() + bits, "lucky")
    ignorant = [knowing(generator.normal(size=rows) - 1, str(n)) for n in range(15)]
    assert lucky.knowledge.bits / lucky.knowledge.error == pytest.approx(2.9)
    assert select(by_knowledge(knowing(np.zeros(rows)), lucky, *ignorant)).is_empty == is_empty
    assert not select(by_knowledge(knowing(np.zeros(rows)), lucky)).is_empty


def test_the_sentence_counts_those_that_know_and_those_that_give_the_form():
    generator = np.random.default_rng(3)
    base = knowing(np.zeros(64), form=np.full(64, 3.0))
    noise = 0.1 * generator.normal(size=64)
    good = [about(bits, f"{bits}", 1.0, spread=0.9) for bits in (0.3, 0.45, 0.5)]
    text = select(by_knowledge(base, *good)).sentence
    assert text.startswith("3 checkpoints know this task; start from the best 2: base (0.5")
    assert select(by_knowledge(base, good[0])).sentence.startswith(
        "1 checkpoint knows this task; start from base (0.3"
    )
    formed = knowing(noise - 1, "form", form=np.full(64, 0.1))
    nothing = knowing(noise - 1, "nothing", form=np.full(64, 3.0))
    assert select(by_knowledge(base, formed, nothing)).sentence == (
        "no checkpoint knows this task; start from the base (1 checkpoint gives the form of the "
        "answers, which saves about 4 training steps)"
    )
    assert select(by_knowledge(base, nothing)).sentence == NONE_KNOWS


def about(bits, name, loss, spread=0.1):
    """A source with ``bits``, and noise of its own, so that no two are paired exactly."""
    noise = np.random.default_rng(sum(map(ord, name))).normal(size=64)
    return knowing(bits + spread * (noise - noise.mean()), name, loss=loss)


def test_of_equals_in_knowledge_those_with_the_least_loss_are_chosen():
    base = knowing(np.zeros(64))
    words = [about(0.49, "other words", 1.6), about(0.485, "other words too", 1.4)]
    right = [about(0.482, "right words", 0.2), about(0.48, "right words too", 0.15)]
    formal = about(0.2, "only form", 0.1)
    selection = select(by_knowledge(base, *words, *right, formal))
    assert [one.digest for one in selection.chosen] == ["right words too", "right words"]
    assert [one.digest for one in selection.better] == [
        *("right words too", "right words", "other words too", "other words", "only form")
    ]


def test_who_knows_less_for_sure_is_not_merged_with_the_best():
    base = knowing(np.zeros(64))
    knows, formed = about(0.6, "knows", 1.5), about(0.4, "formed", 0.1)
    selection = select(by_knowledge(base, knows, formed))
    assert [one.digest for one in selection.chosen] == ["knows"]
    assert [one.digest for one in selection.better] == ["knows", "formed"]
    assert selection.sentence.startswith("2 checkpoints know this task; start from the best: ")


def test_diversity_counts_equals_as_equal():
    base = knowing(np.zeros(64))
    ranking = by_knowledge(base, about(0.49, "words", 1.6), about(0.48, "right", 0.2))
    ranking = replace(ranking, sketches={"words": np.eye(2)[0], "right": np.eye(2)[1]})
    assert select(ranking, k=1, diversity=0.1).chosen[0].digest == "right"


def test_a_relative_among_sixteen_is_found_two_and_three_quarters_errors_above_zero():
    base = knowing(np.full(64, -0.03))
    relative = about(0.36, "relative", 1.1, spread=1.04)
    bits, error = relative.knowledge.bits, relative.knowledge.error
    assert 2.5 < bits / error < 3.0
    others = [about(-0.02, f"stranger {n}", 1.5) for n in range(15)]
    assert select(by_knowledge(base, relative, *others)).chosen == (relative,)
    early = [knowing([-1.0, -1.0], str(n)) for n in range(3000)]
    assert select(by_knowledge(base, relative, *others, *early)).is_empty


def test_with_labels_in_any_order_no_real_measure_of_knowledge_passes():
    """The null: probabilities that say much, and labels that have nothing to do with them."""
    generator = np.random.default_rng(5)
    for answers in (2, 7):
        logs = 2.0 * generator.standard_t(4, size=(17, 64, answers))
        logs -= np.logaddexp.reduce(logs, axis=2, keepdims=True)
        for _ in range(4):
            labels = generator.permutation(np.arange(64) % answers)
            base, *sources = (
                Score(
                    None,
                    Evaluation(
                        -one[np.arange(64), labels], np.ones(64, int),
                        one.argmax(1) == labels, one, labels,
                    ),
                    str(name),
                )
                for name, one in enumerate(logs)
            )  # fmt: skip
            assert select(by_knowledge(base, *sources)).is_empty


# -- fit against difference, as mathematics


def drawn(seed, count):
    """Losses without ties and the matrix of cosines of random directions in space."""
    generator = np.random.default_rng(seed)
    row = cosine_rows(generator.standard_normal((count, 3)).astype(np.float32))
    return generator.random(count), np.stack([row(index) for index in range(count)])


seeds, counts, ks = st.integers(0, 999), st.integers(1, 12), st.integers(1, 5)


@given(seeds, counts, ks)
def test_without_diversity_it_is_the_ranking(seed, count, k):
    lost, cosines = drawn(seed, count)
    assert marginal(lost, cosines.__getitem__, k, 0.0) == np.argsort(lost)[:k].tolist()


@given(seeds, counts, ks, st.floats(0, 3))
def test_the_order_of_the_candidates_does_not_matter(seed, count, k, diversity):
    lost, cosines = drawn(seed, count)
    order = np.random.default_rng(seed + 1).permutation(count)
    turned = cosines[np.ix_(order, order)]
    found = order[marginal(lost[order], turned.__getitem__, k, diversity)]
    assert found.tolist() == marginal(lost, cosines.__getitem__, k, diversity)


@given(seeds, st.integers(2, 12))
def test_a_high_price_takes_the_best_and_then_the_least_similar(seed, count):
    lost, cosines = drawn(seed, count)
    first, second = marginal(lost, cosines.__getitem__, 2, 1e9)
    assert first == np.argmin(lost)
    others = [index for index in range(count) if index != first]
    likeness = np.maximum(cosines[first], 0)
    least = min(likeness[index] for index in others)
    ties = [index for index in others if likeness[index] == least]
    assert second == min(ties, key=lost.__getitem__)  # of those that point apart the fittest


@given(seeds, counts, ks, st.floats(0, 3))
def test_nobody_is_chosen_twice(seed, count, k, diversity):
    lost, cosines = drawn(seed, count)
    found = marginal(lost, cosines.__getitem__, k, diversity)
    assert len(set(found)) == len(found) == min(k, count)


def test_diversity_is_the_share_of_the_gain_that_a_right_angle_is_worth():
    lost = relative(np.array([1.0, 1.2, 1.4]), base=2.0)
    np.testing.assert_allclose(lost, [0, 0.2, 0.4])
    cosines = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    assert marginal(lost, cosines.__getitem__, 2, 0.19) == [0, 1]
    assert marginal(lost, cosines.__getitem__, 2, 0.21) == [0, 2]


@given(st.floats(0.1, 10), st.floats(-5, 5))
def test_units_and_origin_of_the_loss_do_not_matter(unit, origin):
    losses = np.array([1.0, 1.5, 1.25])
    found = relative(unit * losses + origin, unit * 2 + origin)
    np.testing.assert_allclose(found, [0, 0.5, 0.25], atol=1e-9)


def test_no_gain_at_all_loses_nothing():
    assert relative(np.array([1.0, 1.0]), base=1.0).tolist() == [0, 0]
