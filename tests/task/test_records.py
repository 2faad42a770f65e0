import pytest

from mashup.task.example import RowError
from mashup.task.records import known_records, record_for

CHOICES = {"text": ["iron", "wood", "glass"], "label": ["A", "B", "C"]}
ARC = {"question": "What rusts?", "choices": CHOICES, "answerKey": "A"}
CSQA = ARC | {"question_concept": "rust"}
HELLASWAG = {"ctx": "It rains.", "endings": ["He dries.", "He melts.", "It snows.", "He gets wet."]}
MATH_QA = {"Problem": "1 + 1 ?", "correct": "c"}
PIQA = {"goal": "Cool it.", "sol1": "Freeze it.", "sol2": "Cook it."}
SOCIAL = {
    "context": "Ann fell.",
    "question": "How does Ann feel?",
    "answerA": "glad",
    "answerB": "hurt",
    "answerC": "full",
}
WINO = {"sentence": "Ann thanked Bo for the help _ gave.", "option1": "Ann", "option2": "Bo"}


def record(name):
    return next(record for record in known_records() if record.name == name)


def ask(name, row):
    """Prompt and answer that a record makes of a row."""
    (_, prompt), (_, answer) = record(name).example(row).messages
    return prompt, answer


def chosen(name, row):
    """Text of the option that the answer names."""
    prompt, answer = ask(name, row)
    options = [line for line in prompt.splitlines() if line.startswith(f"{answer}. ")]
    assert len(options) == 1
    return options[0].removeprefix(f"{answer}. ")


def test_the_eight_benchmarks_of_the_paper_are_known():
    assert [record.name for record in known_records()] == [
        *("arc_easy", "commonsense_qa", "hellaswag", "math_qa"),
        *("openbookqa", "piqa", "social_iqa", "winogrande"),
    ]


def test_a_question_is_asked_with_its_options_and_nothing_else_wanted():
    assert ask("arc_easy", ARC) == (
        "Answer this science question.\n\nWhat rusts?\n\nA. iron\nB. wood\nC. glass\n\n"
        "Answer with the letter of the right choice and nothing else.",
        "A",
    )


def test_numbered_choices_are_asked_for_by_number():
    numbered = {"text": ["iron", "wood"], "label": ["1", "2"]}
    prompt, answer = ask("arc_easy", ARC | {"choices": numbered, "answerKey": "2"})
    assert "\n1. iron\n2. wood\n" in prompt
    assert "the number of" in prompt
    assert answer == "2"


@pytest.mark.parametrize(
    ("name", "row", "right"),
    [
        ("arc_easy", ARC | {"answerKey": "C"}, "glass"),
        ("commonsense_qa", CSQA | {"answerKey": "B"}, "wood"),
        ("openbookqa", {"question_stem": "Rust is", "choices": CHOICES, "answerKey": "A"}, "iron"),
        ("hellaswag", HELLASWAG | {"label": "3"}, "He gets wet."),
        ("hellaswag", HELLASWAG | {"label": 0}, "He dries."),
        ("piqa", PIQA | {"label": 0}, "Freeze it."),
        ("piqa", PIQA | {"label": "1"}, "Cook it."),
        ("social_iqa", SOCIAL | {"label": "2"}, "hurt"),
        ("winogrande", WINO | {"answer": "2"}, "Bo"),
        ("winogrande", WINO | {"answer": 1}, "Ann"),
        ("math_qa", MATH_QA | {"options": "a ) 1 , b ) 3 , c ) 2"}, "2"),
        ("math_qa", MATH_QA | {"options": "a ) 1 , 000 , b ) 3 , c ) 2 , 500"}, "2 , 500"),
        ("math_qa", MATH_QA | {"options": "a ) a ) 1 / 2 , b ) b ) 3 , c ) c ) rs . 2"}, "rs . 2"),
    ],
)
def test_the_answer_names_the_right_option(name, row, right):
    assert chosen(name, row) == right


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("arc_easy", ARC | {"answerKey": "D"}),
        ("arc_easy", ARC | {"answerKey": ""}),
        ("arc_easy", ARC | {"choices": "{'text': ['iron'], 'label': ['A']}"}),
        ("arc_easy", ARC | {"choices": None}),
        ("arc_easy", ARC | {"choices": {"text": ["iron"], "label": ["A", "B"]}}),
        ("hellaswag", HELLASWAG | {"label": ""}),
        ("hellaswag", HELLASWAG | {"label": None}),
        ("hellaswag", HELLASWAG | {"label": "0", "endings": ["only one"]}),
        ("piqa", PIQA | {"label": -1}),
        ("piqa", PIQA | {"label": 2}),
        ("piqa", PIQA | {"label": None}),
        ("piqa", PIQA | {"label": "sol1"}),
        ("social_iqa", SOCIAL | {"label": "0"}),
        ("social_iqa", SOCIAL | {"label": "4"}),
        ("winogrande", WINO | {"answer": ""}),
        ("math_qa", MATH_QA | {"options": "a ) 1 , b ) 3"}),
        ("math_qa", MATH_QA | {"options": "none at all"}),
        ("math_qa", MATH_QA | {"options": ["a ) 1"]}),
    ],
)
def test_a_row_without_a_right_option_is_refused(name, row):
    with pytest.raises(RowError, match=r"answer .* is none of|cannot read|options for"):
        record(name).example(row)


def test_a_missing_column_is_named():
    with pytest.raises(RowError, match="no column 'label'"):
        record("piqa").example(PIQA)


@pytest.mark.parametrize("known", known_records(), ids=lambda record: record.name)
def test_a_benchmark_is_known_by_its_columns_whatever_else_is_there(known):
    assert record_for({*known.columns, "id", "split"}) is known
    assert record_for(set(known.columns[1:])) is not known


def test_unknown_columns_are_no_benchmark():
    assert record_for({"text", "label"}) is None
