"""Example: one conversation whose assistant turns are to be learnt, and the rows it is made of."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from mashup.settings import RowSettings
from mashup.task.pictures import (
    MARK,
    Picture,
    PictureError,
    Place,
    filled,
    in_columns,
    in_part,
    marked,
)

ROLES = ("system", "user", "assistant", "tool")
_SHAREGPT = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "observation": "tool",
    "function": "tool",
}
#: How many user turns before an answer are compared with held-out prompts.
_BACK = 8
_LISTS = (list, tuple)
#: Columns in which TRL and other trainers have what no model here sees or hears.
_OTHERS = ("videos", "audios")
#: Between the turns of a conversation that a key is made of.
_BETWEEN = "\x1e"
#: The most turns of one row. No model has a context for more, and each learnt answer has keys.
MOST_TURNS = 2_000


class Message(NamedTuple):
    """One turn: ``role`` is system, user, assistant or tool."""

    role: str
    content: str


Turns = tuple[Message, ...]


@dataclass(frozen=True)
class Example:
    """Messages, the last of them from the assistant.

    Attributes:
        messages: the turns in order.
        prompt_turns: how many of them are the prompt, as the shots of a few-shot prompt are;
            None for all before the first assistant turn that answers something.
        where: the row that it is from, as messages name it ("line 3 of train.jsonl").
        pictures: of all turns, in order; none of them is in an assistant turn.
    """

    messages: Turns
    prompt_turns: int | None = None
    where: str = field(default="", compare=False)
    pictures: tuple[Picture, ...] = ()

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
        return conversation_key(self.keyed[: self.first_answer]).hex()

    @property
    def keyed(self) -> Sequence[tuple[str, str]]:
        """Roles and texts as keys have them: with the digest of each picture in its place."""
        if not self.pictures:
            return self.messages
        texts = [text for _, text in self.messages]
        for one in reversed(self.pictures):
            text = texts[one.turn]
            texts[one.turn] = f"{text[: one.at]} \x02{one.digest}\x03 {text[one.at :]}"
        return [(turn.role, text) for turn, text in zip(self.messages, texts, strict=True)]

    @property
    def prompts(self) -> frozenset[bytes]:
        """Keys of what this row asks: of everything before each of its learnt answers."""
        return frozenset(key for _, key, _ in self._answers())

    @property
    def seen(self) -> frozenset[bytes]:
        """Keys of every prompt that is answered in this row, so that training on it teaches it.

        Those of :attr:`prompts`, and for each learnt answer its last user turn, the last two,
        and so on up to eight, with the turns between: a question is the same question when it
        comes as a second turn.
        """
        found = set()
        for end, key, asked in self._answers():
            found.add(key)
            found |= {conversation_key(self.keyed[start:end]) for start in asked}
        return frozenset(found)

    def _answers(self) -> Iterator[tuple[int, bytes, Sequence[int]]]:
        """Of each learnt answer its index, the key of all before it, and the last user turns."""
        first, asked = self.first_answer, deque[int](maxlen=_BACK)
        before = hashlib.sha256()
        for index, (role, text) in enumerate(self.keyed):
            if index >= first and role == "assistant":
                yield index, before.digest(), asked
            before.update(f"{_BETWEEN if index else ''}{_part(role, text)}".encode())
            if role == "user":
                asked.append(index)


def conversation_key(turns: Sequence[tuple[str, str]]) -> bytes:
    """SHA-256 of roles and texts; runs of white space count as one space."""
    return hashlib.sha256(_BETWEEN.join([_part(*turn) for turn in turns]).encode()).digest()


def _part(role: str, text: str) -> str:
    return f"{role}\x1f{' '.join(text.split())}"


class RowError(ValueError):
    """A row that cannot become an example; the text says what was found and expected.

    Attributes:
        what, fix: of its problem.
        code: of its problem, "" for the general one.
    """

    what = "bad row"
    fix = "mend or remove the row, or leave out all bad rows with `drop_bad`"

    def __init__(self, found: str, code: str = "") -> None:
        super().__init__(found)
        self.code = code


Maker = Callable[[Mapping[str, Any]], Example]


def from_row(row: Mapping[str, Any]) -> Example:
    """Example of a row in one of the formats that need no settings; see :func:`form_of`.

    Raises:
        RowError: a missing column, no text, an empty completion, an unknown role.
    """
    make = form_of(row, RowSettings()) or Pairs("prompt", "completion")
    return make(row)


def form_of(
    row: Mapping[str, Any],
    settings: RowSettings,
    names: Mapping[str, Sequence[str]] | None = None,
    folder: Path = Path(),
) -> Maker | None:
    """How rows with the columns of ``row`` become examples, None when no format has them.

    Args:
        row: the first of a dataset; the others are to have the same format.
        settings: columns, separator and names of labels.
        names: columns whose numbers stand for these names, as ``datasets.ClassLabel`` has it.
        folder: that the paths of pictures are relative to.
    """
    is_named = settings.prompt_column or settings.completion_column
    if "messages" in row and not is_named:
        return lambda row: _conversation(row, "messages", folder)
    if is_named or ("prompt" in row and "completion" in row):
        completion = settings.completion_column or "completion"
        labels = settings.label_names or (names or {}).get(completion, ())
        return Pairs(settings.prompt_column or "prompt", completion, labels, folder)
    return None


def other_form_of(
    row: Mapping[str, Any], settings: RowSettings, folder: Path = Path()
) -> Maker | None:
    """The same for formats that are known only when no benchmark record has the columns."""
    if "conversations" in row:
        return lambda row: _conversation(row, "conversations", folder)
    if "instruction" in row and "output" in row:
        return lambda row: _alpaca(row, settings)
    if "text" in row and settings.separator:
        return lambda row: _separated(row, settings)
    return None


@dataclass(frozen=True)
class Pairs:
    """Rows with a prompt and a completion, each a text or a list of messages.

    Attributes:
        prompt, completion: the names of the two columns.
        labels: what the completions 0, 1, 2, ... stand for; empty for completions as they are.
        folder: that the paths of pictures are relative to.
    """

    prompt: str
    completion: str
    labels: Sequence[str] = ()
    folder: Path = Path()

    def plain(self, row: Mapping[str, Any]) -> tuple[str, str] | None:
        """Prompt and completion of a row with two texts, as nearly all have; None for others."""
        asked, answered = row.get(self.prompt), row.get(self.completion)
        if self.labels or not isinstance(asked, str) or not isinstance(answered, str):
            return None
        if row.get("images") or row.get("image"):
            return None
        empty = not asked or not answered or asked.isspace() or answered.isspace()
        return None if empty else (asked, answered)

    def __call__(self, row: Mapping[str, Any]) -> Example:
        if plain := self.plain(row):
            return Example.of(*plain)
        column = _column(row) if self.prompt == "prompt" else ()
        asked, answered = _cell(row, self.prompt), _cell(row, self.completion)
        places: list[Place] = []
        if isinstance(asked, _LISTS):
            before = _turns(asked, places)
        else:
            before = _said("user", _text(asked, self.prompt))
        if isinstance(answered, _LISTS):
            after = _turns(answered, places, len(before))
        else:
            after = _said("assistant", _label(answered, self.completion, self.labels))
        start = len(before) if len(before) > 1 else None
        return _checked(before + after, start, places, column, self.folder)


def _said(role: str, text: str) -> Turns:
    return (Message(role, text),)


def _column(row: Mapping[str, Any]) -> list[Any]:
    """The pictures in a column of their own; a row with films or sound is refused."""
    if name := next((name for name in _OTHERS if row.get(name)), None):
        raise RowError(f"column {name!r} has films or sound; only text and pictures are read")
    return in_columns(row)


def _conversation(row: Mapping[str, Any], column: str, folder: Path) -> Example:
    pictures, places = _column(row), list[Place]()
    turns = _turns(_cell(row, column), places)
    system = row.get("system") if column == "conversations" else None
    if isinstance(system, str) and system.strip() and turns[0].role != "system":
        turns = (Message("system", system), *turns)
        places = [replace(place, turn=place.turn + 1) for place in places]
    return _checked(turns, None, places, pictures, folder)


def _alpaca(row: Mapping[str, Any], settings: RowSettings) -> Example:
    """Instruction, a blank line and the input, if there is one; then the output."""
    instruction = _text(_cell(row, "instruction"), "instruction")
    given = row.get("input")
    asked = f"{instruction}\n\n{given}" if isinstance(given, str) and given.strip() else instruction
    answer = _label(_cell(row, "output"), "output", settings.label_names)
    system = row.get("system")
    before = _said("system", system) if isinstance(system, str) and system.strip() else ()
    turns = (*before, Message("user", asked), Message("assistant", answer))
    return _checked(turns)


def _separated(row: Mapping[str, Any], settings: RowSettings) -> Example:
    """What is before and after the last separator."""
    text, separator = _text(_cell(row, "text"), "text"), settings.separator or ""
    prompt, found, completion = text.rpartition(separator)
    if not found:
        raise RowError(f"the text has no separator {separator!r}")
    answer = _label(completion.strip(), "text", settings.label_names)
    return _checked((Message("user", prompt.strip()), Message("assistant", answer)))


def _cell(row: Mapping[str, Any], column: str) -> Any:
    if column not in row:
        raise RowError(f"no column {column!r}; the row has {_names(row)}")
    if row[column] is None:
        raise RowError(f"nothing in column {column!r}")
    return row[column]


def _names(row: Mapping[str, Any]) -> str:
    return ", ".join(map(str, row)) or "no columns"


def _text(value: Any, column: str) -> str:
    """A text, or a whole number as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise RowError(f"column {column!r} has {type(value).__name__} {value!r:.40}, not text")


