"""Options that several verbs share, and what they become."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from mashup.cli import show
from mashup.cli.options import Options
from mashup.processes import is_first
from mashup.settings import MethodSettings, RowSettings, ScoreSettings, TrainSettings

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class ModelOptions(Options):
    panel: ClassVar[str] = "Base model"
    model: str = Field(description="base model: a folder or a Hub id")
    dtype: Dtype = Field(
        "auto", description="precision of the base; auto is bfloat16 where the device has it"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    attn_implementation: str = Field(
        "auto", description="eager, sdpa, flash_attention_2, ...; auto lets transformers choose"
    )
    trust_remote_code: bool = Field(False, description="run code that comes with the model")

    def load_base(self, **more: Any) -> Any:
        """The base in memory; says so first, since the imports alone take seconds."""
        if is_first():
            show.note(f"loading base {self.model} ...")
        from mashup.model import load_base
        from mashup.model.base import slow_dtype

        if is_first() and (slow := slow_dtype(self.dtype, self.device)):
            show.note(slow)
        return load_base(
            self.model,
            dtype=self.dtype,
            device=self.device,
            attn_implementation=self.attn_implementation,
            trust_remote_code=self.trust_remote_code,
            **more,
        )


class BestOptions(TrainSettings):
    """Training whose best point is kept. Experiments keep the last unless their file says so."""

    keep: Literal["last", "best"] = Field(
        "best", description="weights to keep: of the last point, or of the one with least dev loss"
    )


def start_of(given: str, *, full: bool) -> Path:
    """The folder of a start, fetched if it is on the Hub, and checked without torch.

    Args:
        given: a folder or ``hub:OWNER/NAME``.
        full: whether all weights are trained.
    """
    from mashup.checkpoint.read import check_start
    from mashup.library.sources import folder_of

    folder = folder_of(given)
    check_start(folder, full=full)
    return folder


def say_left_out(task: Any) -> None:
    """What was left out of a dataset, on stderr."""
    for note in task.notes if is_first() else ():
        show.note(note)


class DataOptions(RowSettings, Options):
    panel: ClassVar[str] = "Data"
    dataset: str = Field(description="JSONL, JSON, CSV, Parquet, a folder, Hub id or lm-eval:TASK")
    test_dataset: str | None = Field(None, description="file with the test rows")
    task_record: str | None = Field(
        None, description="benchmark whose rows these are; see mashup tasks"
    )
    train_rows: int | None = Field(None, ge=1, description="training rows to use")
    dev_rows: int | None = Field(None, ge=1, description="rows held out for dev")
    test_rows: int | None = Field(None, ge=1, description="rows held out for test")
    split_seed: int = Field(42, description="seed of the splits and of the scoring sample")

    def load_task(self) -> Any:
        from mashup.task import load_task

        task = load_task(
            self.dataset,
            test=self.test_dataset,
            record=self.task_record,
            train_rows=self.train_rows,
            dev_rows=self.dev_rows,
            test_rows=self.test_rows,
            seed=self.split_seed,
            **self.reading,
        )
        say_left_out(task)
        return task


class ScoreOptions(ScoreSettings, Options):
    panel: ClassVar[str] = "Choosing checkpoints"
    max_length: int = Field(1024, ge=8, description="longest example, in tokens")
    all_checkpoints: bool = Field(
        False, description="consider every checkpoint-N, not one for each run"
    )
    accept_base: bool = Field(
        False, description="accept checkpoints that name no base, or another one"
    )
    strict: bool = Field(False, description="stop at a broken checkpoint instead of skipping it")
    cache_limit: str | None = Field(
        None, description="most that checkpoints from hub:... may take on the disk, as 20GB"
    )
    skip_bad: bool = Field(False, description="has no effect: broken checkpoints are skipped")


def scan_library(options: Any) -> Any:
    """What is in the library of a command; a remote one shows a bar."""
    from mashup.library import scan
    from mashup.progress import Bars

    return scan(
        options.library,
        all_checkpoints=options.all_checkpoints,
        cache_limit=getattr(options, "cache_limit", None),
        progress=Bars(),
    )


class MergeOptions(MethodSettings, Options):
    panel: ClassVar[str] = "Merging"

    def note_unused(self) -> None:
        """Say which numbers were given that the method does not look at."""
        from mashup._merge.methods import METHODS

        takes = METHODS[self.method].takes if self.method in METHODS else ()
        for name in ("scale", "density", "gamma", "epsilon"):
            if name in self.model_fields_set and takes and name not in takes:
                show.note(f"note: --{name} has no effect with --method {self.method}")

    def merging(self) -> dict[str, Any]:
        """Keyword arguments of :func:`mashup.merge`."""
        return self.values_of(MethodSettings)
