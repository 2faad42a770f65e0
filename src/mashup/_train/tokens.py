"""The tokens of a run: those it trains on, and those it is measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mashup._score.store import sample_digest
from mashup.files import digest_of
from mashup.model import Base
from mashup.settings import TrainSettings
from mashup.task import Task, Tokens, tokenize


@dataclass(frozen=True)
class RunTokens:
    """Token ids of the three splits, made before anything is written."""

    train: tuple[Tokens, ...]
    dev: tuple[Tokens, ...]
    test: tuple[Tokens, ...]
    long: Mapping[str, int] = field(default_factory=dict)  # left out, by split

    @property
    def digest(self) -> str:
        """Examples, splits, tokenizer and template are all in it."""
        return digest_of(*(sample_digest(split) for split in (self.train, self.dev, self.test)))


def run_tokens(base: Base, task: Task, settings: TrainSettings) -> RunTokens:
    """Tokenize a task for a run.

    Raises:
        InputError: rows that are too long or whose prompt is no prefix.
    """
    longest = min(settings.max_length, base.context)

    def made(split: str) -> tuple[Tokens, ...]:
        where, rows = f"{task.name} ({split})", getattr(task, split)
        return tokenize(
            base.tokenizer, rows, max_length=longest, where=where, drop_long=task.drop_long
        )

    tokens = {split: made(split) for split in ("train", "dev", "test")}
    long = {split: len(getattr(task, split)) - len(tokens[split]) for split in tokens}
    return RunTokens(**tokens, long={split: count for split, count in long.items() if count})
