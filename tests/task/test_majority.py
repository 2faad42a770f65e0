"""The answer that never looks at the prompt."""

from mashup.task import Example, Message, Task, commonest_accuracy


def _rows(answers):
    return tuple(Example.of(f"question {n}", answer) for n, answer in enumerate(answers))


def test_the_commonest_training_answer_is_judged_on_the_test_rows():
    task = Task("t", _rows(["yes", "no", "no"]), _rows(["yes"]), _rows(["no", "yes", "yes", "yes"]))
    assert commonest_accuracy(task) == 0.25


def test_answers_that_are_all_different_get_the_first_and_rarely_right():
    task = Task("t", _rows(["a", "b"]), (), _rows(["a", "b", "c", "d"]))
    assert commonest_accuracy(task) == 0.25


def test_every_assistant_turn_that_is_learnt_belongs_to_the_answer():
    def talk(*answers):
        turns = [m for a in answers for m in (Message("user", "?"), Message("assistant", a))]
        return Example(tuple(turns))

    task = Task("t", (talk("a", "b"), talk("a", "b")), (), (talk("a", "b"), talk("a", "c")))
    assert commonest_accuracy(task) == 0.5


def test_few_shot_turns_are_prompt_and_no_answer():
    turns = (
        *(Message("user", "1+1"), Message("assistant", "2")),
        *(Message("user", "2+2"), Message("assistant", "4")),
    )
    shots = Example(turns, prompt_turns=3)
    task = Task("t", (shots,), (), (Example.of("3+1", "4"), Example.of("1+1", "2")))
    assert commonest_accuracy(task) == 0.5
