"""Settings that need no torch: of choosing, merging and training, and a comparison's arms.

What the command line and the YAML of experiments both know is defined here once: name, default,
bounds and description.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, cast, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from mashup.errors import Problem, UsageError
from mashup.processes import process_count

ArmName = Literal[
    "scratch",
    "mashup",
    "race",
    "scratch-longer",
    "best-single",
    "least-loss",
    "random",
    "random-two",
    "blind",
    "average-all",
    "random-init",
    "merged-untrained",
    "format-only",
    "each-single",
]
ARMS: tuple[ArmName, ...] = get_args(ArmName)
#: What a comparison runs where nothing else is asked for.
USUAL_ARMS: tuple[ArmName, ...] = (
    *("scratch", "mashup", "best-single", "random-two", "merged-untrained"),
)
CriterionName = Literal["auto", "knowledge", "loss", "accuracy"]
StrategyName = Literal["auto", "exhaustive", "racing", "ledger"]
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
FactorStyle = Literal["rotated", "initialised", "balanced"]
FACTOR_STYLES: tuple[FactorStyle, ...] = get_args(FactorStyle)
WeightsName = Literal["uniform", "loss"]
WEIGHTS: tuple[WeightsName, ...] = get_args(WeightsName)


_RANK = "sum, max, a whole number of at least 1, or energy=X with 0 < X <= 1"
#: A name in a list of names: no comma or space in it, so that ``a,b`` and ``a b`` are two.
Name = Annotated[str, Field(pattern=r"^[^,\s]+$", json_schema_extra={"expected": "a name"})]


Part = TypeVar("Part", bound="Settings")  # a kind of settings that another one includes


class Settings(BaseModel):
    """Values that do not change; unknown names are errors.

    Values may be written as a person writes them in YAML or on a command line: a number where a
    text is expected (``rank: 8``); for a list also one value (``seeds: 1``) or one text with
    commas or spaces (``seeds: 1, 2``).

    Attributes:
        panel: title of these settings in ``--help``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)
    panel: ClassVar[str] = "Options"

    @field_validator("*", mode="before")
    @classmethod
    def _listed(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[info.field_name or ""].annotation
        item = item_of(annotation)
        return value if item is None else _as_list(value, item, words_of(annotation))

    def values_of(self, kind: type[Settings]) -> dict[str, Any]:
        """The fields that ``kind`` has as well, by name."""
        return {name: getattr(self, name) for name in kind.model_fields}

    def cut_to(self, kind: type[Part]) -> Part:
        """The fields that ``kind`` has as well, as a ``kind``; what was given stays known."""
        values = self.values_of(kind)
        given = self.model_fields_set & values.keys()
        return cast(Part, kind.model_construct(given, **values))


def item_of(annotation: Any) -> Any:
    """``X`` of ``tuple[X, ...]``, also as one part of a union; None for anything else."""
    if get_origin(annotation) is tuple:
        return get_args(annotation)[0]
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    return next((item for part in parts if (item := item_of(part)) is not None), None)


def words_of(annotation: Any) -> tuple[str, ...]:
    """The words of a ``Literal``, also as one part of a union or as an item of a list."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(word for part in get_args(annotation) for word in words_of(part))


def is_item(value: Any, item: Any) -> bool:
    """Whether a list of ``item`` may hold the value."""
    try:
        _adapter(item).validate_python(value)
    except ValidationError:
        return False
    return True


@lru_cache
def _adapter(item: Any) -> TypeAdapter[Any]:
    return TypeAdapter(item)


def _as_list(value: Any, item: Any, words: tuple[str, ...]) -> Any:
    """A list for one value or one text; a word that stands for a whole list stays as it is."""
    values = value if isinstance(value, list | tuple) else (value,)
    if len(values) == 1 and values[0] in words and not is_item(values[0], item):
        return values[0]
    if isinstance(value, str | int | float | list | tuple):
        return tuple(part for one in values for part in parts_of(one, item))
    return value


def parts_of(value: Any, item: Any) -> tuple[Any, ...]:
    """A text cut at commas and spaces, if every part is an item; free text is never cut."""
    if isinstance(value, str) and item is not str:
        parts = tuple(filter(None, re.split(r"[,\s]+", value)))
        if all(is_item(part, item) for part in parts):
            return parts
    return (value,)


class RowSettings(Settings):
    """How the rows of a dataset are read."""

    panel: ClassVar[str] = "Data"
    prompt_column: str | None = Field(None, description="column of the prompt")
    completion_column: str | None = Field(None, description="column of the answer or label")
    separator: str | None = Field(
        None, min_length=1, description="what stands between prompt and answer in column text"
    )
    label_names: tuple[str, ...] = Field((), description="names of the labels 0, 1, 2, ...")
    drop_bad: bool = Field(False, description="leave out rows that cannot be read, and count them")
    drop_long: bool = Field(False, description="leave out rows that are too long, and count them")

    @property
    def reading(self) -> dict[str, Any]:
        """These settings alone, as keyword arguments of :func:`mashup.load_task`."""
        return self.values_of(RowSettings)


class ScoreSettings(Settings):
    """How well a checkpoint fits a task."""

    panel: ClassVar[str] = "Choosing checkpoints"
    samples: int = Field(256, ge=2, description="training examples to score on")
    criterion: CriterionName = Field(
        "auto",
        description="what to rank checkpoints by; auto: knowledge where the answers are a finite "
        "set, else loss",
    )
    strategy: StrategyName = Field(
        "auto",
        description="which checkpoints are scored on how many examples; exhaustive: all on all",
    )

    @field_validator("strategy", mode="before")
    @classmethod
    def _not_removed(cls, value: Any) -> Any:
        if value == "gradient":
            raise ValueError(
                f"{', '.join(get_args(StrategyName))}; gradient was removed, since a race costs "
                "as much and ranks better"
            )
        return value


class SelectSettings(Settings):
    """Which of the checkpoints are taken."""

    panel: ClassVar[str] = "Choosing checkpoints"
    k: int = Field(2, ge=1, description="most checkpoints to merge")
    diversity: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="penalty on checkpoints that are similar to ones chosen already; 0: none",
    )


@dataclass(frozen=True)
class Rank:
    """A rank as users ask for it.

    Attributes:
        text: as given.
        number: when it is a number.
        share: when it is ``energy=X``.
    """

    text: str
    number: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, rank: str | int) -> Rank:
        """Read ``sum``, ``max``, a number or ``energy=X``.

        Raises:
            UsageError: none of these.
        """
        text = str(rank)
        if text in ("sum", "max"):
            return cls(text)
        if re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
            return cls(text, number=int(text))
        if (found := re.fullmatch(r"energy=(.+)", text)) and 0 < _number(found[1]) <= 1:
            return cls(text, share=_number(found[1]))
        raise UsageError(Problem("bad rank", "`rank`", text, _RANK))

    def of(self, ranks: Sequence[Sequence[int]]) -> int | None:
        """The rank, from the parents' ranks in every module; None when spectra decide.

        ``sum`` keeps everything: the largest sum over the modules. ``max`` is the largest rank
        of any parent.
        """
        if self.share is not None:
            return None
        if self.number is not None:
            return self.number
        combine = sum if self.text == "sum" else max
        return max(combine(module) for module in ranks)


def _number(text: str) -> float:
    """0 for what is none."""
    try:
        return float(text)
    except ValueError:
        return 0.0


class MethodSettings(Settings):
    """How deltas are combined; the same in every command that merges.

    Attributes:
        weights: one number per parent, used as given, or a word. ``uniform``: 1/k each, or 1
            each for methods that sum. ``loss``: softmax of minus the parents' losses.
    """

    panel: ClassVar[str] = "Merging"
    method: MethodName = Field("linear", description="merge method; see mashup methods")
    weights: WeightsName | tuple[float, ...] = Field(
        WEIGHTS[0], description="uniform, loss, or a number for each checkpoint"
    )
    scale: float | Literal["search"] = Field(
        1.0,
        description="factor on the merged delta, or search: the best of six on the sample",
    )
    density: float = Field(
        0.5, gt=0, le=1, description="share of the numbers to keep, for methods that drop some"
    )
    gamma: float = Field(
        0.01, ge=0, lt=1, description="share of the largest numbers that breadcrumbs drops"
    )
    epsilon: float = Field(
        0.1, ge=0, lt=1, description="della: how far its keep probabilities differ from the density"
    )
    rank: str = Field(
        "sum", description="rank of a merged LoRA: sum (exact), max, a number, or energy=X"
    )
    factors: FactorStyle = Field(
        "rotated", description="how the merged delta is split into A and B"
    )

    @field_validator("weights", mode="before")
    @classmethod
    def _as_numbers(cls, value: Any) -> Any:
        """Numbers of an array or another sequence that is no list."""
        plain = isinstance(value, str | bytes | list | tuple) or not isinstance(value, Iterable)
        return value if plain else tuple(map(float, value))

    @field_validator("scale")
    @classmethod
    def _is_factor(cls, value: float | Literal["search"]) -> float | Literal["search"]:
        if value != "search" and (value == 0 or not math.isfinite(value)):
            raise ValueError("a finite number other than 0, or search")
        return value

    @field_validator("rank")
    @classmethod
    def _is_rank(cls, value: str) -> str:
        try:
            Rank.parse(value)
        except UsageError:
            raise ValueError(_RANK) from None
        return value


_RULE = re.compile(
    r"(?P<match>.*):(?P<name>weight|scale|density|gamma|epsilon)(\[(?P<parent>\d+)\])?=(?P<values>.+)"
)
_RULES = "PART:SETTING=VALUE, as in mlp:density=0.3 or self_attn:weight[1]=0.2..0.8"
Finite = Annotated[float, Field(allow_inf_nan=False)]


class ModuleRule(Settings):
    """Other numbers for some tensors of a merge, from the first layer to the last.

    As text: ``PART:SETTING=VALUE``, ``PART:SETTING[PARENT]=VALUE``; values of a gradient are
    joined by ``..``, as in ``mlp:weight[1]=0..0.5..1``.

    Each number is one value, or several: a gradient over the layers. With n values, layer i of
    L has the value at ``(n - 1) i / (L - 1)``, interpolated linearly; tensors outside of the
    layers have the first value, and the only layer of a model has the last one.

    Attributes:
        match: a part of the names of tensors; ``*`` for all.
        parent: which checkpoint it is for, from 1 in the order that they are given; None for all.
        weight: instead of that parent's weight.
        scale: λ; of no parent in particular.
        density, gamma, epsilon: instead of the settings of the same name.
    """

    model_config = ConfigDict(json_schema_extra={"expected": _RULES})
    match: str = Field("*", min_length=1)
    parent: int | None = Field(None, ge=1)
    weight: tuple[Finite, ...] | None = Field(None, min_length=1)
    scale: tuple[Finite, ...] | None = Field(None, min_length=1)
    density: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = Field(None, min_length=1)
    gamma: tuple[Annotated[float, Field(ge=0, lt=1)], ...] | None = Field(None, min_length=1)
    epsilon: tuple[Annotated[float, Field(ge=0, lt=1)], ...] | None = Field(None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = _RULE.fullmatch(value)
        if not found:
            raise ValueError(_RULES)
        numbers = tuple(found["values"].split(".."))
        parent = {"parent": found["parent"]} if found["parent"] else {}
        return {"match": found["match"] or "*", found["name"]: numbers, **parent}

    @model_validator(mode="after")
    def _is_one(self) -> ModuleRule:
        if all(getattr(self, name) is None for name in RULED):
            raise ValueError(f"at least one of {', '.join(RULED)}")
        if self.scale is not None and self.parent is not None:
            raise ValueError("scale without a parent: it is a factor on the merge")
        return self

    def texts(self) -> list[str]:
        """The same rule as texts, one for each number."""
        whose = f"[{self.parent}]" if self.parent else ""
        return [
            f"{self.match}:{name}{whose}={'..'.join(map(repr, values))}"
            for name in RULED
            if (values := getattr(self, name)) is not None
        ]

    def fits(self, tensor: str, place: int | None) -> bool:
        """Whether it is for this tensor and parent, counted from 0; None: for no one parent."""
        is_own = self.parent is None or (place is not None and self.parent - 1 == place)
        return is_own and (self.match == "*" or self.match in tensor)


#: The numbers that a rule may give.
RULED = ("weight", "scale", "density", "gamma", "epsilon")


class MergeSettings(MethodSettings):
    """What decides a merge besides the parents and the base; see :func:`mashup.merge`.

    Attributes:
        normalize: the weights of each tensor are divided by their sum.
        per_module: other numbers for some tensors. Of each number, the first rule that matches
            a tensor decides.
        dtype: of the written weights. ``auto`` keeps a model's own, and is float32 for a LoRA.
        tokenizer: folder of the base or of a parent.
        head: what becomes of the heads of classifiers (``AutoModelForSequenceClassification``):
            their weighted mean, nothing, or that of the parent with this name or number.
    """

    normalize: bool = Field(False, description="divide the weights of each tensor by their sum")
    per_module: tuple[ModuleRule, ...] = Field(
        (), description=f"other numbers for some tensors: {_RULES}"
    )
    seed: int = Field(42, description="seed of random methods and of the rotation of factors")
    output_kind: Literal["auto", "lora", "full"] = Field(
        "auto", description="what to write; auto writes a LoRA unless a parent is a full checkpoint"
    )
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the written weights; auto: a model's own, float32 for a LoRA"
    )
    shard_size: float = Field(5.0, gt=0, description="largest file of a model, in GB (10^9 bytes)")
    accept_base: bool = Field(False, description="accept base names that differ or are blank")
    allow_partial: bool = Field(
        False, description="merge the parts that fit of checkpoints that fit only in part"
    )
    untie: bool = Field(
        False, description="write a separate output head if a parent has trained one"
    )
    tokenizer: str | None = Field(None, description="folder whose vocabulary the result gets")
    head: str = Field(
        "merge",
        description="of classifiers: merge (if the labels agree), drop, or from=NAME of one parent",
    )

    @field_validator("tokenizer", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value


class TrainSettings(Settings):
    """What decides a run besides the base, the task and the init.

    An init brings its own rank, alpha and modules: ``lora_*`` are then ignored, and likewise
    where all weights are trained. ``per_device_train_batch_size`` and
    ``gradient_accumulation_steps`` are other words for ``batch_size`` and ``micro_batch_size``:
    they are turned into those and are None afterwards.
    """

    panel: ClassVar[str] = "Training"
    learning_rate: float = Field(5e-4, gt=0, description="peak learning rate")
    epochs: float | None = Field(
        None,
        gt=0,
        description="passes over the training rows; by default one, or as many as 100 steps need",
    )
    max_steps: int | None = Field(None, ge=1, description="optimizer steps, instead of epochs")
    batch_size: int = Field(16, ge=1, description="examples per optimizer step, over all processes")
    micro_batch_size: int | None = Field(
        None,
        ge=1,
        description="examples per forward pass; gradients are accumulated up to the batch size",
    )
    per_device_train_batch_size: int | None = Field(
        None, ge=1, description="examples a device and forward pass, as in TRL"
    )
    gradient_accumulation_steps: int | None = Field(
        None, ge=1, description="forward passes a step, as in TRL"
    )
    finetuning_type: Literal["lora", "full"] = Field(
        "lora", description="train a LoRA, or all weights"
    )
    lora_r: int = Field(8, ge=1, description="rank of the LoRA")
    lora_alpha: float = Field(16, gt=0, description="alpha of the LoRA")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the LoRA's input")
    lora_target_modules: str = Field(
        "all-linear",
        description="all-linear, names of modules, or one regular expression",
        json_schema_extra={"several": True},
    )
    optim: str = Field("adamw_torch", description="optimizer, as TrainingArguments names it")
    scheduler: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="learning rate schedule"
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps for warm-up")
    weight_decay: float = Field(0.0, ge=0, description="weight decay of the optimizer")
    max_grad_norm: float = Field(1.0, gt=0, description="gradient norm to clip at")
    gradient_checkpointing: bool = Field(
        False, description="less memory: compute activations again in the backward pass"
    )
    evaluations: int = Field(4, ge=1, description="evaluations during training, after step 0")
    eval_steps: float | None = Field(
        None,
        gt=0,
        description="steps between evaluations, or a share below 1; instead of evaluations",
    )
    test_points: Literal["all", "end", "none"] = Field(
        "all", description="points at which the test rows are read; dev rows are at all"
    )
    keep: Literal["last", "best"] = Field(
        "last", description="weights to keep: of the last point, or of the one with least dev loss"
    )
    logging_steps: float | None = Field(
        None, gt=0, description="steps between training losses, or a share below 1 (a tenth)"
    )
    max_length: int = Field(1024, ge=8, description="longest example, in tokens")
    save_steps: int = Field(50, ge=1, description="optimizer steps between resume points")
    seed: int = Field(42, ge=0, description="seed of initialisation and data order")

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
    def _steps_decide(self) -> TrainSettings:
        """Beside a number of steps, epochs have the value that they had before a default was none.

        Digests of runs hold it.
        """
        if self.max_steps is not None and self.epochs is None:
            object.__setattr__(self, "epochs", 1.0)
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
        kept = {name: value for name, value in dump(self).items() if name not in left_out}
        if self.max_steps is not None and self.epochs is None:
            kept["epochs"] = 1.0  # a copy with other values is not validated
        return kept

    @property
    def is_full(self) -> bool:
        """Whether all weights are trained."""
        return self.finetuning_type == "full"

    @property
    def micro_size(self) -> int:
        """Examples a forward pass."""
        return min(self.micro_batch_size or self.batch_size, self.batch_size)


class RaceSettings(Settings):
    """Which lanes a race has and how many steps they may take."""

    panel: ClassVar[str] = "Race"
    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (),
        description="peak rates for every start; by default a third, one and three times the rate "
        "of the library's checkpoints",
    )
    budget: int | None = Field(None, ge=1, description="most optimizer steps of all lanes together")
    scales: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.5,), description="more factors on the merge; each is one more start"
    )

    @field_validator("learning_rates", "scales")
    @classmethod
    def _once(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(dict.fromkeys(values))


#: Optimizer steps that a run has at least, where neither epochs nor steps are given. One pass over
#: 64 rows would be 4 steps, of which the first is warm-up: nothing is learnt in them.
LEAST_STEPS = 100
_TRL_BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps")
_LATER = (
    *(*_TRL_BATCH, "optim", "gradient_checkpointing"),
    *("eval_steps", "test_points", "keep", "logging_steps"),
)


def _default(name: str) -> Any:
    return TrainSettings.model_fields[name].default
