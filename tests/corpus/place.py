"""Where a case is written and what it is merged with, and how long it may take."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corpus import seeds
from corpus.cases import Case
from corpus.seeds import SEEDS, TOKENIZER

_HANGS = 20  # seconds of this process's time after which a case is stopped
_WAITS = 120  # seconds of the clock after which it is, too: on a busy machine the first come late


@dataclass(frozen=True)
class Place:
    """Folders of a run of the corpus: the good parents, a base, and where cases go."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> Place:
        for name, seed in SEEDS.items():
            seeds.write(seed(1), root / "good" / name)
        seeds.write(seeds.single(2), root / "base")
        return cls(root)

    @property
    def library(self) -> Path:
        return self.root / "library"

    @property
    def case(self) -> Path:
        return self.library / "case"

    @property
    def output(self) -> Path:
        return self.root / "output"

    def good(self, case: Case) -> Path:
        return self.root / "good" / case.seed

    def base(self, case: Case) -> Path | None:
        return self.root / "base" if case.file == TOKENIZER else None

    @property
    def left_behind(self) -> bool:
        return any(self.output.parent.glob("output*"))


class HangError(BaseException):
    """No Exception, so that nobody takes it for an error of a file."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Stop what waits for ever, as for a pipe."""

    begun, clock = time.process_time(), time.monotonic()

    def stop(*_: object) -> None:
        if time.process_time() - begun > _HANGS or time.monotonic() - clock > _WAITS:
            raise HangError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, _HANGS, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
