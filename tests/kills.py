"""Kill a command just before any of its changes to the file system, run it again, and compare.

Run as a script, ``python tests/kills.py FOLDER WORK MOST RANDOM``: prints one JSON object for each
work; ``loo:1/2`` does every second change, so that two processes can share a work. Every attempt is
a fork of a process that has loaded everything and computed nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

WORKS = (
    "scan",
    "score",
    "merge",
    "merge-full",
    "convert",
    "init",
    "train",
    "train-full",
    "compare",
)
WORKS += ("race", "loo")
_CHANGES = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.truncate",
    "os.link",
    "os.symlink",
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_TIMED = ("cached", "seconds", "took", "since", "date", "versions", "process")
_MADE_OF_TIMES = {".html", ".md", ".png", ".svg", ".csv", ".tex"}
_HEAVY = ("mashup", "transformers", "peft", "accelerate", "matplotlib", "scipy", "pandas")
_PATIENCE = 300  # seconds for one attempt


class Changes:
    """Counts the changes below a folder, and kills the process just before a given one."""

    def __init__(self, folder: Path, kill_at: int | None) -> None:
        self.count, self._kill_at, self._folder = 0, kill_at, str(folder)
        self._inside = False

    def watch(self) -> None:
        """From now on; what native code writes is seen where Python calls it."""
        import safetensors.torch
        import torch

        sys.addaudithook(self._hook)
        os.fsync = self._counted(os.fsync)
        os.pwrite = self._counted(os.pwrite)
        torch.save = self._cut(torch.save, 1)
        safetensors.torch.save_file = self._cut(safetensors.torch.save_file, 1)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and args[2] and args[2] & _WRITING
        if (writes or event in _CHANGES) and any(map(self._is_ours, args[:2])):
            self.change()

    def _is_ours(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(
            self._folder
        )

    def change(self) -> None:
        self.count += 1
        if self.count == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _counted(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **words: Any) -> Any:
            self.change()
            return work(*args, **words)

        return counted

    def _cut(self, write: Callable[..., Any], place: int) -> Callable[..., Any]:
        """A writer in native code: killed before it, or when half of the file is written."""

        def cut(*args: Any, **words: Any) -> Any:
            self.change()
            made = write(*args, **words)
            file = args[place] if len(args) > place else words.get("filename", words.get("f"))
            if self.count + 1 == self._kill_at and isinstance(file, str | os.PathLike):
                with open(file, "r+b") as stream:
                    stream.truncate(os.path.getsize(file) // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            self.count += 1
            return made

        return cut


class Works:
    """What can be killed; each writes into a folder of its own and gives what it returns."""

    def __init__(self, home: Path) -> None:
        from helpers import make_tokenizer, prompt_rows, write_jsonl, write_tiny_model
        from lora import save_lora
        from mashup import TrainSettings, load_base, load_task
        from wholes import relative_of

        self.home = home
        self.model = write_tiny_model(home / "model", make_tokenizer())
        self.settings = TrainSettings(
            max_steps=4, batch_size=8, learning_rate=1e-2, evaluations=2, save_steps=1, lora_r=4
        )
        rows = {n: write_jsonl(home / f"d{n}.jsonl", prompt_rows(90, "!" * n)) for n in range(3)}
        self.rows = rows
        for n in (1, 2):
            _in_a_child(lambda n=n: self._donor(rows[n], n))
        save_lora(self.model, home / "library" / "noise", size=0.5)
        relative_of(self.model, home / "wholes" / "a", seed=1)
        relative_of(self.model, home / "wholes" / "b", seed=2)
        self._pickle(home / "wholes" / "a")
        self.base = load_base(self.model, dtype="float32", device="cpu")
        self.task = load_task(rows[0])

    def _pickle(self, folder: Path) -> None:
        import torch
        from safetensors.torch import load_file

        shutil.copytree(folder, self.home / "pickled")
        torch.save(
            load_file(folder / "model.safetensors"), self.home / "pickled" / "pytorch_model.bin"
        )
        (self.home / "pickled" / "model.safetensors").unlink()

    def _donor(self, rows: Path, seed: int) -> None:
        from mashup import load_base, load_task, train

        base = load_base(self.model, dtype="float32", device="cpu")
        settings = self.settings.model_copy(update={"seed": seed, "max_steps": 8})
        train(base, load_task(rows), output=self.home / "library" / f"d{seed}", settings=settings)

    def place(self, work: str, folder: Path) -> None:
        """A new folder to work in, with what is changed there."""
        folder.mkdir()
        for name in {"scan": ["library"], "score": ["library"], "convert": ["pickled"]}.get(
            work, ()
        ):
            shutil.copytree(self.home / name, folder / name)

    def do(self, work: str, folder: Path) -> Any:
        """Do it in ``folder``."""
        return getattr(self, f"_{work.replace('-', '_')}")(folder)

    def _scan(self, folder: Path) -> Any:
        from mashup import scan

        return [(c.name, c.base, c.rank, c.task, c.bytes) for c in scan(folder / "library").usable]

    def _score(self, folder: Path) -> Any:
        from mashup import score

        scores = score(folder / "library", self.base, self.task, samples=32, criterion="loss")
        return [(one.name, one.loss, one.accuracy) for one in scores.ranking]

    def _merge(self, folder: Path) -> Any:
        from mashup import merge

        parents = sorted((self.home / "library").iterdir())[:2]
        _once(lambda: merge(parents, output=folder / "m", base=self.base), folder / "m")

    def _merge_full(self, folder: Path) -> Any:
        from mashup import merge

        parents = sorted((self.home / "wholes").iterdir())
        words = {"base": self.base, "accept_base": True, "shard_size": 2e-5}
        _once(lambda: merge(parents, output=folder / "m", **words), folder / "m")

    def _convert(self, folder: Path) -> Any:
        from mashup import convert

        convert(folder / "pickled")

    def _init(self, folder: Path) -> Any:
        from mashup import Selection, score
        from mashup._init import Sample, make_init

        scores = score(self.home / "library", self.base, self.task, samples=32, criterion="loss")
        selection = Selection(scores.ranking[:2], scores)
        work = (selection, self.base, self.task, Sample(32), folder / "i")
        _once(lambda: make_init(*work, scale="search"), folder / "i")

    def _train(self, folder: Path) -> Any:
        from mashup import train

        run = train(self.base, self.task, output=folder / "r", settings=self.settings)
        return [(p.step, p.tokens, p.dev_loss, p.test_loss) for p in run.curve]

    def _train_full(self, folder: Path) -> Any:
        from mashup import train

        settings = self.settings.model_copy(update={"finetuning_type": "full"})
        run = train(self.base, self.task, output=folder / "r", settings=settings)
        return [(p.step, p.tokens, p.dev_loss, p.test_loss) for p in run.curve]

    def _race(self, folder: Path) -> Any:
        from mashup import race

        start, settings = self.home / "library" / "d1", self.settings
        found = race(
            self.base, self.task, output=folder / "r", starts=[start], learning_rates=[1e-3, 1e-2],
            settings=settings,
        )  # fmt: skip
        return [found.sentence, [(p.step, p.tokens, p.dev_loss) for p in found.run.curve]]

    def _compare(self, folder: Path) -> Any:
        from mashup import compare

        settings = self.settings.model_copy(update={"max_steps": 2, "evaluations": 1})
        compare(
            self.home / "library", self.base, self.task, output=folder / "c", samples=32,
            criterion="loss", settings=settings, arms=("mashup",),
        )  # fmt: skip

    def _loo(self, folder: Path) -> Any:
        from mashup.experiment.run import prepare, run_jobs
        from mashup.experiment.settings import Experiment

        train = {"max_steps": 2, "batch_size": 4, "evaluations": 1, "save_steps": 1}
        experiment = Experiment.model_validate({
            "name": "tiny", "base": str(self.model), "dtype": "float32", "device": "cpu",
            "tasks": {str(n): {"dataset": str(path)} for n, path in self.rows.items()},
            "targets": ["0"], "train_rows": 40, "dev_rows": 8, "test_rows": 8, "train": train,
            "learning_rates": [0.02], "seeds": [1], "choose": {"samples": 16, "criterion": "loss"},
            "arms": ["scratch", "mashup"],
        })  # fmt: skip
        run_jobs(prepare(experiment, folder / "l"))


def _once(work: Callable[[], Any], output: Path) -> None:
    """Make an output that is there whole or not at all: after a late kill it is there already."""
    from mashup import InputError

    try:
        work()
    except InputError as error:
        if error.problems[0].what != "output exists already" or not any(output.iterdir()):
            raise


def result_of(folder: Path, returned: Any) -> dict[str, Any]:
    """What is in a folder: the bytes of files, and the values of those that hold seconds."""
    found: dict[str, Any] = {"returned": returned}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        index = "/.mashup" in f"/{name}" and "mashup-" not in name
        if index or name.endswith(".mashup-lock"):
            continue  # what the index says is returned; a file that nobody locks says nothing
        found[name] = _content(path, folder)
    return found


def _content(path: Path, folder: Path) -> Any:
    if path.suffix in _MADE_OF_TIMES:
        return None
    if path.suffix in (".json", ".jsonl"):
        text = path.read_text().replace(str(folder), "FOLDER")
        lines = [text] if path.suffix == ".json" else text.splitlines()
        return [_untimed(json.loads(line)) for line in lines]
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        if any(mark in str(value.get("metric", "")) for mark in ("seconds", "parity")):
            return None
        kept = {k: v for k, v in value.items() if not any(mark in k for mark in _TIMED)}
        return {k: _untimed(v) for k, v in kept.items()}
    return [_untimed(one) for one in value] if isinstance(value, list) else value


def _in_a_child(work: Callable[[], Any], log: Path | None = None) -> int:
    """How it ended: 0, or a signal's number below zero; what it raised is in ``log``."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(_PATIENCE)
            work()
            code = 0
        except BaseException:
            text = traceback.format_exc()
            log.write_text(text) if log else sys.stderr.write(text)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill(works: Works, named: str, most: int, at_random: int) -> dict[str, Any]:
    """Kill a work at each of its changes, at most so many, and so many times at random."""
    work, _, share = named.partition(":")
    first, of = map(int, (share or "1/1").split("/"))
    home = works.home / f"killed-{work}"
    home.mkdir()
    reference, changes, seconds = _reference(works, work, home / "out")
    points = list(range(first, changes + 1, of))
    if len(points) > most:
        points = sorted(random.Random(0).sample(points, most))
    attempts = [(f"change {n}", n, 0.0) for n in points]
    times = random.Random(1)
    attempts += [(f"time {n}", None, times.uniform(0, seconds)) for n in range(at_random)]
    failures = {}
    for name, point, wait in attempts:
        if why := _attempt(works, work, home / "out", point, wait, reference):
            failures[name] = why
        shutil.rmtree(home / "out")  # all in one place: digests may depend on it
    return {"work": named, "changes": changes, "killed": len(attempts), "failures": failures}


