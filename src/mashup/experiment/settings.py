"""An experiment as one value: what its YAML file says, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    field_serializer,
    field_validator,
    model_validator,
)

from mashup.errors import Problem, UsageError
from mashup.faults import read_yaml, resolved, validated
from mashup.results.records import data_of, pool_of
from mashup.settings import (
    ARMS,
    WEIGHTS,
    ArmName,
    MergeSettings,
    MethodSettings,
    Name,
    Rank,
    RowSettings,
    ScoreSettings,
    SelectSettings,
    Settings,
    TrainSettings,
    WeightsName,
)
from mashup.state import read_state

S = TypeVar("S", bound=Settings)
STORE = "store.json"
#: Arms that a comparison cannot have: they need more than a library.
_NOT_COMPARED = ("format-only", "each-single", "blind")
_OWN_PLACE = ("learning_rate", "seed")  # settings of training that experiments have lists of
_LONGEST = 150  # bytes of a task's name in the name of a folder, which may have 255
#: Settings of a task that say which rows it has, except for the number of training rows.
_ROWS = (
    "dataset",
    "test_dataset",
    "task_record",
    "dev_rows",
    "test_rows",
    *RowSettings.model_fields,
)
_PARTS = ("train", "choose", "merge", "executor", "tasks")  # of a file; they have names inside


class TaskData(RowSettings):
    """Where the rows of a task are; what is not given is as the experiment says.

    A task ``NAME@SIZE`` is the task NAME with another number of training rows. What it does not
    set is as NAME sets it. It is a target only: no other task starts from it.
    """

    dataset: str = Field(description="file, folder or Hub id")
    test_dataset: str | None = None
    task_record: str | None = None
    train_rows: int | None = Field(None, ge=1)
    dev_rows: int | None = Field(None, ge=1)
    test_rows: int | None = Field(None, ge=1)
    donor_seed: int | None = Field(None, ge=0, description="of its donor; the experiment's")
    max_steps: int | None = Field(None, ge=1, description="of a whole run, instead of train's")
    arms: tuple[ArmName, ...] = Field(
        (), description="of this target, without variants; those of the experiment"
    )
    budgets: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (), description="of this target; those of the experiment"
    )
    relatives: tuple[Name, ...] = Field(
        (), description="patterns (crises/*) of sources that the arm blind must not start from"
    )


class Choosing(ScoreSettings, SelectSettings):
    """How the parents of a merge are chosen; the words of ``mashup score``."""

    probe_steps: int = Field(
        0, ge=0, description="choose by dev loss after so many steps from each donor; 0: by score"
    )

    @property
    def scoring(self) -> dict[str, Any]:
        """What decides the ranking."""
        return self.model_dump(exclude={"probe_steps"})


class Merging(MethodSettings):
    """How they are merged; the words of ``mashup merge``.

    Donors have no order here, so that there is nothing to give numbers to.
    """

    weights: WeightsName = Field(WEIGHTS[0], description="of the parents in a merge")
    fold: bool = Field(
        False, description="fold the merge into the base, and train a fresh adapter on that"
    )

    def options(self) -> dict[str, Any]:
        """Keyword arguments of :func:`mashup.merge`."""
        return self.model_dump(exclude={"fold"})


class Variant(Settings):
    """Mashup with other settings; those that it does not name are the experiment's."""

    choose: Choosing = Field(default_factory=Choosing)
    merge: Merging = Field(default_factory=Merging)

    def over(self, whole: S) -> S:
        """An experiment with these settings laid over its own."""
        parts = {name: getattr(self, name) for name in self.model_fields_set}
        named = {name: one.model_dump(exclude_unset=True) for name, one in parts.items()}
        laid = {name: getattr(whole, name).model_copy(update=one) for name, one in named.items()}
        return whole.model_copy(update=laid)


class Executor(Settings):
    """Where jobs run: in this process, or as tasks of a Ray cluster."""

    kind: Literal["local", "ray"] = "local"
    address: str | None = Field(None, description="of a running cluster; a new one without it")
    num_cpus: float = Field(1, gt=0, description="of one job")
    num_gpus: float = Field(0, ge=0, description="of one job")


