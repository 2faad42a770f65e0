"""Models of three families, and all that mergekit makes of them, in one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from oracles.cases import DIFFERENT, EQUAL, FILES, file_for
from oracles.peers import FAMILIES, find_mergekit, run_mergekit, write_family
from wholes import relative_of, tensors_of, write_whole


def write_models(family: str, folder: Path) -> None:
    """``base``, ``zero`` (a base of zeros), and parents: ``p`` unlike each other, ``q`` alike."""
    base = write_family(family, folder / "base")
    zeros = {name: torch.zeros_like(tensor) for name, tensor in tensors_of(base).items()}
    write_whole(folder / "zero", zeros, base)
    shared = relative_of(base, folder / "shared", seed=99, size=0.05)
    for n in range(3):
        relative_of(base, folder / f"p{n}", seed=n, size=0.05)
        relative_of(shared, folder / f"q{n}", seed=n, size=0.03)
        relative_of(folder / f"p{n}", folder / f"h{n}", seed=9, size=0, dtype=torch.bfloat16)
    opposite = {n: 2 * t - tensors_of(folder / "p0")[n] for n, t in tensors_of(base).items()}
    write_whole(folder / "opposite", opposite, base)
    relative_of(folder / "opposite", folder / "far", seed=5, size=0.08)
    relative_of(folder / "p0", folder / "near", seed=5, size=0.001)
    relative_of(base, folder / "hbase", seed=9, size=0, dtype=torch.bfloat16)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a family, with its models in it."""
    folder = tmp_path_factory.mktemp("families")
    for family in FAMILIES:
        write_models(family, folder / family)
    return folder


@pytest.fixture(scope="session")
def peer(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mergekit makes: ``FAMILY/CASE`` is a model."""
    python = find_mergekit()
    if python is None:
        pytest.skip("mergekit is not here: 'make oracles', or MASHUP_MERGEKIT=its Python")
    folder = tmp_path_factory.mktemp("mergekit")
    wanted = [
        one.for_mergekit(models / family, folder / family / name)
        for family in FAMILIES
        for name, one in (EQUAL | DIFFERENT).items()
        if name in EQUAL or family == "llama"
    ]
    wanted += [
        {
            "config": file_for(name, models / "llama"),
            "output": str(folder / "llama" / name),
            "seed": 0,
        }
        for name in FILES
    ]
    run_mergekit(python, wanted, folder)
    return folder