def _reference(works: Works, work: str, folder: Path) -> tuple[dict[str, Any], int, float]:
    works.place(work, folder)
    kept = folder.with_name("reference.json")

    def run() -> None:
        changes = Changes(folder, None)
        changes.watch()
        start = time.monotonic()
        returned = works.do(work, folder)
        took = time.monotonic() - start
        found = [result_of(folder, returned), changes.count, took]
        kept.write_text(json.dumps([*found, [n for n in sys.modules if n.startswith(_HEAVY)]]))

    if _in_a_child(run, folder.with_name("reference.txt")):
        raise RuntimeError(folder.with_name("reference.txt").read_text())
    shutil.rmtree(folder)
    *found, modules = json.loads(kept.read_text())
    for name in modules:  # once here, and not in each attempt: half of its time
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    return tuple(found)


def _attempt(
    works: Works, work: str, folder: Path, point: int | None, wait: float, expected: dict[str, Any]
) -> str:
    """Why what is there after a kill and another go is not what it should be; empty if it is."""
    works.place(work, folder)
    kept, log = folder.with_suffix(".json"), folder.with_suffix(".txt")

    def killed() -> None:
        if point is None:
            signal.setitimer(signal.ITIMER_REAL, max(wait, 1e-3))
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        Changes(folder, point).watch()
        works.do(work, folder)

    def again() -> None:
        kept.write_text(json.dumps(result_of(folder, works.do(work, folder))))

    ended = _in_a_child(killed, log)
    if ended not in (0, -signal.SIGKILL):
        return f"before the kill: {ended} {_last(log)}"
    if _in_a_child(again, log):
        return f"again: {_last(log)}"
    found = json.loads(kept.read_text())
    return "; ".join(_differences(found, expected))


def _last(log: Path) -> str:
    return "".join(log.read_text()[-1500:]) if log.exists() else ""


def _differences(found: dict[str, Any], expected: dict[str, Any]) -> Iterator[str]:
    for name in sorted(found.keys() | expected.keys()):
        if name not in expected:
            yield f"{name} is left"
        elif name not in found:
            yield f"{name} is missing"
        elif found[name] != expected[name]:
            yield f"{name} differs: {str(found[name])[:300]} for {str(expected[name])[:300]}"


def main() -> None:
    """Print what came of it."""
    folder, work, most, at_random = sys.argv[1:]
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cache")
    sys.path.insert(0, str(Path(__file__).parent))
    works = Works(Path(folder))
    for one in WORKS if work == "all" else work.split(","):
        print(json.dumps(kill(works, one, int(most), int(at_random))), flush=True)


if __name__ == "__main__":
    main()