class Experiment(Settings):
    """Tasks × learning rates × seeds × arms.

    Each target starts from checkpoints that were trained on the other tasks (leave one out), or
    from those of ``library``. A comparison (:func:`mashup.compare`) is one with a single target
    and a library.
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
    twins: str | None = Field(
        None,
        description="folder of checkpoints named as those of library, trained on shuffled answers",
    )
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
    search_seeds: int | None = Field(
        None,
        ge=1,
        description="seeds of an arm that run with every learning rate; the others run with the "
        "one that has the least mean dev loss; all of them",
    )
    match_rank: bool = Field(
        True, description="scratch and controls train the rank of the merge of k donors"
    )
    donor_seed: int = Field(42, ge=0, description="of the runs that the others start from")
    arms: tuple[ArmName, ...] = ("scratch", "mashup")
    draws: int = Field(3, ge=1, description="of the random arm")
    budgets: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0,), description="shares of the steps that scratch and mashup are run with"
    )
    control_budgets: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0,), min_length=1, description="those of budgets that the other arms are run with"
    )
    choose: Choosing = Field(default_factory=Choosing)
    merge: Merging = Field(default_factory=Merging)
    variants: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9.-]*$")], Variant] = Field(
        default_factory=dict,
        description="mashup with other settings of choose and merge, each an arm of that name",
    )
    executor: Executor = Field(default_factory=Executor)

    @field_validator("tasks", mode="before")
    @classmethod
    def _other_sizes(cls, value: Any) -> Any:
        """``NAME@SIZE`` takes what it does not set from NAME."""
        if not isinstance(value, Mapping):
            return value
        plain = {
            name: one.model_dump(exclude_unset=True) if isinstance(one, TaskData) else one
            for name, one in value.items()
        }
        whole = {name: plain.get(data_of(name)) for name in plain if isinstance(name, str)}
        return {
            name: {**other, **one}
            if isinstance(one, Mapping) and isinstance(other := whole.get(name), Mapping)
            else one
            for name, one in plain.items()
        }

    @field_validator("tasks")
    @classmethod
    def _one_data_a_name(cls, value: dict[str, TaskData]) -> dict[str, TaskData]:
        for name, one in value.items():
            whole = value.get(data_of(name), one)
            differing = [key for key in _ROWS if getattr(one, key) != getattr(whole, key)]
            if differing:
                raise ValueError(
                    f"{name}: {', '.join(differing)} must be as in {data_of(name)}, since the two "
                    "names say that they differ in the number of training rows"
                )
        return value

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
        named = [name for name in _OWN_PLACE if isinstance(value, Mapping) and name in value]
        if named:
            raise ValueError(f"{', '.join(named)}: give learning_rates and seeds of the experiment")
        return value

    @field_serializer("train")
    def _without_grid(self, train: TrainSettings) -> dict[str, Any]:
        return train.model_dump(exclude=set(_OWN_PLACE))

    @field_serializer("variants")
    def _as_given(self, variants: Mapping[str, Variant]) -> dict[str, Any]:
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
        *("control_budgets", "targets"),
    )
    @classmethod
    def _different(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(value)) != len(value):
            raise ValueError("each only once")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        unknown = [name for name in self.targets if name not in self.tasks]
        if unknown:
            raise ValueError(f"targets {', '.join(unknown)}: not among the tasks")
        others = [seed for seed in self.control_seeds if seed not in self.seeds]
        if others:
            raise ValueError(f"control_seeds {others}: not among seeds, so nothing to pair with")
        if more := sorted(set(self.control_budgets) - {1.0, *self.budgets}):
            raise ValueError(f"control_budgets {more}: not among budgets, so nothing to pair with")
        for name in self.tasks:
            if extra := [arm for arm in self.tasks[name].arms if arm not in self.arms]:
                raise ValueError(f"tasks.{name}.arms {', '.join(extra)}: not among arms")
        if len(self.sources) < 2 and not self.library:
            raise ValueError("one task has no other to start from: give more, or a library")
        if problem := unread(self.train.test_points):
            raise ValueError(problem)
        if self.merge.fold and "random-init" in self.arms:
            raise ValueError("random-init is noise in an adapter's size: leave merge.fold out")
        probed = [self.choose, *(one.choose for one in self.variants.values())]
        if self.library and any(one.probe_steps for one in probed):
            raise ValueError(
                "choose.probe_steps needs donors that are trained here: leave library out"
            )
        if self.library and not self.twins and "format-only" in self.arms:
            raise ValueError("format-only needs twins of the checkpoints in library: give twins")
        if self.twins and not self.library:
            raise ValueError("twins are those of a library: give library, or leave twins out")
        return self

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the targets."""
        return self.targets or tuple(self.tasks)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tasks that targets may start from; not the other sizes of a task."""
        return tuple(
            name for name in self.tasks if data_of(name) == name or data_of(name) not in self.tasks
        )

    def of_target(self, target: str) -> Experiment:
        """With the arms and budgets of a target."""
        own = self.tasks[target]
        update: dict[str, Any] = {"budgets": own.budgets} if own.budgets else {}
        if own.arms:
            update["arms"] = tuple(arm for arm in own.arms if arm in self.arms)
            update["variants"] = {}
        return self.model_copy(update=update) if update else self

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

    @property
    def is_sized(self) -> bool:
        """Whether the merge itself decides the rank and the modules that the arms train.

        So it is with a library: the ranks in it are known only when parents are chosen.
        """
        return bool(self.library) and self.match_rank and not self.train.is_full

    def settings(
        self, *, seed: int, rate: float, steps: int | None = None, donor: bool = False
    ) -> TrainSettings:
        """Of one run: a donor has the adapter's own rank, an arm that of the merge."""
        values = self.train.model_dump() | {"seed": seed, "learning_rate": rate}
        if not donor:
            values |= resized(self.train, self.rank)
        return TrainSettings(**values | ({"max_steps": steps} if steps else {}))


