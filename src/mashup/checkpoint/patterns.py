"""Regular expressions of an adapter's settings, matched in a time that they cannot choose.

Python's ``re`` goes back and tries again: ``(.*)*proj!`` takes it longer than anybody waits. A
pattern with at most two repetitions in a row cannot do that. The others are matched by keeping all
states that the pattern may be in at once (Thompson 1968; https://swtch.com/~rsc/regexp),
which takes a time that grows with the length of the pattern times that of the name. Both ways
agree on what matches; only whether it does is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

# Python has no public door to its own parse of a pattern.
from re import _compiler as compiler  # type: ignore[attr-defined]
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

_FEW = 2  # repetitions in a row that ``re`` cannot spend more than n²/2 steps on
_MOST_REPEATS = 200  # of all patterns of an adapter together
_MOST_STATES = 2500  # of one pattern
_MOST_COPIES = 500  # states of one pattern that are copies for {m,n}: these are active together
_MANY = 1000  # repetitions of {m,n} that are distinguished

Test = Callable[[str, int], bool]


class State(NamedTuple):
    """A step of a pattern: take a character, or hold a condition, and go on.

    Attributes:
        test: of the text and a place in it; None for a fork without a condition.
        takes: whether it takes the character at that place.
        after: the states that come next.
    """

    test: Test | None
    takes: bool
    after: list[int]


def check_patterns(texts: Iterable[str], put: Callable[[str], str] = str) -> None:
    """Refuse patterns that do not compile, or would take long on some name.

    Args:
        texts: as the settings have them.
        put: puts such a text into the pattern that is matched.

    Raises:
        ValueError, re.error: the first of them.
    """
    count = 0
    for text in texts:
        count += repeats(parser.parse(text))
        if count > _MOST_REPEATS:
            raise ValueError(f"more than {_MOST_REPEATS} repetitions in patterns: {text[:80]}")
        re.compile(put(text))
        _machine(put(text))


def repeats_nothing(text: str) -> bool:
    """Whether no part of a pattern may be taken several times."""
    return not repeats(parser.parse(text))


@lru_cache(maxsize=1 << 16)
def matches(text: str, name: str) -> bool:
    """Whether the pattern ``text`` matches all of ``name``, as ``re.fullmatch`` says it."""
    machine = _machine(text)
    if isinstance(machine, re.Pattern):
        return machine.fullmatch(name) is not None
    return len(name) in _ends(machine, name, 0)


@lru_cache(maxsize=1 << 10)
def _machine(text: str) -> re.Pattern[str] | list[State]:
    """What is fast enough for ``text``: Python's own, or states; the last state is the end."""
    tree = parser.parse(text)
    if repeats(tree) <= _FEW:
        return re.compile(text)
    states: list[State] = []
    _Builder(states).sequence(tree, tree.state.flags)
    states.append(State(None, False, []))
    return states


def repeats(tree: Any) -> int:
    """How many parts may be taken several times; one within another counts for more than few."""
    count = 0
    for code, value in tree:
        if code in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            inner, many = repeats(value[2]), value[1] > 1
            count += inner + many + (_FEW if inner and many else 0)
        elif code is op.BRANCH:
            count += sum(map(repeats, value[1]))
        elif code is op.SUBPATTERN:
            count += repeats(value[3])
        elif code in (op.ASSERT, op.ASSERT_NOT):
            count += repeats(value[1])
        elif code is op.ATOMIC_GROUP:
            count += repeats(value)
        elif code is op.GROUPREF_EXISTS:
            count += sum(repeats(part) for part in value[1:] if part)
    return count


def _ends(states: list[State], name: str, start: int) -> set[int]:
    """Where in ``name`` a match that begins at ``start`` may end."""
    found, here = set(), {0}
    for place in range(start, len(name) + 1):
        taken: set[int] = set()
        todo, seen = list(here), set(here)
        while todo:
            state = states[todo.pop()]
            if state.test is not None and not (
                (not state.takes or place < len(name)) and state.test(name, place)
            ):
                continue
            if not state.after:
                found.add(place)
            elif state.takes:
                taken.update(state.after)
            else:
                new = set(state.after) - seen
                seen |= new
                todo += new
        here = taken
    return found


class _Builder:
    """Turns Python's parse of a pattern into states; each part ends where the next begins."""

    def __init__(self, states: list[State]) -> None:
        self.states = states
        self.copies = 0

    def sequence(self, tree: Any, flags: int) -> None:
        for code, value in tree:
            self.part(code, value, flags)

    def add(self, test: Test | None, *, takes: bool = False, after: list[int] | None = None) -> int:
        if len(self.states) >= _MOST_STATES:
            raise ValueError("a pattern that is too long")
        here = len(self.states)
        self.states.append(State(test, takes, [here + 1] if after is None else after))
        return here

    def part(self, code: Any, value: Any, flags: int) -> None:
        if code in (op.MAX_REPEAT, op.MIN_REPEAT):
            least, most, tree = value
            self.repeat(least, most, tree, flags)
        elif code is op.BRANCH:
            self.branch(value[1], flags)
        elif code is op.SUBPATTERN:
            _, added, removed, tree = value
            self.sequence(tree, (flags | added) & ~removed)
        elif code in (op.ASSERT, op.ASSERT_NOT):
            direction, tree = value
            self.add(_looking(direction, tree, flags, wanted=code is op.ASSERT))
        elif code in _SINGLE or code is op.AT:
            self.add(_single(code, value, flags), takes=code is not op.AT)
        else:
            raise ValueError(f"{str(code).lower()} together with several repetitions")

    def repeat(self, least: int, most: int, tree: Any, flags: int) -> None:
        """``least`` copies, then copies that may be left out, or one that may come again."""
        for _ in range(min(least, _MANY)):
            self.copy(tree, flags)
        if most > _MANY:
            fork = self.add(None)
            self.sequence(tree, flags)
            self.add(None, after=[fork])
            self.states[fork].after.append(len(self.states))
            return
        forks = []
        for _ in range(most - least):
            forks.append(self.add(None))
            self.copy(tree, flags)
        for fork in forks:
            self.states[fork].after.append(len(self.states))

    def copy(self, tree: Any, flags: int) -> None:
        before = len(self.states)
        self.sequence(tree, flags)
        self.copies += len(self.states) - before
        if self.copies > _MOST_COPIES:
            raise ValueError("a pattern with too many repetitions")

    def branch(self, choices: Any, flags: int) -> None:
        fork = self.add(None, after=[])
        ends = []
        for tree in choices:
            self.states[fork].after.append(len(self.states))
            self.sequence(tree, flags)
            ends.append(self.add(None, after=[]))
        for end in ends:
            self.states[end].after.append(len(self.states))


#: Parts that stand for one character.
_SINGLE = (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN)


def _single(code: Any, value: Any, flags: int) -> Test:
    """One character, or one condition such as the beginning: Python's own test of it."""
    state = parser.State()
    state.flags = flags
    pattern = compiler.compile(parser.SubPattern(state, [(code, value)]), flags)
    return lambda name, place: pattern.match(name, place) is not None


def _looking(direction: int, tree: Any, flags: int, *, wanted: bool) -> Test:
    """A condition on what comes after a place, or on what comes before it."""
    states: list[State] = []
    _Builder(states).sequence(tree, flags)
    states.append(State(None, False, []))
    width = tree.getwidth()[0]

    def test(name: str, place: int) -> bool:
        if direction > 0:
            return bool(_ends(states, name, place)) is wanted
        before = place >= width and place in _ends(states, name, place - width)
        return before is wanted

    return test
