"""Write the report of one or several experiments, from their folders alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mashup._report.experiment.cells import Titled
from mashup._report.experiment.drawing import Drawing
from mashup._report.experiment.formats import to_csv, to_latex
from mashup._report.experiment.markdown import markdown
from mashup._report.experiment.material import ABOUT, RECORDS, read_folders
from mashup._report.experiment.models import side_by_side
from mashup._report.experiment.page import page
from mashup._report.experiment.sections import make_parts
from mashup._report.experiment.summarise import make_study
from mashup._report.experiment.summary import Study
from mashup.errors import Problem, UsageError
from mashup.files import disk_errors, only_one, write_bytes, write_text

PAGE, MARKDOWN = "index.html", "report.md"


def write_experiment_report(folders: Sequence[Path], output: Path) -> tuple[Study, ...]:
    """Read records, and write page, Markdown, tables and pictures.

    Makes ``index.html``, ``report.md``, ``tables/*.csv`` and ``*.tex``, ``figures/*.png`` and
    ``*.svg``; the same records give the same bytes.

    Args:
        folders: of ``mashup loo``; several stand side by side.
        output: folder to write into.

    Raises:
        InputError: a folder without records.
        UsageError: two experiments of one name.
        OutputError: the disk is full or not writable.
    """
    studies = tuple(make_study(folder) for folder in read_folders(folders))
    _refuse_twins(studies)
    with only_one(output, wait=True), disk_errors(output):
        _write(studies, output, _beside(folders, output))
    return studies


def _write(studies: Sequence[Study], output: Path, beside: Sequence[str]) -> None:
    parts, models = make_parts(studies), side_by_side(studies)
    for part in parts:
        for section in part.sections:
            _write_tables(section.tables, output, part.prefix)
            _write_drawings([section.drawing] if section.drawing else [], output, part.prefix)
    if models:
        _write_tables([models.titled], output, "")
        _write_drawings([models.drawing], output, "")
    write_text(output / MARKDOWN, markdown(parts, models))
    write_text(output / PAGE, page(parts, models, beside))


def _beside(folders: Sequence[Path], output: Path) -> list[str]:
    """Files that the page links to: its Markdown, and the records where they lie above it."""
    above = [one for one in folders if one.resolve() == output.resolve().parent]
    names = [name for name in (RECORDS, ABOUT) if above and (above[0] / name).exists()]
    return [MARKDOWN, *(f"../{name}" for name in names)]


def _refuse_twins(studies: Sequence[Study]) -> None:
    names = [study.name for study in studies]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        fix = "give each folder once; experiments that are compared need names of their own"
        raise UsageError(Problem("two experiments of one name", ", ".join(twins), fix=fix))


def _write_tables(tables: Sequence[Titled], output: Path, prefix: str) -> None:
    folder = output / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    for one in tables:
        name = f"{prefix}{one.key}"
        write_text(folder / f"{name}.csv", to_csv(one.table))
        write_text(folder / f"{name}.tex", to_latex(one.table, one.title, name))


def _write_drawings(drawings: Sequence[Drawing], output: Path, prefix: str) -> None:
    folder = output / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for one in drawings:
        write_bytes(folder / f"{prefix}{one.key}.png", one.png)
        write_bytes(folder / f"{prefix}{one.key}.svg", one.light)
