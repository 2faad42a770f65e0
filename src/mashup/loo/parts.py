"""The parts of an experiment: tasks, how parents are chosen and merged, where jobs run."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import Field

from mashup.settings import (
    WEIGHTS,
    MethodSettings,
    RowSettings,
    ScoreSettings,
    SelectSettings,
    Settings,
    WeightsName,
)

S = TypeVar("S", bound=Settings)


class TaskData(RowSettings):
    """Where the rows of a task are; sizes that are not given are those of the experiment."""

    dataset: str = Field(description="file, folder or Hub id")
    test_dataset: str | None = None
    task_record: str | None = None
    train_rows: int | None = Field(None, ge=1)
    dev_rows: int | None = Field(None, ge=1)
    test_rows: int | None = Field(None, ge=1)
    donor_seed: int | None = Field(None, ge=0, description="of its donor; the experiment's")


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
        named = self.model_fields_set
        laid = {name: _over(getattr(whole, name), getattr(self, name)) for name in named}
        return whole.model_copy(update=laid)


class Executor(Settings):
    """Where jobs run: in this process, or as tasks of a Ray cluster."""

    kind: Literal["local", "ray"] = "local"
    address: str | None = Field(None, description="of a running cluster; a new one without it")
    num_cpus: float = Field(1, gt=0, description="of one job")
    num_gpus: float = Field(0, ge=0, description="of one job")


def _over(part: S, given: S) -> S:
    return part.model_copy(update=given.model_dump(exclude_unset=True))