def _label(value: Any, column: str, names: Sequence[str]) -> str:
    """The text of an answer; where labels have names, a number stands for one of them."""
    if not names:
        return _text(value, column)
    text = str(int(value)) if isinstance(value, bool) else _text(value, column).strip()
    if text in names:
        return text
    if text.isdecimal() and int(text) < len(names):
        return names[int(text)]
    known = f"{', '.join(names)} or 0 to {len(names) - 1}"
    raise RowError(f"label {text!r:.40} in column {column!r} is not {known}")


def _turns(value: Any, places: list[Place], first: int = 0) -> Turns:
    """The messages, of which ``first`` come before; where they have pictures goes to ``places``."""
    if not isinstance(value, _LISTS) or not value:
        raise RowError(f"messages are {type(value).__name__}, not a list of role and content")
    return tuple(_turn(turn, places, number) for number, turn in enumerate(value, first))


def _turn(turn: Any, places: list[Place], number: int) -> Message:
    """A message as OpenAI and transformers have it, or with ``from`` and ``value`` as ShareGPT."""
    if isinstance(turn, Mapping):
        role = turn.get("role", turn.get("from"))
        content = turn.get("content", turn.get("value"))
        if role is not None and ("content" in turn or "value" in turn):
            name = str(role)
            text = _joined(content, places, number)
            return Message(_SHAREGPT.get(name, name) if "from" in turn else name, text)
    raise RowError("a message without role and content")


