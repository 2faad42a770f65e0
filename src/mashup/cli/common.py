"""Options that several verbs share, and what they become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from mashup.cli.options import Options
from mashup.errors import Problem, UsageError

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class ModelOptions(Options):
    model: str = Field(description="base model: a folder or a Hub id")
    dtype: Dtype = Field("auto", description="precision of the base; auto is bfloat16 where native")
    device: str = Field("auto", description="auto, cpu, cuda or mps")
    trust_remote_code: bool = Field(False, description="run code that comes with the model")

    def load_base(self) -> Any:
        from mashup.model import load_base

        return load_base(
            self.model,
            dtype=self.dtype,
            device=self.device,
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


StrategyName = Literal["auto", "exhaustive", "racing", "gradient", "ledger"]


class ScoreOptions(Options):
    samples: int = Field(256, ge=2, description="training examples to score on")
    max_length: int = Field(1024, ge=8, description="longest example in tokens")
    criterion: Literal["loss", "accuracy"] = Field("loss", description="what to rank by")
    strategy: StrategyName = Field("auto", description="how to spend forward passes (see docs)")
    all_checkpoints: bool = Field(False, description="every checkpoint-N, not one a run")
    accept_base: bool = Field(False, description="take adapters that name no base or another")
    skip_bad: bool = Field(False, description="leave broken checkpoints out and go on")


MethodName = Literal[
    "linear",
    "task_arithmetic",
    "ties",
    "dare_linear",
    "dare_ties",
    "della",
    "breadcrumbs",
    "slerp",
    "model_stock",
    "greedy_soup",
    "factor_average",
]


class SelectOptions(Options):
    k: int = Field(2, ge=1, description="how many checkpoints at most")
    diversity: float = Field(0.0, ge=0, description="price of likeness to those chosen before")


_WEIGHTS = ("uniform", "loss", "newton")


class MergeOptions(Options):
    method: MethodName = Field("linear", description="merge method (see mashup methods)")
    weights: tuple[str, ...] = Field(
        ("uniform",), description="uniform, loss, newton (see the docs), or one a checkpoint"
    )
    scale: float = Field(1.0, description="factor on the merged delta")
    density: float = Field(0.5, description="share of the numbers that trimming methods keep")
    gamma: float = Field(0.01, description="share of the largest that breadcrumbs drops")
    epsilon: float = Field(0.1, description="half the width of della's probabilities")
    rank: str = Field("sum", description="of a LoRA: sum (exact), max, a number, or energy=X")
    factors: Literal["rotated", "initialised", "balanced"] = Field(
        "rotated", description="how the merged delta is factored"
    )

    @field_validator("weights")
    @classmethod
    def _known_weights(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        """One of the words, or numbers."""
        if given not in [(word,) for word in _WEIGHTS] and not all(map(is_number, given)):
            raise ValueError(f"{', '.join(_WEIGHTS)}, or a number for each checkpoint")
        return given

    def merging(self) -> dict[str, Any]:
        """Keyword arguments of :func:`mashup.merge`."""
        values = {name: getattr(self, name) for name in MergeOptions.model_fields}
        word = self.weights[0] if len(self.weights) == 1 else ""
        weights = word if word in _WEIGHTS else tuple(map(float, self.weights))
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
