"""Examples of one source, packed: a million rows take some 150 MB, and few are ever made.

A row is kept as JSON text, with the key of its prompt. Splits and samples are orders of row
numbers, so that only the rows that are drawn become :class:`Example` objects.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from mashup.task.example import Example, Message, conversation_key
from mashup.task.pictures import Picture

_KEY = 32  # bytes
_SHORT = 16  # hexadecimal digits of a key that is kept in a file
Rows = NDArray[np.int64]


def _no_place(number: int) -> str:
    del number
    return ""


@dataclass
class Store:
    """Rows in the order of their source; it only grows.

    Attributes:
        place: what messages call a row, from its number in the source.
    """

    place: Callable[[int], str] = _no_place
    _text: bytearray = field(default_factory=bytearray)
    _ends: array[int] = field(default_factory=lambda: array("q", [0]))
    _keys: bytearray = field(default_factory=bytearray)
    _numbers: array[int] = field(default_factory=lambda: array("q"))
    _seen: dict[int, frozenset[bytes]] = field(default_factory=dict)  # of more than one prompt
    _wheres: dict[int, str] = field(default_factory=dict)
    _pictures: dict[int, tuple[Picture, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, example: Example, number: int = 0) -> None:
        """Keep an example; ``number`` is its line or row in the source.

        Raises:
            UnicodeEncodeError: half a surrogate pair in a text.
        """
        turns, first = example.messages, 1
        keyed = example.keyed
        if len(turns) > 2:
            first, seen = example.first_answer, example.seen
            if len(seen) > 1:
                self._seen[len(self)] = seen
        turns[-1].content.encode()
        self._keys += conversation_key(keyed[:first])
        said = ",".join([f"[{quoted(role)},{quoted(text)}]" for role, text in turns])
        shown = ""
        if example.pictures:
            self._pictures[len(self)] = example.pictures
            shown = f",{json.dumps([(p.turn, p.at, p.digest) for p in example.pictures])}"
        self._text += f"[[{said}],{first}{shown}]".encode("ascii")
        self._ends.append(len(self._text))
        if example.where:
            self._wheres[len(self)] = example.where
        self._numbers.append(number)

    def add_pair(self, prompt: str, completion: str, number: int) -> None:
        """Keep ``Example.of(prompt, completion)`` without making it, as most rows need.

        Raises:
            UnicodeEncodeError: half a surrogate pair in a text.
        """
        if not completion.isascii():
            completion.encode()
        asked = f"user\x1f{' '.join(prompt.split())}"  # as conversation_key has it
        self._keys += hashlib.sha256(asked.encode()).digest()
        said = f'[[["user",{quoted(prompt)}],["assistant",{quoted(completion)}]],1]'
        self._text += said.encode("ascii")
        self._ends.append(len(self._text))
        self._numbers.append(number)

    @property
    def is_simple(self) -> bool:
        """Whether every row answers one prompt only."""
        return not self._seen

    def text(self, row: int) -> bytes:
        """``[[[role, text], ...], first answer]`` as compact JSON.

        A row with pictures has ``[[turn, place, digest], ...]`` in addition.
        """
        return bytes(self._text[self._ends[row] : self._ends[row + 1]])

    def key(self, row: int) -> bytes:
        """Key of the prompt before the first answer."""
        return bytes(self._keys[_KEY * row : _KEY * (row + 1)])

    def example(self, row: int) -> Example:
        said, first, *_ = json.loads(self.text(row))
        turns = tuple(Message(role, text) for role, text in said)
        where = self._wheres.get(row) or self.place(self._numbers[row])
        pictures = self._pictures.get(row, ())
        made = Example(turns, None, where, pictures)
        return made if made.first_answer == first else replace(made, prompt_turns=first)

    def seen(self, row: int) -> frozenset[bytes]:
        return self._seen.get(row) or frozenset((self.key(row),))

    def prompts(self, row: int) -> frozenset[bytes]:
        return self.example(row).prompts if row in self._seen else frozenset((self.key(row),))

    def ranks(self, rows: Rows, seed: int) -> NDArray[np.uint64]:
        """The first eight bytes of each row's rank."""
        keys, digest, found = self._keys, hashlib.sha256, bytearray()
        for row in memoryview(rows):  # type: ignore[arg-type]
            # The same as _rank and key: calling them would double the time.
            key = keys[_KEY * row : _KEY * row + _KEY].hex()
            found += digest(f"{seed}:{key}".encode()).digest()[:8]
        return np.frombuffer(found, ">u8").astype(np.uint64)