def resized(train: TrainSettings, rank: int) -> dict[str, Any]:
    """``lora_r`` and ``lora_alpha`` of another rank with the same scale."""
    return {"lora_r": rank, "lora_alpha": train.lora_alpha / train.lora_r * rank}


def unread(test_points: str) -> str:
    """Why arms cannot be judged with these test points; empty when they can."""
    if test_points == "none":
        return "test_points none: arms are judged on the test rows; give all or end"
    return ""


def check_values(seeds: Sequence[int], budgets: Sequence[float], rates: Sequence[float]) -> None:
    """Refuse values of a comparison that cannot be, all at once.

    Raises:
        UsageError: with all of them.
    """
    problems = []
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        problems.append(Problem("bad setting", "`seeds`", str(list(seeds)), "different, 0 or more"))
    if not all(0 < budget <= 1 for budget in budgets):
        found, expected = str(list(budgets)), "shares of the steps, above 0 and at most 1"
        problems.append(Problem("bad setting", "`budgets`", found, expected))
    if not all(rate > 0 for rate in rates):
        problems.append(Problem("bad setting", "`learning_rates`", str(list(rates)), "above 0"))
    if problems:
        raise UsageError(*problems)


def check_arms(arms: Sequence[str], settings: TrainSettings) -> None:
    """Refuse arms that a comparison cannot have.

    Raises:
        UsageError: an unknown arm; one that is judged on test rows that are not read; one that
            needs more than a library.
    """
    if unknown := [arm for arm in arms if arm not in ARMS]:
        found, known = ", ".join(unknown), ", ".join(ARMS)
        raise UsageError(Problem("unknown arm", "`arms`", found, known))
    if other := [arm for arm in _NOT_COMPARED if arm in arms]:
        fix = "leave it out, or describe an experiment for mashup loo"
        raise UsageError(Problem("arm of experiments only", "`arms`", ", ".join(other), fix=fix))
    if reason := unread(settings.test_points):
        fix = "give another `test_points`"
        raise UsageError(Problem("arm without test values", "`test_points`", reason, fix=fix))


