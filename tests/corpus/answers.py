"""Give a wider case to the verbs that read it, and say what is wrong with the answer."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from corpus import seeds
from corpus.cases import Case
from corpus.place import HangError, limited
from corpus.wider import flags
from corpus.world import Answer, World, command, contents, losses_of

GIGABYTE = 1 << 30
#: Folders that a scan does not look into, by design.
_UNSEEN = ("hidden", "dots", "backslash", "mashup", "git", "part", "lock")


def faults(case: Case, world: World) -> Iterator[str]:
    """Everything that is wrong with how the verbs answer to a case."""
    kind = case.name.split("/")[0]
    for path in world.root.glob("output*"):
        shutil.rmtree(path, ignore_errors=True)
    if kind == "database":
        kept = world.library / ".mashup"
        if kept.is_dir() and not kept.is_symlink():
            shutil.rmtree(kept, ignore_errors=True)
        kept.unlink(missing_ok=True)  # rmtree would wait on a pipe
        _lay(case, world.library)
    else:
        seeds.write(case.files, world.case)
    before = _others(world)
    _forget_peak()
    held = _status("VmRSS")
    try:
        with limited(), contextlib.chdir(world.root):
            yield from _DOORS[kind](case, world)
    except HangError:
        yield "hangs"
    if (grown := _status("VmHWM") - held) > GIGABYTE:
        yield f"took {grown / GIGABYTE:.1f} GiB"
    changed = _others(world).items() ^ before.items()
    if changed:
        yield f"changed outside of the output: {sorted(name for name, _ in changed)[:4]}"


def _lay(case: Case, folder: Path) -> None:
    """Put the files of a case among those that are there."""
    spare = seeds.write(case.files, folder.parent / "spare")
    for path in sorted(spare.iterdir()):
        os.rename(path, folder / path.name)
    spare.rmdir()


def _others(world: World) -> dict[str, tuple[int, int]]:
    """What nobody may change: size and time of every file but the case, the output, the index."""
    found = {}
    for folder, inner, files in os.walk(world.root):
        inner[:] = [name for name in inner if name not in (".mashup", "cache")]
        if folder == str(world.root):
            inner[:] = [name for name in inner if name not in ("case", "output")]
        for name in [*inner, *files]:
            if name.startswith(".") and name.endswith("-lock"):
                continue
            status = os.lstat(os.path.join(folder, name))
            size = status.st_size if name in files else 0
            found[os.path.join(folder, name)] = (size, status.st_mtime_ns if size else 0)
    for name in os.listdir(world.root.parent):
        found[name] = (0, 0)
    return found


def _forget_peak() -> None:
    with contextlib.suppress(OSError):  # no such file beside Linux
        Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> int:
    """A field of this process's status in bytes; 0 where there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return 0


def _told(answer: Answer) -> Iterator[str]:
    """0, or 2 or 3 with a problem; nothing that a terminal obeys."""
    if answer.raised:
        yield f"traceback: {answer.raised}"
    elif answer.code not in (0, 2, 3):
        yield f"exit code {answer.code}: {answer.err[-200:]!a}"
    elif answer.code and "error" not in answer.err and "Error" not in answer.err:
        yield f"exit code {answer.code} without a problem"
    for text in (answer.out, answer.err):
        if not text.replace("\n", "").isprintable():
            bad = next(c for c in text if c != "\n" and not c.isprintable())
            yield f"prints {bad!a}: {text[max(0, text.index(bad) - 40) :][:80]!a}"
    if len(answer.err) > 40_000:
        yield f"{len(answer.err)} characters of problems"


def _as_expected(case: Case, answer: Answer, world: World) -> Iterator[str]:
    """The answer of ``score`` against what the case says is right."""
    yield from _told(answer)
    if case.right == "refused" and answer.code == 0:
        yield "wrong success"
    if case.right in ("fine", "accepted") and answer.code != 0:
        yield f"refused though it is fine: {answer.err[:200]!a}"
    if answer.code != 0:
        return
    found = losses_of(answer)
    if case.right == "fine" and not _close(found, dict(world.losses)):
        yield f"other losses: {found}"
    skipped = "loss is not finite" in answer.err  # numbers that overflow with a delta
    whole = skipped or len(found) == len(world.losses)
    if not whole or not all(map(math.isfinite, found.values())):
        yield f"no losses: {found}"


def _close(one: dict[str, float], other: dict[str, float]) -> bool:
    near = all(math.isclose(one[n], other[n], rel_tol=1e-5) for n in one.keys() & other.keys())
    return near and one.keys() == other.keys()


def _template(case: Case, world: World) -> Iterator[str]:
    yield from _as_expected(case, world.score(world.case, world.data, "--accept-base"), world)


def _base(case: Case, world: World) -> Iterator[str]:
    answer = world.score(world.case, world.data, "--accept-base")
    yield from _as_expected(case, answer, world)
    if answer.code == 0 and not case.right:
        yield from _loads(world.case)


