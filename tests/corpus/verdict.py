"""Run a case through the doors of the package and say what is wrong with the answer."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

import mashup
from corpus import lora_reading, model_reading, seeds
from corpus.cases import Case
from corpus.place import HangError, Place, limited
from corpus.reading import LARGE, Wrong
from corpus.seeds import CONFIG
from mashup.errors import MashupError, OutputError

SECONDS = 2.0  # of a case, in processor time of this process
#: Files that say nothing of the weights; a reader may refuse to go on without them, or not.
_BESIDE = ("train_prompts.txt", "tokenizer", "mashup.json", "README.md", "chat_", "generation_")


def meaning(case: Case, place: Place) -> tuple[dict[str, Tensor], bool]:
    """The merge that the case and its good parent must give, and whether refusing is fine too.

    Raises:
        Wrong: the case must be refused.
    """
    beside = case.name.split("/", 2)[2] if case.file == "folder" else case.file
    debatable = beside.startswith(_BESIDE)
    if case.seed == "lora":
        found, odd = lora_reading.read_lora(place.case)
        good, _ = lora_reading.read_lora(place.good(case))
        merged = _mean(found, good)
        large = any(float(tensor.abs().max()) > LARGE for tensor in merged.values())
        return merged, debatable or odd or large
    found = model_reading.read_model(place.case)
    good = model_reading.read_model(place.good(case))
    if {n: t.shape for n, t in found.items()} != {n: t.shape for n, t in good.items()}:
        raise Wrong("other tensors or shapes")
    if case.file == CONFIG:
        model_reading.check_settings(place.case, tied=case.seed == "tied")
        debatable = debatable or "_name_or_path" in case.name
    return _mean(found, good), debatable


def _mean(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for name in one.keys() & other.keys():
        if one[name].shape != other[name].shape:
            raise Wrong(f"{name}: another shape")
    zero = torch.zeros(())
    return {n: (one.get(n, zero) + other.get(n, zero)) / 2 for n in one.keys() | other.keys()}


def faults(case: Case, place: Place) -> Iterator[str]:
    """Everything that is wrong with how the package answers to a case."""
    seeds.write(case.files, place.case)
    shutil.rmtree(place.output, ignore_errors=True)
    try:
        expected, debatable = meaning(case, place)
    except Wrong as wrong:
        expected, debatable = None, str(wrong)
    begun = time.process_time()
    try:
        with limited():
            yield from _merge(case, place, expected, debatable)
            yield from _looked_at(place)
    except HangError:
        yield "hangs"
    if time.process_time() - begun > SECONDS:
        yield f"took {time.process_time() - begun:.1f} s"


def _merge(
    case: Case, place: Place, expected: dict[str, Tensor] | None, debatable: bool | str
) -> Iterator[str]:
    parents = [place.case, place.good(case)]
    try:
        mashup.merge(parents, output=place.output, base=place.base(case))
    except OutputError as error:
        yield f"too much to write: {error}"
    except MashupError as error:
        yield from _message(error)
        if place.left_behind:
            yield "something was written"
        if expected is not None and not debatable:
            yield f"refused though it is fine: {str(error)[:300]}"
    except Exception as error:
        yield f"merge: {type(error).__name__}: {str(error)[:200]}"
    else:
        if expected is None:
            yield f"wrong success: {debatable}"
        else:
            yield from _compare(case, place.output, expected)


def _message(error: MashupError) -> Iterator[str]:
    text = str(error)
    if error.exit_code != 3:
        yield f"exit code {error.exit_code}"
    if len(text) > 20_000 or not text.replace("\n", "").isprintable():
        yield f"a message that is not clean: {text[:100]!a}"
    if not all(problem.where and problem.what for problem in error.problems):
        yield "a problem without a place"


def _looked_at(place: Place) -> Iterator[str]:
    """Scan and check, which describe what they cannot use."""
    doors = {
        "scan": lambda: mashup.scan(place.library).checkpoints,
        "check": lambda: mashup.check([place.library], read=True),
    }
    for name, door in doors.items():
        try:
            door()
        except MashupError as error:
            yield from _message(error)
        except Exception as error:
            yield f"{name}: {type(error).__name__}: {str(error)[:200]}"


def _compare(case: Case, output: Path, expected: Mapping[str, Tensor]) -> Iterator[str]:
    if case.seed == "lora":
        found, _ = lora_reading.read_lora(output)
        yield from lora_reading.unloadable(output)
    else:
        files = output.glob("*.safetensors")
        found = {n: t.double() for path in files for n, t in load_file(path).items()}
    if found.keys() != expected.keys():
        yield f"other tensors: {sorted(found.keys() ^ expected.keys())[:3]}"
        return
    for name, tensor in expected.items():
        error = float((found[name] - tensor).norm() / tensor.norm().clamp(min=1e-30))
        if not error < 1e-4:
            yield f"{name} is off by {error:.1e}"