def _rank(seed: int, key: bytes) -> bytes:
    return hashlib.sha256(f"{seed}:{key.hex()}".encode()).digest()


@dataclass(frozen=True, eq=False, repr=False)
class Examples(Sequence[Example]):
    """Some rows of a store, in an order of their own."""

    store: Store
    rows: Rows

    @classmethod
    def of(cls, examples: Iterable[Example]) -> Examples:
        """All of ``examples``; they themselves when they are packed already."""
        if isinstance(examples, Examples):
            return examples
        store = Store()
        for example in examples:
            store.add(example)
        return cls.all_of(store)

    @classmethod
    def all_of(cls, store: Store) -> Examples:
        return cls(store, np.arange(len(store)))

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> Examples: ...
    def __getitem__(self, place: int | slice) -> Example | Examples:
        if isinstance(place, slice):
            return Examples(self.store, self.rows[place])
        return self.store.example(int(self.rows[place]))

    def __iter__(self) -> Iterator[Example]:
        return (self.store.example(row) for row in self.rows.tolist())

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Examples({len(self)})"

    def texts(self) -> Iterator[bytes]:
        """Rows as the digest of a task has them."""
        return (self.store.text(int(row)) for row in self.rows)

    @property
    def keys(self) -> list[bytes]:
        """Of each row the key of its prompt."""
        return [self.store.key(row) for row in self.rows.tolist()]

    @property
    def prompts(self) -> set[bytes]:
        """Keys of all that the rows ask: of everything before each learnt answer."""
        return {key for row in self.rows.tolist() for key in self.store.prompts(row)}

    @property
    def seen(self) -> set[bytes]:
        """Keys of all prompts whose answers the rows teach."""
        return {key for row in self.rows.tolist() for key in self.store.seen(row)}

    def without(self, held: set[bytes]) -> Examples:
        """Those that answer none of the ``held`` prompts."""
        if not held:
            return self
        kept = [row for row in self.rows.tolist() if held.isdisjoint(self.store.seen(row))]
        return Examples(self.store, np.array(kept, np.int64))

    def shuffled(self, seed: int) -> Examples:
        """In the order of their ranks, hashes of the seed and the prompt, then of their turns.

        Equal prompts have equal ranks, so they stay together.
        """
        ranks = self.store.ranks(self.rows, seed)
        order = np.argsort(ranks, kind="stable")
        rows, ranks = self.rows[order], ranks[order]
        same = np.flatnonzero(ranks[1:] == ranks[:-1])
        for start, end in _runs(same):
            some = rows[start:end].tolist()
            some.sort(key=lambda row: (_rank(seed, self.store.key(row)), self._turns(row)))
            rows[start:end] = some
        return Examples(self.store, rows)

    def _turns(self, row: int) -> Any:
        return json.loads(self.store.text(row))[0]


def taught_prompts(examples: Iterable[Example]) -> frozenset[str]:
    """Short keys of all prompts whose answers a run on ``examples`` learns, in any form."""
    return frozenset(key.hex()[:_SHORT] for key in Examples.of(examples).seen)


def asked_prompts(examples: Iterable[Example]) -> frozenset[str]:
    """Short keys of all prompts that ``examples`` are measured on."""
    return frozenset(key.hex()[:_SHORT] for key in Examples.of(examples).prompts)


def _runs(same: Rows) -> list[tuple[int, int]]:
    """Start and end of each run of equal ranks, from the places that are as the next one is."""
    if not len(same):
        return []
    firsts = np.flatnonzero(np.diff(same, prepend=-2) != 1)
    lasts = np.append(firsts[1:], len(same)) - 1
    return [(int(same[a]), int(same[b]) + 2) for a, b in zip(firsts, lasts, strict=True)]