def _loads(folder: Path) -> Iterator[str]:
    """Whether transformers itself would load what was accepted, whole."""
    from transformers import AutoModelForCausalLM

    try:
        _, info = AutoModelForCausalLM.from_pretrained(
            folder,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            local_files_only=True,
            dtype="float32",  # as the verbs are asked to; what config.json says of it is not read
        )
    except Exception as error:
        yield f"wrong success: {type(error).__name__}: {str(error)[:150]}"
    else:
        if info["missing_keys"] or info["mismatched_keys"]:
            yield "wrong success: weights are missing"


def _data(case: Case, world: World) -> Iterator[str]:
    (name,) = case.files
    answer = world.score(world.base, world.case / name, *flags(case))
    yield from _as_expected(case, answer, world)


def _state(case: Case, world: World) -> Iterator[str]:
    seed = case.name.split("/")[1]
    if seed in ("finished", "stopped"):
        answer = world.train(world.case)
        yield from _told(answer)
        if answer.code == 0:
            yield from _same_run(case, world)
    elif seed == "compared":
        yield from _told(command("report", world.case))
    else:
        yield from _told(command("loo", world.case, "--status"))
        if case.name.endswith(".jsonl") or "/records" in case.name or "/experiment" in case.name:
            yield from _told(command("report", world.case))
        elif zlib.crc32(case.name.encode()) % 8 == 0:
            made = world.root / "output.yaml"
            made.write_bytes(world.experiment())
            yield from _told(command("loo", made, "-o", world.case))
            made.unlink()


def _same_run(case: Case, world: World) -> Iterator[str]:
    """A run that was said to be done has the weights and losses of one that was never spoiled."""
    good, found = world.made["finished"], contents(world.case)
    weights = "adapter_model.safetensors"
    if f"/{weights}" not in case.name and found.get(weights) != good[weights]:
        yield "other weights"
    if case.name.split("/")[1] == "stopped" and _losses(found) != _losses(good):
        yield "another curve"


def _losses(files: Any) -> list[Any]:
    points = map(json.loads, files.get("curve.jsonl", b"").splitlines())
    return [(p["step"], p.get("dev_loss"), p.get("test_loss")) for p in points]


def _database(case: Case, world: World) -> Iterator[str]:
    answer = command("scan", world.library, "--json")
    yield from _told(answer)
    if answer.code == 0:
        found = [one["kind"] for one in json.loads(answer.out)["checkpoints"]]
        if found != ["lora", "lora"]:
            yield f"scan: {found}"
    answer = world.score(world.base, world.data)
    yield from _told(answer)
    if "changed while it was scored" in answer.out + answer.err:  # a digest that was made up
        answer = world.score(world.base, world.data)
    if answer.code != 0:
        yield f"refused though it is fine: {answer.err[:200]!a}"
    elif not _close(losses_of(answer), dict(world.losses)):
        yield f"other losses: {losses_of(answer)}"


def _name(case: Case, world: World) -> Iterator[str]:
    place, name = case.name.split("/")[1:3]
    if place in ("donor", "above", "file"):
        answer = command("scan", world.case, "--json")
        yield from _told(answer)
        if answer.code == 0 and name not in _UNSEEN:
            usable = json.loads(answer.out)["checkpoints"]
            if len(usable) != 2:
                yield f"scan found {len(usable)} of 2"
        yield from _told(command("scan", world.case))
        yield from _told(command("check", world.case))
        yield from _told(world.score(world.base, world.data, library=world.case))
        return
    text = os.fsdecode((world.case / "name").read_bytes())
    if place == "output":
        folders = [world.library / f"donor{n}" for n in (1, 2)]
        yield from _told(command("merge", *folders, "-o", f"{world.case}/inner/{text}"))
        return
    more: dict[str, Any] = {"name": text} if place == "experiment" else {}
    tasks = {text: str(world.root / "task0.jsonl"), "b": str(world.root / "task1.jsonl")}
    made = world.case / "loo.yaml"
    made.write_bytes(world.experiment(tasks if place == "task" else None, **more))
    runs = name in ("out", "absolute", "out-precious", "up", "formula", "html", "latin-1", "wide")
    dry = () if runs and place == "task" else ("--dry-run",)
    yield from _told(command("loo", made, "-o", world.output, *dry))


def _size(case: Case, world: World) -> Iterator[str]:
    if "/rows/" in case.name:
        yield from _told(world.score(world.base, world.case / "data.jsonl"))
        yield from _told(world.score(world.base, world.case / "data.jsonl", "--drop-long"))
        return
    yield from _told(command("scan", world.case))
    yield from _told(command("check", world.case))
    yield from _told(
        command("merge", world.case / "donor1", world.case / "donor2", "-o", world.output)
    )


_DOORS: dict[str, Callable[[Case, World], Iterator[str]]] = {
    "template": _template,
    "base": _base,
    "data": _data,
    "state": _state,
    "database": _database,
    "name": _name,
    "size": _size,
}
