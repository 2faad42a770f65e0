"""The tokens of a run: those it trains on, and those it is measured on."""

from __future__ import annotations

from dataclasses import dataclass

from mashup.files import digest_of
from mashup.model import Base
from mashup.score.store import sample_digest
from mashup.settings import TrainSettings
from mashup.task import Task, Tokens, tokenize


@dataclass(frozen=True)
class RunTokens:
    """Token ids of the three splits, made before anything is written."""

    train: tuple[Tokens, ...]
    dev: tuple[Tokens, ...]
    test: tuple[Tokens, ...]

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
        where = f"{task.name} ({split})"
        return tokenize(base.tokenizer, getattr(task, split), max_length=longest, where=where)

    return RunTokens(made("train"), made("dev"), made("test"))
