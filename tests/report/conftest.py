"""Folders to report on: a comparison that a test shapes, and one whole experiment."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from armresults import PLANS, Plan
from comparisons import write_comparison
from mashup._report.write import report
from studies import write_study

MakeFolder = Callable[..., Path]


@pytest.fixture
def plans() -> dict[str, Plan]:
    """The arms of :func:`make_folder`, to change some."""
    return dict(PLANS)


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """:func:`comparisons.write_comparison` into the folder of the test."""
    return partial(write_comparison, tmp_path)


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole experiment, made once for all tests that only read it."""
    folder = tmp_path_factory.mktemp("study")
    return write_study(folder, seeds=(42, 43), budgets=(0.5, 1.0), singles=True)


@pytest.fixture(scope="session")
def written(study_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its report."""
    return report(study_folder, tmp_path_factory.mktemp("report")).path
