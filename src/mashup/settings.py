"""Settings that need no torch: of choosing, merging and training, and a comparison's arms.

What the command line and the YAML of experiments both know is defined here once: name, default,
bounds and description.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

ArmName = Literal["scratch", "mashup", "best-single", "random-two", "merged-untrained"]
ARMS: tuple[ArmName, ...] = get_args(ArmName)
Criterion = Literal["loss", "accuracy"]
StrategyName = Literal["auto", "exhaustive", "racing", "gradient", "ledger"]
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
WeightsName = Literal["uniform", "loss", "newton"]
WEIGHTS: tuple[WeightsName, ...] = get_args(WeightsName)


class Settings(BaseModel):
    """Values that do not change; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ScoreSettings(Settings):
    """How well a checkpoint fits a task."""

    samples: int = Field(256, ge=2, description="training examples to score on")
    criterion: Criterion = Field("loss", description="what to rank by")
    strategy: StrategyName = Field("auto", description="how to spend forward passes (see docs)")


class SelectSettings(Settings):
    """Which of the checkpoints are taken."""

    k: int = Field(2, ge=1, description="how many checkpoints at most")
    diversity: float = Field(0.0, ge=0, description="price of likeness to those chosen before")


class MergeSettings(Settings):
    """How checkpoints are merged; what weights there may be differs from place to place."""

    method: MethodName = Field("linear", description="merge method (see mashup methods)")
    scale: float | Literal["search"] = Field(
        1.0, description="factor on the merged delta; search: the best of six on the sample"
    )
    density: float = Field(0.5, description="share of the numbers that trimming methods keep")
    gamma: float = Field(0.01, description="share of the largest that breadcrumbs drops")
    epsilon: float = Field(0.1, description="half the width of della's probabilities")
    rank: str = Field("sum", description="of a LoRA: sum (exact), max, a number, or energy=X")
    factors: Literal["rotated", "initialised", "balanced"] = Field(
        "rotated", description="how the merged delta is factored"
    )


class TrainSettings(Settings):
    """What decides a run beside the base, the task and the init.

    An init brings its own rank, alpha and modules; ``lora_*`` then say nothing, and likewise
    where all weights are trained.
    """

    learning_rate: float = Field(5e-4, gt=0, description="peak learning rate")
    epochs: float = Field(1.0, gt=0, description="passes over the training rows")
    max_steps: int | None = Field(None, ge=1, description="optimizer steps, instead of epochs")
    batch_size: int = Field(16, ge=1, description="examples a step")
    micro_batch_size: int | None = Field(
        None, ge=1, description="examples a forward pass; gradients are accumulated to batch_size"
    )
    finetuning_type: Literal["lora", "full"] = Field(
        "lora", description="lora, or full: all weights"
    )
    lora_r: int = Field(8, ge=1, description="rank of the adapter")
    lora_alpha: float = Field(16, gt=0, description="alpha of the adapter")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout before A")
    lora_target_modules: str = Field("all-linear", description="all-linear, or names with commas")
    scheduler: Literal["cosine", "linear", "constant"] = Field("cosine", description="schedule")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps that warm up")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    max_grad_norm: float = Field(1.0, gt=0, description="gradient clipping")
    evaluations: int = Field(4, ge=1, description="points of the curve after step 0")
    max_length: int = Field(1024, ge=8, description="longest example in tokens")
    save_steps: int = Field(50, ge=1, description="optimizer steps between resume points")
    seed: int = Field(42, ge=0, description="of order and initialisation")

    @field_validator("lora_target_modules", mode="before")
    @classmethod
    def _joined(cls, value: object) -> object:
        """A YAML list of names as one text with commas."""
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> TrainSettings:
        if self.batch_size % self.micro_size:
            raise ValueError(f"batch_size {self.batch_size} is no multiple of {self.micro_size}")
        return self

    @property
    def is_full(self) -> bool:
        """Whether all weights are trained."""
        return self.finetuning_type == "full"

    @property
    def micro_size(self) -> int:
        """Examples a forward pass."""
        return min(self.micro_batch_size or self.batch_size, self.batch_size)
