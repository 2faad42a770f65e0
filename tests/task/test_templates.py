"""Chat templates are code from elsewhere: whatever they do, it is a problem of a row."""

import pytest

from helpers import make_tokenizer, refused
from mashup.errors import InputError
from mashup.task import Example, tokenize, tokens

ROWS = [Example.of(f"Is {n} even?", "no" if n % 2 else "yes") for n in range(4)]


def with_template(template):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ messages + 1 }}", "TypeError"),
        ("{{ [1, 2]['a'] + 'x' }}", "chat template"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ range(999999999) }}", "OverflowError"),
        ("{{ messages[99].content }}", "chat template"),
        ("{% for m in messages %}", "chat template"),
        ("{{ '' }}", "no token of an answer"),
        ("{{ bos_token }}", "no token of an answer"),
        ("always the same", "no token of an answer"),
        ("{{ ('x' * 1000000) * 1000 }}", "takes too much for one row"),
        ("{{ 10 ** 10 ** 9 }}", "operator **"),
    ],
)
def test_a_template_that_cannot_be_used_is_one_problem(template, found):
    with refused("cannot use row", found=found) as caught:
        tokenize(with_template(template), ROWS, max_length=512)
    assert len(caught.value.problems) == 1


def test_loops_without_end_are_stopped(monkeypatch):
    monkeypatch.setattr(tokens, "TEMPLATE_SECONDS", 0.05)
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with refused("cannot use row", found="more than 0.05 seconds", where="dataset, row 1"):
        tokenize(with_template(loops), ROWS, max_length=512)


def test_rows_that_are_slow_together_are_stopped(monkeypatch):
    monkeypatch.setattr(tokens, "ROWS_SECONDS", (0.0, 0.0002))
    slow = "{% for a in range(50000) %}{% endfor %}" + make_tokenizer().chat_template
    with refused("cannot use row", found="the rows before took", where="dataset, row 2"):
        tokenize(with_template(slow), ROWS, max_length=512)


def test_stars_elsewhere_are_no_power():
    plain = make_tokenizer()
    text = "{{ dict(**{'a': '**bold**'}).a }} 2 ** 3 " + plain.chat_template
    assert len(tokenize(with_template(text), ROWS, max_length=512)) == 4


def test_equal_faults_are_one_problem_that_names_the_first_rows():
    with pytest.raises(InputError) as caught:
        tokenize(with_template("{{ 1 / 0 }}"), ROWS, max_length=512, where="a (train)")
    where = "a (train), row 1, a (train), row 2, a (train), row 3 and 1 more"
    assert [problem.where for problem in caught.value.problems] == [where]
