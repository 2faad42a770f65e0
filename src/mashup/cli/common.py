"""Options that several verbs share, and what they become."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from mashup.cli.options import Options
from mashup.errors import Problem, UsageError
from mashup.processes import is_first
from mashup.settings import WEIGHTS, MergeSettings, ScoreSettings

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class ModelOptions(Options):
    model: str = Field(description="base model: a folder or a Hub id")
    dtype: Dtype = Field("auto", description="precision of the base; auto is bfloat16 where native")
    device: str = Field("auto", description="auto, cpu, cuda or mps")
    attn_implementation: str = Field(
        "auto", description="eager, sdpa, flash_attention_2, ...; auto is transformers' choice"
    )
    trust_remote_code: bool = Field(False, description="run code that comes with the model")

    def load_base(self) -> Any:
        """The base in memory; says so first, since the imports alone take seconds."""
        if is_first():
            print(f"loading base {self.model} ...", file=sys.stderr)
        from mashup.model import load_base

        return load_base(
            self.model,
            dtype=self.dtype,
            device=self.device,
            attn_implementation=self.attn_implementation,
            trust_remote_code=self.trust_remote_code,
        )


class DataOptions(Options):
    dataset: str = Field(description="JSONL, JSON, CSV, Parquet, a folder, or a Hub id")
    test_dataset: str | None = Field(None, description="file with the test rows")
    task_record: str | None = Field(None, description="benchmark record (see mashup tasks)")
    train_rows: int | None = Field(None, ge=1, description="training rows to use")
    dev_rows: int | None = Field(None, ge=1, description="rows held out for dev")
    test_rows: int | None = Field(None, ge=1, description="rows held out for test")
    split_seed: int = Field(42, description="seed of the splits and of the sample")

    def load_task(self) -> Any:
        from mashup.task import load_task

        return load_task(
            self.dataset,
            test=self.test_dataset,
            record=self.task_record,
            train_rows=self.train_rows,
            dev_rows=self.dev_rows,
            test_rows=self.test_rows,
            seed=self.split_seed,
        )


class ScoreOptions(ScoreSettings, Options):
    max_length: int = Field(1024, ge=8, description="longest example in tokens")
    all_checkpoints: bool = Field(False, description="every checkpoint-N, not one a run")
    accept_base: bool = Field(False, description="take adapters that name no base or another")
    strict: bool = Field(False, description="stop at a broken checkpoint instead of skipping it")
    skip_bad: bool = Field(False, description="has no effect: broken checkpoints are skipped")


class MergeOptions(MergeSettings, Options):
    weights: tuple[str, ...] = Field(
        WEIGHTS[:1], description="uniform, loss, newton (see the docs), or one a checkpoint"
    )

    @field_validator("weights")
    @classmethod
    def _known_weights(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        """One of the words, or numbers."""
        if given not in [(word,) for word in WEIGHTS] and not all(map(is_number, given)):
            raise ValueError(f"{', '.join(WEIGHTS)}, or a number for each checkpoint")
        return given

    def merging(self) -> dict[str, Any]:
        """Keyword arguments of :func:`mashup.merge`."""
        values = {name: getattr(self, name) for name in MergeOptions.model_fields}
        word = self.weights[0] if len(self.weights) == 1 else ""
        weights = word if word in WEIGHTS else tuple(map(float, self.weights))
        return values | {"weights": weights}


def named_arms(text: str, known: Sequence[str]) -> tuple[Any, ...]:
    """Names with commas between them.

    Raises:
        UsageError: one that is not ``known``.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(Problem("unknown arm", "--arms", ", ".join(unknown), ", ".join(known)))
    return names


def is_number(text: str) -> bool:
    """Whether ``float`` reads it."""
    try:
        float(text)
    except ValueError:
        return False
    return True
