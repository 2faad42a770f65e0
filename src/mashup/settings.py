"""Settings that need no torch: of choosing, merging and training, and a comparison's arms.

What the command line and the YAML of experiments both know is defined here once: name, default,
bounds and description.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from mashup.processes import process_count

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
    """What decides a run besides the base, the task and the init.

    An init brings its own rank, alpha and modules: ``lora_*`` are then ignored, and likewise
    where all weights are trained. ``per_device_train_batch_size`` and
    ``gradient_accumulation_steps`` are other words for ``batch_size`` and ``micro_batch_size``:
    they are turned into those and are None afterwards.
    """

    learning_rate: float = Field(5e-4, gt=0, description="peak learning rate")
    epochs: float = Field(1.0, gt=0, description="passes over the training rows")
    max_steps: int | None = Field(None, ge=1, description="optimizer steps, instead of epochs")
    batch_size: int = Field(16, ge=1, description="examples a step, over all processes")
    micro_batch_size: int | None = Field(
        None, ge=1, description="examples a forward pass; gradients are accumulated to batch_size"
    )
    per_device_train_batch_size: int | None = Field(
        None, ge=1, description="examples a device and forward pass, as in TRL"
    )
    gradient_accumulation_steps: int | None = Field(
        None, ge=1, description="forward passes a step, as in TRL"
    )
    finetuning_type: Literal["lora", "full"] = Field(
        "lora", description="lora, or full: all weights"
    )
    lora_r: int = Field(8, ge=1, description="rank of the adapter")
    lora_alpha: float = Field(16, gt=0, description="alpha of the adapter")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout before A")
    lora_target_modules: str = Field(
        "all-linear", description="all-linear, names with commas, or a regular expression"
    )
    optim: str = Field("adamw_torch", description="optimizer, as TrainingArguments names it")
    scheduler: Literal["cosine", "linear", "constant"] = Field("cosine", description="schedule")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps that warm up")
    weight_decay: float = Field(0.0, ge=0, description="of the optimizer")
    max_grad_norm: float = Field(1.0, gt=0, description="gradient clipping")
    gradient_checkpointing: bool = Field(
        False, description="less memory: compute activations again in the backward pass"
    )
    evaluations: int = Field(4, ge=1, description="points of the curve after step 0")
    eval_steps: float | None = Field(
        None, gt=0, description="steps between points, or a share below 1; instead of evaluations"
    )
    logging_steps: float | None = Field(
        None, gt=0, description="steps between training losses, or a share below 1 (a tenth)"
    )
    max_length: int = Field(1024, ge=8, description="longest example in tokens")
    save_steps: int = Field(50, ge=1, description="optimizer steps between resume points")
    seed: int = Field(42, ge=0, description="of order and initialisation")

    @field_validator("lora_target_modules", mode="before")
    @classmethod
    def _joined(cls, value: object) -> object:
        """A YAML list of names as one text with commas."""
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else value

    @field_validator("eval_steps", "logging_steps")
    @classmethod
    def _whole_or_share(cls, value: float | None) -> float | None:
        if value is not None and value >= 1 and value != int(value):
            raise ValueError(f"{value} is neither a number of steps nor a share below 1")
        return value

    @model_validator(mode="after")
    def _as_trl_counts(self) -> TrainSettings:
        """A step has size x passes x processes examples, whichever of them are given."""
        if self.per_device_train_batch_size is None and self.gradient_accumulation_steps is None:
            return self
        count, given = process_count(), "batch_size" in self.model_fields_set
        size = self._pass_size()
        passes = self.gradient_accumulation_steps
        if size is None and not given:
            raise ValueError(
                "gradient_accumulation_steps needs per_device_train_batch_size or batch_size"
            )
        size = size or max(1, self.batch_size // ((passes or 1) * count))
        passes = passes or (max(1, self.batch_size // (size * count)) if given else 1)
        whole = size * passes * count
        if given and self.batch_size != whole:
            raise ValueError(
                f"batch_size {self.batch_size} contradicts per_device_train_batch_size {size} x "
                f"gradient_accumulation_steps {passes} x {count} processes = {whole}"
            )
        micro = size if passes > 1 else None
        resolved = {"batch_size": whole, "micro_batch_size": micro} | dict.fromkeys(_TRL_BATCH)
        for name, value in resolved.items():
            object.__setattr__(self, name, value)  # frozen for everybody else
        return self

    def _pass_size(self) -> int | None:
        """Examples a device and forward pass, in either word."""
        ours, theirs = self.micro_batch_size, self.per_device_train_batch_size
        if ours and theirs and ours != theirs:
            raise ValueError(
                f"micro_batch_size {ours} contradicts per_device_train_batch_size {theirs}: "
                "give one of them"
            )
        return theirs or ours

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> TrainSettings:
        if self.batch_size % self.micro_size:
            raise ValueError(f"batch_size {self.batch_size} is no multiple of {self.micro_size}")
        return self

    @model_validator(mode="after")
    def _one_way_to_evaluate(self) -> TrainSettings:
        if self.eval_steps is not None and "evaluations" in self.model_fields_set:
            raise ValueError("evaluations and eval_steps contradict each other: give one of them")
        return self

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings that came after version 0.1.0 only where they are set.

        Digests of runs and of an experiment's jobs hold this: a new setting must not make them
        other ones.
        """
        left_out = {name for name in _LATER if getattr(self, name) == _default(name)}
        left_out |= {"evaluations"} if self.eval_steps is not None else set()
        return {name: value for name, value in dump(self).items() if name not in left_out}

    @property
    def is_full(self) -> bool:
        """Whether all weights are trained."""
        return self.finetuning_type == "full"

    @property
    def micro_size(self) -> int:
        """Examples a forward pass."""
        return min(self.micro_batch_size or self.batch_size, self.batch_size)


_TRL_BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps")
_LATER = (*_TRL_BATCH, "optim", "gradient_checkpointing", "eval_steps", "logging_steps")


def _default(name: str) -> Any:
    return TrainSettings.model_fields[name].default
