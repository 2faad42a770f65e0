"""Samples of random tokens that begin alike, for models of 320 tokens."""

from __future__ import annotations

import torch

from mashup.task import Tokens


def alike(examples: int = 12, prefix: int = 20, seed: int = 0) -> tuple[Tokens, ...]:
    """Examples of ``prefix`` equal tokens, 4 to 30 of their own, and 1 to 3 of answer."""
    generator = torch.Generator().manual_seed(seed)

    def some(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(1, 320, (count,), generator=generator).tolist())

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    start = some(prefix)
    made = []
    for row in range(examples):
        own, answer = (
            (row % 319 + 1, *some(number(3, 30))),
            some(number(1, 4)),
        )  # first of own differs
        marked = (False,) * (prefix + len(own)) + (True,) * len(answer)
        made.append(Tokens((*start, *own, *answer), marked))
    return tuple(made)