def check_merging(options: Mapping[str, Any]) -> Merging:
    """Refuse, before any work, what would fail when the first arm is merged.

    Raises:
        UsageError: an unknown method, numbers that cannot be, or a weight for each parent.
    """
    from mashup._merge.methods import METHODS

    method = options.get("method", "linear")
    if method not in METHODS:
        raise UsageError(Problem("unknown method", "`method`", method, ", ".join(METHODS)))
    settings = resolved(MergeSettings, None, options, "merge_options")
    wrong = METHODS[method].problems(settings, METHODS[method].parents[0])
    if wrong:
        raise UsageError(*wrong)
    if not isinstance(options.get("weights", "uniform"), str):
        found, expected = str(options["weights"]), "uniform or loss: arms have 1, 2 or k parents"
        raise UsageError(Problem("bad weights", "`weights`", found, expected))
    return validated(Merging, dict(options), "`merge_options`")


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


def read_experiment(path: str | Path, data: str | Path | None = None) -> Experiment:
    """The experiment that a YAML file describes; paths in it are relative to the file.

    ``extends: other.yaml`` takes the values of the other file where this one has none.

    Args:
        path: the YAML file.
        data: folder that the paths of tasks are relative to, instead of the file's.

    Raises:
        UsageError: unreadable, unknown names, values that are missing or cannot be; no such
            folder of data.
    """
    if data and not Path(data).is_dir():
        fix = "give the folder that holds the tasks of the experiment"
        raise UsageError(Problem("no such folder", str(data), expected="a folder", fix=fix))
    return validated(Experiment, _read(Path(path), Path(data) if data else None), str(path))


def _read(where: Path, data: Path | None, below: tuple[Path, ...] = ()) -> dict[Any, Any]:
    """Values of a file and of those that it extends."""
    values = read_yaml(where)
    other = values.pop("extends", None)
    values = _located(values, where.absolute().parent, data)
    if other is None:
        return values
    above = where.parent / str(other)
    if above.resolve() in (*below, where.resolve()):
        found, expected = f"extends {other}", "a file that does not lead back to this one"
        raise UsageError(Problem("cannot read config", str(where), found, expected))
    made = _read(above, data, (*below, where.resolve()))
    for name, value in values.items():  # parts are laid over those of the other name by name
        both = name in _PARTS and isinstance(value, dict) and isinstance(made.get(name), dict)
        made[name] = made[name] | value if both else value
    return made


def _located(values: dict[Any, Any], folder: Path, data: Path | None) -> dict[Any, Any]:
    """Paths that exist next to the file, absolute; everything else as it is (Hub ids)."""
    values = dict(values)
    for name in ("base", "library", "twins"):
        if name in values:
            values[name] = _path(values[name], folder)
    if isinstance(values.get("tasks"), dict):
        where = data or folder
        values["tasks"] = {name: _task(one, where) for name, one in values["tasks"].items()}
    return values


def _task(data: Any, folder: Path) -> Any:
    if isinstance(data, str):
        data = {"dataset": data}
    if not isinstance(data, dict):
        return data
    named = {key: _path(data[key], folder) for key in ("dataset", "test_dataset") if key in data}
    return data | named


def _path(value: Any, folder: Path) -> Any:
    if isinstance(value, str) and (folder / value).exists():
        return str((folder / value).resolve())
    return value


def _absolute(path: str) -> str:
    if not Path(path).is_absolute():
        raise ValueError("not an absolute path")
    return path


class _Place(BaseModel):
    """Where the jobs of an experiment are."""

    jobs: Annotated[str, AfterValidator(_absolute)]


def known_jobs(output: Path) -> str | None:
    """Folder of the jobs of an experiment that was begun in ``output``, None without one.

    Raises:
        InputError: the file that says it is damaged.
    """
    path = output / STORE
    fix = "remove it, and give `jobs` where the jobs are not next to it"
    return read_state(_Place, path, fix).jobs if path.exists() else None
