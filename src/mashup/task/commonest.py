"""What an answer that never looks at the prompt gets right: the least that a model must beat."""

from __future__ import annotations

from collections import Counter

from mashup.task.example import Example
from mashup.task.load import Task


def commonest_accuracy(task: Task) -> float:
    """Share of the test rows whose answer is the commonest of the training rows.

    Known too as the majority-class baseline (``most_frequent`` of scikit-learn's
    ``DummyClassifier``). Of answers that are equally common it takes the first.
    """
    answers = Counter(_answer(example) for example in task.train)
    (commonest, _), *_ = answers.most_common(1)
    return sum(_answer(example) == commonest for example in task.test) / len(task.test)


def _answer(example: Example) -> tuple[str, ...]:
    turns = example.messages[example.first_answer :]
    return tuple(turn.content.strip() for turn in turns if turn.role == "assistant")
