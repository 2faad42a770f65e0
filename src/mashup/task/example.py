"""Example: one conversation whose assistant turns are to be learnt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

ROLES = ("system", "user", "assistant", "tool")


class Message(NamedTuple):
    """One turn: ``role`` is system, user, assistant or tool."""

    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """Messages, the last of them from the assistant.

    Attributes:
        messages: the turns in order.
        prompt_turns: how many of them are the prompt, as the shots of a few-shot prompt are;
            None for all before the first assistant turn that answers something.
    """

    messages: tuple[Message, ...]
    prompt_turns: int | None = None

    @classmethod
    def of(cls, prompt: str, completion: str) -> Example:
        return cls((Message("user", prompt), Message("assistant", completion)))

    @property
    def first_answer(self) -> int:
        """Index of the first assistant turn that is learnt; an opening turn answers nothing."""
        if self.prompt_turns is not None:
            return self.prompt_turns
        replies = (i for i, turn in enumerate(self.messages) if i and turn.role == "assistant")
        return next(replies, len(self.messages) - 1)

    @property
    def prompt_key(self) -> str:
        """Digest of all before the first answer that is learnt: rows that share it are kin.

        Kin fall into one split: duplicates, and the same conversation cut at several turns.
        """
        asked = self.messages[: self.first_answer]
        parts = "\x1e".join(f"{role}\x1f{' '.join(text.split())}" for role, text in asked)
        return hashlib.sha256(parts.encode()).hexdigest()


class RowError(ValueError):
    """A row that cannot become an example.

    Attributes:
        code: of its problem, "" for the general one.
    """

    def __init__(self, found: str, code: str = "") -> None:
        super().__init__(found)
        self.code = code


def from_row(row: Mapping[str, Any]) -> Example:
    """Example of a row with ``messages``, or ``prompt`` and ``completion``.

    The two columns may hold text, or lists of messages as TRL's conversational format has.

    Raises:
        RowError: a missing column, an empty completion, an unknown role.
    """
    if "messages" in row:
        return _checked(_messages(row["messages"]))
    for column in ("prompt", "completion"):
        if column not in row:
            raise RowError(f"no column {column!r}")
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        return _checked(Example.of(prompt, completion).messages)
    asked, answered = _as_messages(prompt, "user"), _as_messages(completion, "assistant")
    return _checked(asked + answered, len(asked) if len(asked) > 1 else None)


def _as_messages(value: Any, role: str) -> tuple[Message, ...]:
    return (Message(role, value),) if isinstance(value, str) else _messages(value)


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise RowError(f"messages are {type(value).__name__}, not a list of role and content")
    try:
        return tuple(Message(str(turn["role"]), turn["content"]) for turn in value)
    except (TypeError, KeyError, IndexError) as error:
        raise RowError("a message without role and content") from error


def _checked(messages: tuple[Message, ...], prompt_turns: int | None = None) -> Example:
    for role, content in messages:
        if role not in ROLES:
            raise RowError(f"unknown role {role!r}; expected {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise RowError(f"the content of a {role} turn is {type(content).__name__}, not text")
    if messages[-1].role != "assistant" or not messages[-1].content.strip():
        raise RowError("empty completion")
    if len(messages) == 1 or not any(m.content.strip() for m in messages[:-1]):
        raise RowError("empty prompt")
    return Example(messages, prompt_turns)
