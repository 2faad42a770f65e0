"""Examples to tokens, with the answer marked; a prompt must be a token prefix of the whole.

With a chat template: the model's own, and an answer is the assistant's text and the
end-of-turn token after it, but not the white space that a template puts behind that.
Without one, the documented default: prompt, one space (none where either side has white
space), completion, end-of-sequence token; longer conversations become ``User: ...`` and
``Assistant: ...`` lines, of which the last answer is learnt.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2

from mashup.errors import InputError, Problem
from mashup.task.example import Example, Message
from mashup.task.load import named
from mashup.task.pictures import Picture, PictureError, cut_at

_SHOWN = 10
_SHORTEN = "shorten the row, raise `max_length` (at most the model's context), or set `drop_long`"
#: What a chat template may take for one row; real ones take some 50 microseconds.
TEMPLATE_SECONDS = 2.0  # of CPU
#: CPU seconds that all rows may take, and what each row before adds.
ROWS_SECONDS = (5.0, 0.5)
_TEMPLATE_BYTES = 256 * 2**20
_TEMPLATE_CHARACTERS = 2_000_000  # tokenizing takes 400 bytes a character
#: Bytes of processed pictures that are kept for the rows of one call; others are made again.
_KEPT = 2**29


@dataclass(frozen=True)
class Seen:
    """What a base's processor makes of a row with pictures, in addition to token ids.

    Attributes:
        digest: of names, types, shapes and bytes of all its tensors, which pictures and processor
            decide.
        where: the row, for messages.
        is_open: whether another answer may follow the same prompt: the processor says nothing of
            the tokens of an answer.
    """

    digest: str
    where: str = field(default="", compare=False)
    is_open: bool = field(default=True, compare=False)
    _processor: Any = field(default=None, compare=False, repr=False)
    _text: str = field(default="", compare=False, repr=False)
    _pictures: tuple[Picture, ...] = field(default=(), compare=False, repr=False)
    _kept: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    _length: int = field(default=0, compare=False, repr=False)

    def inputs(self, length: int) -> dict[str, Any]:
        """Tensors by the names of the model's arguments, for one row of ``length`` tokens.

        What has a number for each token (``token_type_ids``) is cut, or goes on with 0.

        Raises:
            InputError: a picture has gone or changed, or is seen otherwise than before.
        """
        made = self._kept
        if made is None:
            try:
                _, made = _look(self._processor, self._text, self._pictures)
            except TokenError as error:
                raise InputError(
                    Problem("cannot use row", self.where, str(error), fix=error.fix)
                ) from None
            if _digest_of(made) != self.digest:
                fix = "do not change pictures or processor while a command runs"
                raise InputError(
                    Problem(
                        "cannot use row", self.where, "the processor gives other values", fix=fix
                    )
                )
        return {
            name: _fitted(value, length) if _is_of_tokens(value, self._length) else value
            for name, value in made.items()
        }


@dataclass(frozen=True)
class Tokens:
    """Token ids of one example.

    Attributes:
        ids: of prompt and answer.
        answer: whether each token is to be predicted.
        prompt: key of the prompt; examples that share it are not independent.
        seen: what the processor gives in addition, of a row with pictures.
    """

    ids: tuple[int, ...]
    answer: tuple[bool, ...]
    prompt: str = field(default="", compare=False)
    seen: Seen | None = None

    @property
    def keys(self) -> tuple[Any, ...]:
        """All that decides what a model computes of it, as keys of results have it."""
        return (self.ids, self.answer, *([self.seen.digest] if self.seen else []))

    @property
    def answer_count(self) -> int:
        return sum(self.answer)


def prompts_of(tokens: Sequence[Tokens]) -> list[int]:
    """Which prompt each example has, counted from 0 in the order in which they come.

    Examples that do not know their prompt have one of their own each.
    """
    known: dict[str | int, int] = {}
    return [known.setdefault(one.prompt or row, len(known)) for row, one in enumerate(tokens)]


class TokenError(ValueError):
    """An example that cannot be turned into prompt and answer tokens: what is wrong, and a fix."""

    def __init__(self, found: str, fix: str) -> None:
        super().__init__(found)
        self.fix = fix


class _LimitError(TokenError):
    """A template that would go on for ever: no other row is tried."""


def tokenize(
    tokenizer: Any,
    examples: Sequence[Example],
    *,
    max_length: int,
    where: str = "dataset",
    drop_long: bool = False,
    processor: Callable[[str], Any] | None = None,
) -> tuple[Tokens, ...]:
    """Tokens of every example.

    Args:
        tokenizer: a transformers tokenizer.
        max_length: the longest example, in tokens.
        where: what to call examples that do not know which row they are from.
        drop_long: leave out examples that are longer, unless none is left.
        processor: gives the base's processor; called with the name of the first row with pictures.

    Raises:
        InputError: rows with pictures and a base that does not see, an example longer than
            ``max_length``, a chat template that is empty or fails, or a prompt that is not a token
            prefix of prompt and answer.
    """
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, str) and not template.strip():
        raise InputError(_empty_template(tokenizer))
    render = _plain if template is None else _chat
    made: list[Tokens] = []
    places: dict[tuple[str, str], list[str]] = {}
    long: list[tuple[int, str]] = []
    started, room = time.thread_time(), _KEPT
    for number, example in enumerate(examples, 1):
        place = example.where or f"{where}, row {number}"
        try:
            seen = None
            if example.pictures:
                looks = _processor_for(processor, place)
                ids, answer, seen = _seeing(looks, example, max_length, place, room)
                room -= _bytes_of(seen)
            else:
                _check_pace(time.thread_time() - started, number)
                ids, answer = render(tokenizer, example, max_length)
            if len(ids) > max_length:
                long.append((len(ids), place))
                continue
            if not any(answer):
                fix = "use a tokenizer whose chat template writes the assistant's text"
                raise TokenError("no token of an answer: the chat template leaves it out", fix)
        except TokenError as error:
            places.setdefault((str(error), error.fix), []).append(place)
            if isinstance(error, _LimitError):
                break
            continue
        made.append(Tokens(tuple(ids), tuple(answer), example.prompt_key, seen))
    if long and not (drop_long and made):
        found = f"longer than {max_length} tokens; the longest has {max(long)[0]}"
        places[found, _SHORTEN] = [place for _, place in long]
    if places:
        raise InputError(*_problems(places))
    return tuple(made)


def _check_pace(seconds: float, number: int) -> None:
    """Refuse rows that took many times as long as any real template and text."""
    if seconds > ROWS_SECONDS[0] + ROWS_SECONDS[1] * number:
        found = f"the rows before took {seconds:.1f} seconds of CPU"
        raise _LimitError(found, "use another chat template, or shorter rows")


def _empty_template(tokenizer: Any) -> Problem:
    """A template of no text. transformers would use it, and every row would be empty."""
    where = str(getattr(tokenizer, "name_or_path", "") or "tokenizer")
    expected = "a chat template, or none"
    fix = "copy chat_template.jinja of the model again, or remove that file"
    return Problem("chat template is empty", where, "no text", expected, fix)


def _problems(places: dict[tuple[str, str], list[str]]) -> Iterator[Problem]:
    """One problem for each fault; those behind the tenth are counted."""
    for (found, fix), rows in list(places.items())[:_SHOWN]:
        yield Problem("cannot use row", named(rows, len(rows)), found, fix=fix)
    rest = list(places.items())[_SHOWN:]
    if rest:
        count = sum(len(rows) for _, rows in rest)
        fix = rest[0][0][1]
        yield Problem("more bad rows", f"and {count} more of this dataset", fix=fix)


def _chat(tokenizer: Any, example: Example, most: int) -> tuple[list[int], list[bool]]:
    """Token ids and which are learnt; without the latter where there are more than ``most``."""
    turns = [{"role": role, "content": content} for role, content in example.messages]
    whole = _apply(tokenizer, turns, prompt=False).rstrip()
    ids = _encode(tokenizer, whole)
    answer = [False] * len(ids)
    if len(ids) > most:  # each answer below takes as long as the whole
        return ids, answer
    for index, turn in enumerate(turns):
        if turn["role"] == "assistant" and index >= example.first_answer:
            start = _prefix(tokenizer, ids, whole, _apply(tokenizer, turns[:index], prompt=True))
            until = _apply(tokenizer, turns[: index + 1], prompt=False).rstrip()
            stop = _prefix(tokenizer, ids, whole, until)
            answer[start:stop] = [True] * (stop - start)
    return ids, answer


def _apply(tokenizer: Any, turns: list[dict[str, Any]], *, prompt: bool) -> str:
    """What the chat template makes of ``turns``; a template is code from elsewhere."""
    fix = "use another chat template, or change the row to what this one takes"
    if _has_power(str(tokenizer.chat_template)):
        raise _LimitError("the chat template has the operator **, which can take for ever", fix)
    try:
        with _limits():
            text = tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=prompt
            )
    except (_TimeError, MemoryError) as error:
        found = str(error) or f"more than {_TEMPLATE_BYTES:,} bytes"
        raise _LimitError(f"the chat template takes too much for one row: {found}", fix) from None
    except jinja2.TemplateError as error:  # "roles must alternate", "no system role", ...
        raise TokenError(f"the chat template says: {error}", fix) from error
    except Exception as error:  # whatever an expression in the template raises
        found = f"{type(error).__name__}: {error}"
        raise TokenError(f"the chat template fails: {found:.300}", fix) from error
    if not isinstance(text, str) or len(text) > _TEMPLATE_CHARACTERS:
        raise _LimitError("the chat template makes too long a text of one row", fix)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TokenError("the chat template writes half of a surrogate pair", fix) from None
    return text


class _TimeError(Exception):
    """The seconds of a template are over."""


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """Bound the CPU time (in the main thread) and the memory of the block.

    Nested loops need no end, and an expression of twenty characters can make 20 GB of text.
    """

    def stop(*_: Any) -> None:
        raise _TimeError(f"more than {TEMPLATE_SECONDS:g} seconds")

    timed = threading.current_thread() is threading.main_thread()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    room = _address_space() + _TEMPLATE_BYTES
    bounded = room > _TEMPLATE_BYTES and (soft == resource.RLIM_INFINITY or room < soft)
    before = signal.signal(signal.SIGVTALRM, stop) if timed else None
    try:
        if bounded:
            resource.setrlimit(resource.RLIMIT_AS, (room, hard))
        if timed:
            signal.setitimer(signal.ITIMER_VIRTUAL, TEMPLATE_SECONDS)
        yield
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)
        if bounded:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space() -> int:
    """Bytes that this process has mapped; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[0])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * resource.getpagesize()


