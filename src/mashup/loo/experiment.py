"""An experiment as one value: what a YAML file says, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Field,
    field_serializer,
    field_validator,
    model_validator,
)

from mashup._compare.arms import unread
from mashup.loo.parts import Choosing, Executor, Merging, TaskData, Variant
from mashup.results.records import pool_of
from mashup.settings import Rank, Settings, TrainSettings

LooArm = Literal[
    "scratch",
    "mashup",
    "scratch-longer",
    "best-single",
    "random",
    "average-all",
    "random-init",
    "merged-untrained",
    "format-only",
    "each-single",
]
ARMS: tuple[LooArm, ...] = get_args(LooArm)
#: Settings of training that have a place of their own in an experiment.
_OWN = ("learning_rate", "seed")


_LONGEST = 150  # bytes of a task's name in the name of a folder, which may have 255


def folder_of(task: str) -> str:
    """What the folder of a run on a task is called: its name, ``glue/sst2`` as ``glue%2Fsst2``."""
    return task.replace("%", "%25").replace("/", "%2F")


def task_in(folder: str) -> str:
    """The task whose run is in a folder of this name."""
    return folder.replace("%2F", "/").replace("%25", "%")


def _is_name(task: str) -> bool:
    """Whether a task's name can name a folder, and could do so as a path of parts as well."""
    parts = task.split("/")
    safe = task.isprintable() and not {"", ".", ".."}.intersection(parts)
    return safe and len(folder_of(task).encode()) <= _LONGEST


class Experiment(Settings):
    """Leave-one-out over tasks × learning rates × seeds × arms.

    Each target starts from checkpoints that were trained on the other tasks, or from those of
    ``library``.
    """

    name: str = Field(
        pattern=r"^[\w.-]{1,100}$", description="of the experiment, in records and pages"
    )
    note: str = Field("", description="what a reader of its report must know")
    base: str = Field(description="base model: a folder or a Hub id")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    attn_implementation: str = Field("auto", description="of the base, as transformers names it")
    tasks: dict[str, TaskData] = Field(min_length=1)
    targets: tuple[str, ...] = Field((), description="tasks that are left out once; all of them")
    library: str | None = Field(None, description="folder of checkpoints, instead of our own runs")
    train_rows: int | None = Field(None, ge=1)
    dev_rows: int | None = Field(None, ge=1)
    test_rows: int | None = Field(None, ge=1)
    split_seed: int = 42
    train: TrainSettings = Field(default_factory=TrainSettings)
    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    donor_learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (), description="of the donors, the best by dev loss; learning_rates"
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((42,), min_length=1)
    control_seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), description="of the controls; the first of seeds"
    )
    match_rank: bool = Field(
        True, description="scratch and controls train the rank of the merge of k donors"
    )
    donor_seed: int = Field(42, ge=0, description="of the runs that the others start from")
    arms: tuple[LooArm, ...] = ("scratch", "mashup")
    draws: int = Field(3, ge=1, description="of the random arm")
    budgets: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0,), description="shares of the steps that scratch and mashup are run with"
    )
    choose: Choosing = Field(default_factory=Choosing)
    merge: Merging = Field(default_factory=Merging)
    variants: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9.-]*$")], Variant] = Field(
        default_factory=dict,
        description="mashup with other settings of choose and merge, each an arm of that name",
    )
    executor: Executor = Field(default_factory=Executor)

    @field_validator("tasks")
    @classmethod
    def _names_of_folders(cls, value: dict[str, TaskData]) -> dict[str, TaskData]:
        bad = [name for name in value if not _is_name(name)]
        if bad:
            raise ValueError(
                f"{', '.join(ascii(name[:40]) for name in bad)}: a name of 1 to {_LONGEST} bytes "
                "that is no path out of a folder and has no control characters"
            )
        return value

    @field_validator("train", mode="before")
    @classmethod
    def _no_grid(cls, value: Any) -> Any:
        named = [name for name in _OWN if isinstance(value, Mapping) and name in value]
        if named:
            raise ValueError(f"{', '.join(named)}: give learning_rates and seeds of the experiment")
        return value

    @field_serializer("train")
    def _as_given(self, train: TrainSettings) -> dict[str, Any]:
        return train.model_dump(exclude=set(_OWN))

    @field_serializer("variants")
    def _as_told(self, variants: Mapping[str, Variant]) -> dict[str, Any]:
        return {name: one.model_dump(exclude_unset=True) for name, one in variants.items()}

    @field_validator("variants")
    @classmethod
    def _new_names(cls, value: dict[str, Variant]) -> dict[str, Variant]:
        taken = [name for name in value if pool_of(name) in ARMS]
        if taken:
            raise ValueError(f"{', '.join(taken)}: arms of these names are there already")
        return value

    @field_validator(
        *("learning_rates", "donor_learning_rates", "seeds", "control_seeds", "arms", "budgets"),
        "targets",
    )
    @classmethod
    def _different(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(value)) != len(value):
            raise ValueError("each only once")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Experiment:
        unknown = [name for name in self.targets if name not in self.tasks]
        if unknown:
            raise ValueError(f"targets {', '.join(unknown)}: not among the tasks")
        others = [seed for seed in self.control_seeds if seed not in self.seeds]
        if others:
            raise ValueError(f"control_seeds {others}: not among seeds, so nothing to pair with")
        if len(self.tasks) < 2 and not self.library:
            raise ValueError("one task has no other to start from: give more, or a library")
        if problem := unread(self.train.test_points, self.arms):
            raise ValueError(problem)
        if self.merge.fold and "random-init" in self.arms:
            raise ValueError("random-init is noise in an adapter's size: leave merge.fold out")
        own: list[str] = [arm for arm in ("format-only", "each-single") if arm in self.arms]
        probed = [self.choose, *(one.choose for one in self.variants.values())]
        own += ["choose.probe_steps"] if any(one.probe_steps for one in probed) else []
        if self.library and own:
            raise ValueError(f"{own[0]} needs donors that are trained here: leave library out")
        return self

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the targets."""
        return self.targets or tuple(self.tasks)

    @property
    def control(self) -> tuple[int, ...]:
        """Seeds of the controls."""
        return self.control_seeds or self.seeds[:1]

    @property
    def donor_rates(self) -> tuple[float, ...]:
        """Learning rates that donors are trained with."""
        return self.donor_learning_rates or self.learning_rates

    def seed_of(self, task: str) -> int:
        """Seed of the donor that is trained on a task."""
        own = self.tasks[task].donor_seed
        return self.donor_seed if own is None else own

    def varied(self, variant: str) -> Experiment:
        """With what a variant sets instead; itself without a name."""
        return self.variants[variant].over(self) if variant else self

    @property
    def rank(self) -> int:
        """Rank that the arms train: of the merge of ``k`` donors, where that is known before."""
        own, rank = self.train.lora_r, self.merge.rank
        if not self.match_rank or self.library or rank == "max":
            return own
        if rank == "sum":
            return own * (1 if self.merge.method == "factor_average" else self.choose.k)
        return Rank.parse(rank).number or own

    def settings(
        self, *, seed: int, rate: float, steps: int | None = None, donor: bool = False
    ) -> TrainSettings:
        """Of one run: a donor has the adapter's own rank, an arm that of the merge."""
        values = self.train.model_dump() | {"seed": seed, "learning_rate": rate}
        if not donor:
            scale = self.train.lora_alpha / self.train.lora_r
            values |= {"lora_r": self.rank, "lora_alpha": scale * self.rank}
        return TrainSettings(**values | ({"max_steps": steps} if steps else {}))
