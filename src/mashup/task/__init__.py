"""Task: the examples of one target task, in disjoint splits, and as tokens."""

from mashup.task.example import Example, Message
from mashup.task.examples import asked_prompts, taught_prompts
from mashup.task.load import Task, commonest_accuracy, load_task
from mashup.task.records import Record, known_records
from mashup.task.tokens import Tokens, prompts_of, tokenize

__all__ = [
    "Example",
    "Message",
    "Record",
    "Task",
    "Tokens",
    "asked_prompts",
    "commonest_accuracy",
    "known_records",
    "load_task",
    "prompts_of",
    "taught_prompts",
    "tokenize",
]
