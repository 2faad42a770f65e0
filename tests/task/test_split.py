import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import refused
from mashup.task.example import Example, Message
from mashup.task.split import SMALLEST, SplitSizes, shuffled, split

NONE = SplitSizes()


def examples(*numbers: int, answer: str = "yes") -> list[Example]:
    return [Example.of(f"Is {number} even?", answer) for number in numbers]


@st.composite
def with_duplicates(draw: st.DrawFn) -> list[Example]:
    """At least 40 different prompts, some of them again with another or the same answer."""
    count = draw(st.integers(40, 90))
    again = draw(st.lists(st.integers(0, count - 1), max_size=40))
    rows = examples(*range(count)) + examples(*again[::2]) + examples(*again[1::2], answer="no")
    return draw(st.randoms(use_true_random=False)).sample(rows, len(rows))


def keys(rows):
    return {example.prompt_key for example in rows}


def cut(rows, dev=(), test=(), sizes=NONE, seed=42):
    return split(rows, dev, test, sizes, seed, "rows.jsonl")


@given(rows=with_duplicates(), seed=st.integers())
def test_splits_share_no_prompt_and_lose_no_row(rows, seed):
    made = cut(rows, seed=seed)
    train, dev, test = keys(made.train), keys(made.dev), keys(made.test)
    assert len(train) + len(dev) + len(test) == len(train | dev | test)
    assert sorted(e.messages for e in (*made.train, *made.dev, *made.test)) == sorted(
        e.messages for e in rows
    )
    assert made.dropped == 0


@given(rows=with_duplicates(), random=st.randoms(use_true_random=False))
def test_splits_do_not_depend_on_the_order_of_the_rows(rows, random):
    again = random.sample(rows, len(rows))
    assert cut(again) == cut(rows)


@given(rows=with_duplicates(), test=st.sets(st.integers(0, 60), min_size=8, max_size=20))
def test_no_prompt_of_a_given_test_set_is_trained_on(rows, test):
    made = cut(rows, test=examples(*test), sizes=SplitSizes(dev=8))
    assert keys(made.test) == keys(examples(*test))
    assert not keys(made.test) & (keys(made.train) | keys(made.dev))
    assert made.dropped == sum(row.prompt_key in keys(made.test) for row in rows)


def test_rows_of_one_prompt_fall_together_even_at_the_cut():
    rows = examples(*range(30)) + examples(*range(30), answer="no")
    made = cut(rows, sizes=SplitSizes(dev=9, test=9))
    assert (len(made.test), len(made.dev), len(made.train)) == (10, 10, 40)


def test_another_seed_is_another_split():
    rows = examples(*range(100))
    assert cut(rows, seed=1).test != cut(rows, seed=2).test


@pytest.mark.parametrize(
    ("rows", "sizes", "expected"),
    [
        (100, NONE, (72, 8, 20)),
        (10_000, NONE, (9372, 128, 500)),
        (100, SplitSizes(train=30, dev=10, test=12), (30, 10, 12)),
        (24, NONE, (8, 8, 8)),
    ],
)
def test_sizes_are_those_asked_for_or_a_share_of_the_rows(rows, sizes, expected):
    made = cut(examples(*range(rows)), sizes=sizes)
    assert (len(made.train), len(made.dev), len(made.test)) == expected


def test_given_dev_and_test_sets_are_kept_but_for_prompts_that_both_have():
    dev, test = examples(*range(100, 110)), examples(*range(109, 120))
    made = cut(examples(*range(50)), dev=dev, test=test)
    assert keys(made.test) == keys(test)
    assert keys(made.dev) == keys(examples(*range(100, 109)))
    assert keys(made.train) == keys(examples(*range(50)))


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [(3 * SMALLEST - 1, NONE), (100, SplitSizes(train=90)), (100, SplitSizes(test=95))],
)
def test_fewer_rows_than_the_splits_need_is_an_error(rows, sizes):
    with refused("too few rows for the splits", where="rows.jsonl", found=f"{rows} rows"):
        cut(examples(*range(rows)), sizes=sizes)


def test_a_shuffle_keeps_every_example():
    rows = examples(*range(50))
    assert shuffled(rows, 1) != rows
    assert sorted(e.messages for e in shuffled(rows, 1)) == sorted(e.messages for e in rows)


def talk(n, *before, prompt_turns=None):
    """A question about ``n`` and its answer, behind earlier turns."""
    turns = (*before, ("user", f"Legs of {n}?"), ("assistant", str(n)))
    return Example(tuple(Message(role, text) for role, text in turns), prompt_turns)


TOPIC = (("user", "Topic"), ("assistant", "Ask me."))


@pytest.mark.parametrize(
    ("trained", "held"),
    [
        pytest.param(
            lambda n: talk(n, *TOPIC), lambda n: talk(n, *TOPIC, prompt_turns=3), id="form"
        ),
        pytest.param(lambda n: talk(n, *TOPIC), talk, id="second turn"),
        pytest.param(lambda n: talk(n, ("system", "Be short.")), talk, id="system"),
        pytest.param(
            lambda n: talk(n, *TOPIC, prompt_turns=3), lambda n: talk(n, *TOPIC), id="other"
        ),
        pytest.param(
            lambda n: talk(n, *TOPIC, *TOPIC),
            lambda n: talk(n, *TOPIC, prompt_turns=3),
            id="two turns",
        ),
    ],
)
def test_a_row_that_answers_a_held_out_prompt_in_another_form_is_dropped(trained, held):
    """Of ``{prompt: [...], completion}`` the turns before the last are no answers."""
    rows = [trained(n) for n in range(40)] + examples(*range(40))
    test = [held(n) for n in range(10)]
    made = cut(rows, test=test)
    left = {example.messages for example in (*made.train, *made.dev)}
    assert made.dropped == sum(row.messages not in left for row in rows) >= 10
    assert all(trained(n).messages not in left for n in range(10))


def test_rows_of_one_file_in_two_forms_do_not_part():
    rows = [talk(n, *TOPIC, prompt_turns=3) for n in range(60)] + [talk(n) for n in range(60)]
    made = cut(rows)
    answered = {
        m.content for e in (*made.dev, *made.test) if len(e.messages) == 2 for m in e.messages
    }
    assert not any(e.messages[2].content in answered for e in made.train if len(e.messages) == 4)
    assert len(made.train) + len(made.dev) + len(made.test) + made.dropped == 120
