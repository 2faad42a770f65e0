"""The folder of a base model: as given, or in the Hub's cache, downloaded if need be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from mashup.errors import InputError, Problem
from mashup.files import read_json
from mashup.hub import REPOSITORY, faults, patiently, problem_of, quiet

_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.py", "README.md")
_EXPECTED = "the folder of a model with config.json and weights, or a Hub id"
_MOST_PARTS = 10_000  # layers or experts; the largest models have some hundreds
_ADAPTER = "adapter_config.json"


def locate(name: str | Path, files: Sequence[str] = _FILES) -> Path:
    """The folder that holds the files of ``name``, a folder or a Hub id.

    Args:
        name: of the base model.
        files: patterns of what is downloaded where it is not in the Hub's cache.

    Raises:
        InputError: neither the folder of a model nor a reachable model of the Hub.
    """
    check_base(name)
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name), allow_patterns=list(files)))
    except faults() as error:
        raise InputError(_unreachable(str(name), error, ())) from error


def check_base(name: str | Path, named: Iterable[str] = ()) -> None:
    """Look whether ``name`` can be a base model, without loading it.

    Args:
        name: a folder or a Hub id.
        named: the bases that the checkpoints at hand name, for a suggestion.

    Raises:
        InputError: no such folder or Hub model, a file, an adapter, or a folder without a model.
    """
    path = Path(name)
    try:
        is_there, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or that no file system takes
        is_there, is_folder = False, False
    if is_folder:
        if not (path / "config.json").exists():
            raise InputError(_no_model(path, named))
        _check_depth(path)
    elif is_there:
        fix = _suggestion(named) or "give the folder that holds it"
        code = "base.not-a-model"
        raise InputError(Problem("base model is a file", str(name), "a file", _EXPECTED, fix, code))
    else:
        _check_hub(str(name), named)


def _check_depth(folder: Path) -> None:
    """Refuse a model of so many parts that transformers would never be done with making them."""
    try:
        config = read_json(folder / "config.json")
    except InputError:
        return  # whoever reads the model says what is wrong
    settings = config if isinstance(config, dict) else {}
    for inner in (settings, *(one for one in settings.values() if isinstance(one, dict))):
        for key, value in inner.items():
            counts = "layer" in key or "experts" in key
            if counts and isinstance(value, int | float) and value > _MOST_PARTS:
                found, expected = f"{key}: {value:.3g}", f"at most {_MOST_PARTS:,}"
                fix = "copy or download config.json again"
                raise InputError(
                    Problem("cannot load base model", str(folder), found, expected, fix)
                )


def _no_model(folder: Path, named: Iterable[str]) -> Problem:
    if not (folder / _ADAPTER).exists():
        fix = _suggestion(named) or "give the folder that holds config.json"
        found, code = "a folder without config.json", "base.not-a-model"
        return Problem("no model in the folder", str(folder), found, _EXPECTED, fix, code)
    base = base_of_adapter(folder) or next(iter(Counter(filter(None, named))), "")
    fix = f"give the base that it was trained on{f', {base}' if base else ''}"
    found, code = f"{_ADAPTER} and no config.json", "base.adapter"
    return Problem("base model is an adapter", str(folder), found, _EXPECTED, fix, code)


def base_of_adapter(folder: Path) -> str:
    """Name of the base that an adapter's settings have, "" if they cannot be read."""
    try:
        config = read_json(folder / _ADAPTER)
    except InputError:
        return ""
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else ""
    return base.strip() if isinstance(base, str) else ""


def _check_hub(name: str, named: Iterable[str]) -> None:
    """Whether the Hub, or its cache, has a model of this name."""
    if not name or name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name:
        raise InputError(_missing(name, "no such folder", named))
    from huggingface_hub import hf_hub_url, try_to_load_from_cache
    from huggingface_hub.file_download import get_hf_file_metadata

    if not REPOSITORY.fullmatch(f"hub/{name}" if "/" not in name else name):
        raise InputError(_missing(name, "no such folder, and no name that the Hub allows", named))
    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    try:
        with quiet():  # a download would try again and again for 23 seconds
            patiently(lambda: get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=10))
    except faults() as error:
        raise InputError(_unreachable(name, error, named)) from error


def _unreachable(name: str, error: Exception, named: Iterable[str]) -> Problem:
    """No such folder, and the Hub says no as well: why, in short."""
    why = problem_of(error, name)
    if why.code == "hub.gated":
        fix, code = why.fix, "base.gated"
        return Problem("cannot load base model", name, why.found, _EXPECTED, fix, code)
    if why.code in ("hub.missing", "hub.file"):
        return _missing(name, "no such folder, and no such model on the Hub", named)
    found = f"no such folder, not in the cache of the Hub, and {why.what}: {why.found}"
    return _missing(name, found, named, f"check the path, or {why.fix}")


def _missing(name: str, found: str, named: Iterable[str], fix: str = "") -> Problem:
    fix = _suggestion(named) or fix or "check the path, or the Hub id"
    return Problem("no such base model", name, found, _EXPECTED, fix, "base.missing")


def _suggestion(named: Iterable[str]) -> str:
    """What most checkpoints name as their base."""
    counts = Counter(filter(None, named)).most_common(1)
    if not counts:
        return ""
    base, count = counts[0]
    who = "1 checkpoint names" if count == 1 else f"{count:,} checkpoints name"
    return f"{who} {base}: did you mean it?"
