"""A small working place: a base, a library, data, and what the program itself left of its work.

The wider kinds of cases spoil these. Unlike the checkpoints of :mod:`corpus.seeds` they are made
by ``mashup``, since state files and databases are its own.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from corpus.seeds import Files
from helpers import make_tokenizer, prompt_rows, settle, write_jsonl, write_tiny_model
from mashup.cli.__main__ import main

STEPS = 4
_CPU = ("--device", "cpu", "--dtype", "float32")
_TRAIN = {
    "max_steps": STEPS,
    "batch_size": 8,
    "learning_rate": 1e-2,
    "evaluations": 2,
    "save_steps": 1,
    "lora_r": 4,
}


@dataclass(frozen=True)
class Answer:
    """How a command ended and what it printed; ``code`` is None after an exception."""

    code: int | None
    out: str
    err: str
    raised: str = ""


def command(*words: object) -> Answer:
    """Run one verb of the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    code, raised = None, ""
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([os.fspath(word) if isinstance(word, Path) else str(word) for word in words])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        except Exception as error:
            raised = f"{type(error).__name__}: {str(error)[:300]}"
    return Answer(code, out.getvalue(), err.getvalue(), raised)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its path there; locks and pictures are left out."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if not path.name.endswith("-lock") and path.suffix not in (".svg", ".html", ".md", ".tex")
    }


@dataclass(frozen=True)
class World:
    """Folders that are good, below ``root``; a case is written to ``root/case``."""

    root: Path
    made: Mapping[str, Files]
    losses: Mapping[str, float]

    @classmethod
    def make(cls, root: Path) -> World:
        from lora import save_lora

        root.mkdir(parents=True)
        base = write_tiny_model(root / "base", make_tokenizer())
        for n in (1, 2):
            save_lora(base, root / "library" / f"donor{n}", seed=n)
            card = root / "library" / f"donor{n}" / "README.md"
            card.unlink()
        write_jsonl(root / "data.jsonl", prompt_rows(60))
        (root / "precious").mkdir()
        (root / "precious" / "thesis.txt").write_text("mine")
        world = cls(root, {}, {})
        made: dict[str, Files] = {"base": contents(base)}
        settle()
        answer = world.score(world.base, world.data)
        made["library"] = contents(root / "library")
        made["finished"] = world.kept(world.train(world.case))
        _stop(world)
        made["stopped"] = world.kept()
        made["compared"] = world.kept(
            command(
                *("compare", world.library, *world.model, "--dataset", world.data),
                *(*world.training, "--arms", "mashup", "--samples", 8, "-o", world.case),
            )
        )
        (root / "loo.yaml").write_bytes(world.experiment())
        made["loo"] = world.kept(command("loo", root / "loo.yaml", "-o", world.case))
        (root / "loo.yaml").unlink()
        for lock in root.glob(".*-lock"):
            lock.unlink()
        return cls(root, made, losses_of(answer))

    def kept(self, answer: Answer | None = None) -> dict[str, bytes]:
        """What a command wrote where cases are written, which is empty again."""
        assert answer is None or answer.code == 0, answer
        files = contents(self.case)
        shutil.rmtree(self.case)
        return files

    @property
    def case(self) -> Path:
        return self.root / "case"

    @property
    def output(self) -> Path:
        return self.root / "output"

    @property
    def base(self) -> Path:
        return self.root / "base"

    @property
    def data(self) -> Path:
        return self.root / "data.jsonl"

    @property
    def library(self) -> Path:
        return self.root / "library"

    @property
    def model(self) -> tuple[object, ...]:
        return ("--model", self.base, *_CPU)

    @property
    def training(self) -> list[object]:
        return [x for k, v in _TRAIN.items() for x in (f"--{k.replace('_', '-')}", v)]

    def score(self, base: Path, data: Path, *more: object, library: Path | None = None) -> Answer:
        words = ("--dataset", data, "--samples", 8, "--json", *more)
        return command("score", library or self.library, "--model", base, *_CPU, *words)

    def train(self, output: Path) -> Answer:
        words = ("--dataset", self.data, *self.training, "-o", output)
        return command("train", *self.model, *words)

    def experiment(self, tasks: Mapping[str, str] | None = None, **more: Any) -> bytes:
        """An experiment of the good data, or of ``tasks``."""
        data = [self.root / f"task{n}.jsonl" for n in range(3)]
        for n, path in enumerate(data):
            if not path.exists():
                write_jsonl(path, prompt_rows(60, "!" * n))
        train = {"max_steps": 2, "batch_size": 4, "evaluations": 1, "save_steps": 1}
        tasks = tasks or {f"task{n}": str(path) for n, path in enumerate(data)}
        values = {
            "name": "tiny", "base": str(self.base), "dtype": "float32", "device": "cpu",
            "tasks": dict(tasks), "targets": [next(iter(tasks))], "train_rows": 40, "dev_rows": 8,
            "test_rows": 8, "train": train, "learning_rates": [0.02], "seeds": [1],
            "choose": {"samples": 8}, "arms": ["scratch", "mashup"],
        }  # fmt: skip
        return yaml.safe_dump(values | more).encode("utf-8", "surrogatepass")


def losses_of(answer: Answer) -> dict[str, float]:
    """Name to loss of what ``score --json`` printed."""
    return {one["name"]: one["loss"] for one in json.loads(answer.out)["ranking"]}


def _stop(world: World) -> None:
    """A run that was stopped in its third step."""
    from transformers import TrainerCallback

    from mashup import TrainSettings, load_base, load_task, train

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 3:
                raise KeyboardInterrupt

    base = load_base(world.base, dtype="float32", device="cpu")
    with contextlib.suppress(KeyboardInterrupt):
        settings = TrainSettings(**_TRAIN)
        train(base, load_task(world.data), output=world.case, settings=settings, callbacks=[Stop()])