@lru_cache
def _has_power(template: str) -> bool:
    """Whether a template has the power operator: one such expression can take hours of CPU.

    ``f(**names)`` is something else.
    """
    if "**" not in template:
        return False
    try:
        tokens = [t for t in jinja2.Environment().lex(template) if t[1] != "whitespace"]
    except jinja2.TemplateError:
        return False  # it will not compile either
    pairs = itertools.pairwise(tokens)
    return any(t[1:] == ("operator", "**") and before[2] not in "(," for before, t in pairs)


def _encode(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


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


# Rows with pictures


def _processor_for(processor: Callable[[str], Any] | None, place: str) -> Any:
    if processor is None:
        found, fix = "it has pictures", "give rows of text"
        raise InputError(Problem("cannot use row", place, found, "text", fix))
    return processor(place)


def _seeing(
    processor: Any, example: Example, most: int, place: str, room: int
) -> tuple[list[int], list[bool], Seen | None]:
    """:func:`_chat` of a row with pictures, through the processor of the base.

    A picture becomes some tokens, and how many the processor decides. So each part of the row
    that ends before an answer, or with it, goes through the processor with its pictures.

    Args:
        room: bytes that may be kept.
    """
    turns = _with_pictures(example)
    whole = _apply(processor, turns, prompt=False).rstrip()
    ids, made = _look(processor, whole, example.pictures)
    if len(ids) > most:
        return ids, [False] * len(ids), None
    _check_shown(processor, ids)
    answer = [False] * len(ids)
    for index, turn in enumerate(turns):
        if turn["role"] == "assistant" and index >= example.first_answer:
            before = tuple(one for one in example.pictures if one.turn < index)
            head = _apply(processor, turns[:index], prompt=True)
            start = _seen_prefix(processor, ids, whole, head, before)
            until = _apply(processor, turns[: index + 1], prompt=False).rstrip()
            stop = (
                len(ids) if until == whole else _seen_prefix(processor, ids, whole, until, before)
            )
            answer[start:stop] = [True] * (stop - start)
    digest, kept = _digest_of(made), made if _size_of(made) <= room else None
    seen = Seen(
        digest, place, _says_nothing(made, answer), processor, whole, example.pictures, kept,
        len(ids),
    )  # fmt: skip
    return ids, answer, seen


def _with_pictures(example: Example) -> list[dict[str, Any]]:
    """The turns as templates of models that see take them: all contents are lists of parts."""
    turns = []
    for index, (role, text) in enumerate(example.messages):
        own = [one for one in example.pictures if one.turn == index]
        parts: list[dict[str, str]] = [
            {"type": "text", "text": piece} if isinstance(piece, str) else {"type": "image"}
            for piece in cut_at(text, own)
        ]
        turns.append({"role": role, "content": parts})
    return turns


def _look(
    processor: Any, text: str, pictures: Sequence[Picture]
) -> tuple[list[int], dict[str, Any]]:
    """Token ids of a text with pictures, and what else the processor gives to the model."""
    fix = "check the picture, or use another processor or row"
    try:
        opened = [one.open() for one in pictures]
        given: dict[str, Any] = {"images": [opened]} if opened else {}
        made = dict(processor(text=[text], return_tensors="pt", add_special_tokens=False, **given))
    except PictureError as error:
        raise TokenError(str(error), fix) from None
    except Exception as error:  # whatever a processor raises
        found = " ".join(f"{type(error).__name__}: {error}".split())
        raise TokenError(f"the processor of the base fails: {found:.300}", fix) from error
    made.pop("attention_mask", None)
    return made.pop("input_ids")[0].tolist(), made


def _check_shown(processor: Any, ids: list[int]) -> None:
    """Refuse a row whose template leaves its pictures out."""
    known = getattr(processor, "image_token_ids", None) or [
        getattr(processor, "image_token_id", None)
    ]
    wanted = {one for one in known if isinstance(one, int)}
    if wanted and wanted.isdisjoint(ids):
        fix = "copy chat_template.jinja of the model again"
        raise TokenError("the chat template leaves the pictures out", fix)


def _seen_prefix(
    processor: Any, ids: list[int], whole: str, part: str, pictures: Sequence[Picture]
) -> int:
    """:func:`_prefix` through the processor."""
    if not whole.startswith(part):
        raise _no_prefix()
    return _head_length(_look(processor, part, pictures)[0], ids)


def _is_of_tokens(value: Any, length: int) -> bool:
    """Whether a tensor has numbers for each token of its row, as ``token_type_ids`` has."""
    return not value.is_floating_point() and tuple(value.shape[:2]) == (1, length)


def _fitted(value: Any, length: int) -> Any:
    from torch.nn.functional import pad

    return pad(value, (*(0, 0) * (value.dim() - 2), 0, length - value.shape[1]))


def _says_nothing(made: Mapping[str, Any], answer: list[bool]) -> bool:
    return not any(
        bool(value[0][answer.index(True) :].any())
        for value in made.values()
        if any(answer) and _is_of_tokens(value, len(answer))
    )


def _digest_of(made: Mapping[str, Any]) -> str:
    whole = hashlib.sha256()
    for name, value in sorted(made.items()):
        array = value.contiguous().numpy()
        whole.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return whole.hexdigest()


def _size_of(made: Mapping[str, Any]) -> int:
    return sum(value.nbytes for value in made.values())


def _bytes_of(seen: Seen | None) -> int:
    return _size_of(seen._kept) if seen and seen._kept else 0


def _plain(tokenizer: Any, example: Example, most: int) -> tuple[list[int], list[bool]]:
    del most
    prompt, completion = plain_text(example.messages)
    head = _open_ended(tokenizer, tokenizer(prompt, verbose=False)["input_ids"])
    ids = _open_ended(tokenizer, tokenizer(prompt + completion, verbose=False)["input_ids"])
    start = _head_length(head, ids)
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    return ids, [False] * start + [True] * (len(ids) - start)


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
