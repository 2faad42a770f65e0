"""A job: one piece of work, under the digest of all that decides its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from mashup.files import digest_of

Kind = Literal["train", "score", "init"]
_CODE = 1  # raise it when the same jobs would give other results


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        kind: which work it is.
        decides: JSON-able values that its result depends on.
        needs: role to keys of the jobs whose results it reads.
        about: what tables call it and where its data is; other words, same result.
        keeps_weights: whether a later job reads the weights that it makes.
    """

    kind: Kind
    decides: Mapping[str, Any]
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    keeps_weights: bool = False

    @cached_property
    def key(self) -> str:
        """Digest (20 hex) of kind, values and the keys of what it needs."""
        needs = {role: list(keys) for role, keys in self.needs.items()}
        return digest_of(_CODE, self.kind, dict(self.decides), needs)[:20]

    @property
    def before(self) -> tuple[str, ...]:
        """Keys of all jobs that must be done first."""
        return tuple(dict.fromkeys(key for keys in self.needs.values() for key in keys))

    @property
    def name(self) -> str:
        """One line for tables."""
        words = [self.kind, *(str(value) for value in self.about.get("words", ()))]
        return " ".join(words)
