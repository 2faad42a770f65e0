"""Examples to tokens, with the answer marked; a prompt must be a token prefix of the whole.

With a chat template: the model's own, and an answer is the assistant's text and the
end-of-turn token after it, but not the white space that a template puts behind that.
Without one, the documented default: prompt, one space (none where either side has white
space), completion, end-of-sequence token; longer conversations become ``User: ...`` and
``Assistant: ...`` lines, of which the last answer is learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from mashup.errors import InputError, Problem
from mashup.task.example import Example, Message

_SHOWN = 10


@dataclass(frozen=True)
class Tokens:
    """Token ids of one example; ``answer[i]`` tells whether token ``i`` is to be predicted."""

    ids: tuple[int, ...]
    answer: tuple[bool, ...]

    @property
    def answer_count(self) -> int:
        return sum(self.answer)


class TokenError(ValueError):
    """An example that cannot be turned into prompt and answer tokens: what is wrong, and a fix."""

    def __init__(self, found: str, fix: str) -> None:
        super().__init__(found)
        self.fix = fix


def tokenize(
    tokenizer: Any, examples: Sequence[Example], *, max_length: int, where: str = "dataset"
) -> tuple[Tokens, ...]:
    """Tokens of every example.

    Args:
        tokenizer: a transformers tokenizer.
        max_length: the longest example, in tokens.
        where: what to call the examples in an error.

    Raises:
        InputError: an example longer than ``max_length``, or a prompt that is not a token
            prefix of prompt and answer.
    """
    render = _chat if getattr(tokenizer, "chat_template", None) else _plain
    made, problems = [], []
    for number, example in enumerate(examples, 1):
        try:
            tokens = render(tokenizer, example)
            if len(tokens.ids) > max_length:
                fix = "shorten the row or raise --max-length (at most the model's context)"
                raise TokenError(f"{len(tokens.ids)} tokens, longer than {max_length}", fix)
            made.append(tokens)
        except TokenError as error:
            row = f"{where}, row {number}"
            problems.append(Problem("cannot use row", row, str(error), fix=error.fix))
    if problems:
        raise InputError(*problems[:_SHOWN])
    return tuple(made)


def _chat(tokenizer: Any, example: Example) -> Tokens:
    turns = [{"role": role, "content": content} for role, content in example.messages]
    whole = _apply(tokenizer, turns, prompt=False).rstrip()
    ids = _encode(tokenizer, whole)
    answer = [False] * len(ids)
    for index, turn in enumerate(turns):
        if turn["role"] == "assistant" and index >= example.first_answer:
            start = _prefix(tokenizer, ids, whole, _apply(tokenizer, turns[:index], prompt=True))
            until = _apply(tokenizer, turns[: index + 1], prompt=False).rstrip()
            stop = _prefix(tokenizer, ids, whole, until)
            answer[start:stop] = [True] * (stop - start)
    return Tokens(tuple(ids), tuple(answer))


def _apply(tokenizer: Any, turns: list[dict[str, str]], *, prompt: bool) -> str:
    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
    except TemplateError as error:  # "roles must alternate", "no system role", ...
        fix = "change the row's roles to what the template takes"
        raise TokenError(f"the chat template says: {error}", fix) from error


def _encode(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _prefix(tokenizer: Any, ids: list[int], whole: str, part: str) -> int:
    """How many of ``ids`` make ``part``, which must be a prefix in text and in tokens."""
    head = _encode(tokenizer, part)
    if not whole.startswith(part):
        raise _no_prefix()
    return _head_length(head, ids)


def _head_length(head: list[int], ids: list[int]) -> int:
    if ids[: len(head)] != head:
        raise _no_prefix()
    return len(head)


def _no_prefix() -> TokenError:
    fix = "move white space from the end of the prompt to the answer's start"
    return TokenError("the prompt is not a token prefix of prompt and answer", fix)


def _plain(tokenizer: Any, example: Example) -> Tokens:
    prompt, completion = plain_text(example.messages)
    head = _open_ended(tokenizer, tokenizer(prompt)["input_ids"])
    ids = _open_ended(tokenizer, tokenizer(prompt + completion)["input_ids"])
    start = _head_length(head, ids)
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    return Tokens(tuple(ids), (False,) * start + (True,) * (len(ids) - start))


def _open_ended(tokenizer: Any, ids: list[int]) -> list[int]:
    """Without the end-of-sequence token that some tokenizers add."""
    return ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else list(ids)


def plain_text(messages: Sequence[Message]) -> tuple[str, str]:
    """Prompt and completion of a conversation for a model without a chat template."""
    completion = messages[-1].content
    if len(messages) == 2 and messages[0].role == "user":
        prompt = messages[0].content
        touching = prompt[-1:].isspace() or completion[:1].isspace()
        return prompt, completion if touching else f" {completion}"
    lines = [f"{role.capitalize()}: {content}" for role, content in messages[:-1]]
    return "\n".join([*lines, "Assistant:"]), f" {completion}"