def _joined(content: Any, places: list[Place], turn: int) -> Any:
    """The text of a list of parts, as transformers has it for models that see as well."""
    if not isinstance(content, _LISTS):
        return content
    texts: list[str] = []
    for part in content:
        is_picture, given = in_part(part)
        if is_picture:
            places.append(Place(turn, sum(map(len, texts)), given))
            continue
        text = part.get("text") if isinstance(part, Mapping) else part
        if not isinstance(text, str):
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise RowError(f"a part of a message is {kind}, not text or an image")
        texts.append(text)
    return "".join(texts)


def _checked(
    messages: Turns,
    prompt_turns: int | None = None,
    places: Sequence[Place] = (),
    column: Sequence[Any] = (),
    folder: Path = Path(),
) -> Example:
    """The example of a row, once its turns and pictures are found good."""
    if len(messages) > MOST_TURNS:
        raise RowError(f"{len(messages):,} turns, more than {MOST_TURNS:,}")
    for role, content in messages:
        if role not in ROLES:
            raise RowError(f"unknown role {role!r}; expected {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise RowError(f"the content of a {role} turn is {type(content).__name__}, not text")
    *asked, last = messages
    if last.role != "assistant":
        has_answer = any(turn.role == "assistant" for turn in messages)
        raise RowError(f"the last turn is the {last.role}'s" if has_answer else "no assistant turn")
    if not last.content.strip():
        raise RowError("empty completion")
    if column and not places and any(MARK in turn.content for turn in asked):
        cut, places = marked(messages)
        messages = tuple(Message(*turn) for turn in cut)
        asked = list(messages[:-1])
    try:
        pictures = filled(messages, places, column, folder) if places or column else ()
    except PictureError as error:
        raise RowError(str(error)) from None
    if not pictures and not any(turn.content.strip() for turn in asked):
        raise RowError("empty prompt")
    return Example(messages, prompt_turns, pictures=pictures)
