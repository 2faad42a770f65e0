"""Write everything that a reader sees, from the folders of experiments and comparisons alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mashup._report.canvas import to_png, to_svg_file
from mashup._report.formats import markdown, to_csv, to_latex
from mashup._report.material import is_comparison, read_folders
from mashup._report.page import page
from mashup._report.sections import Section, make_parts, side_by_side
from mashup._report.study import Study
from mashup._report.summarise import make_study
from mashup._report.trackers import check_tracker, send
from mashup._report.verdict import Verdict
from mashup.errors import Problem, UsageError
from mashup.outputs import disk_errors, only_one, sweep_inside, write_bytes, write_text
from mashup.results.records import consistent

_PAGE, _REPORT, _TABLE = "index.html", "report.md", "table.md"
_KINDS = ("tables", "figures")  # folders of a report


@dataclass(frozen=True)
class Report:
    """A report on disk.

    Attributes:
        path: the folder that it was written into.
        page: the HTML page. markdown: the same as Markdown.
        verdicts: the answer of each experiment, by its name.
        studies: the values that are shown.
    """

    path: Path
    page: Path
    markdown: Path
    verdicts: dict[str, Verdict]
    studies: tuple[Study, ...] = field(repr=False)


def report(
    folders: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    report_to: str = "none",
) -> Report:
    """Write pages, tables and pictures of finished experiments and comparisons again.

    Writes ``index.html``, ``report.md`` (``table.md`` for a comparison), ``tables/*.csv`` and
    ``*.tex``, ``figures/*.png`` and ``*.svg``. The same records give the same bytes. Torch is not
    needed.

    Args:
        folders: outputs of ``mashup loo`` and ``mashup compare``. Several stand side by side.
        output: folder to write into. By default the folder itself for a comparison,
            ``FOLDER/report`` for an experiment, and ``report`` for several.
        report_to: ``mlflow`` or ``wandb``: the tracker that gets each of them as a run.

    Raises:
        InputError: a folder without records or with damaged files; a comparison that is running.
        UsageError: no folder; two experiments with one name; a tracker that is not installed or
            refuses.
        OutputError: the disk is full or not writable.
    """
    given = [folders] if isinstance(folders, str | Path) else folders
    paths = [Path(folder) for folder in given]
    if not paths:
        raise UsageError(Problem("no folder", "`folders`", fix="give at least one folder"))
    target = Path(output) if output is not None else _default(paths)
    if report_to != "none":
        check_tracker(report_to)
    running = len(paths) == 1 and target.resolve() == paths[0].resolve()
    with consistent(Path(", ".join(map(str, paths)))):
        studies = read_studies(paths)
        with only_one(target, wait=not running):
            done = _write(studies, paths, target)
    if report_to != "none":
        inner = (path for kind in _KINDS for path in sorted((target / kind).iterdir()))
        send(studies, [done.page, done.markdown, *inner], target, report_to)
    return done


def write_report(folder: Path) -> Report:
    """The report of a comparison into its own folder, for a caller that holds its lock."""
    return _write(read_studies([folder]), [folder], folder)


def read_studies(folders: Sequence[Path]) -> tuple[Study, ...]:
    """The values that the report of some folders shows.

    Raises:
        InputError: a folder without records or with damaged files.
        UsageError: two experiments with one name.
    """
    studies = tuple(make_study(folder) for folder in read_folders(folders))
    names = [study.name for study in studies]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        fix = "give each folder once; experiments side by side need different names"
        raise UsageError(Problem("two experiments with one name", ", ".join(twins), fix=fix))
    return studies


def _default(folders: Sequence[Path]) -> Path:
    if len(folders) > 1:
        return Path("report")
    return folders[0] if is_comparison(folders[0]) else folders[0] / "report"


def _write(studies: tuple[Study, ...], folders: Sequence[Path], output: Path) -> Report:
    name = _TABLE if len(folders) == 1 and is_comparison(folders[0]) else _REPORT
    parts, models = make_parts(studies), side_by_side(studies)
    with disk_errors(output):
        for kind in _KINDS:
            (output / kind).mkdir(parents=True, exist_ok=True)
            sweep_inside(output / kind)
        for part in parts:
            for section in (part.first, *part.sections):
                _write_files(section, output, part.prefix)
        if models:
            _write_files(models, output, "")
        write_text(output / name, markdown(parts, models))
        write_text(output / _PAGE, page(parts, models, _beside(studies, folders, output, name)))
    verdicts = {part.study.name: part.verdict for part in parts}
    return Report(output, output / _PAGE, output / name, verdicts, studies)


def _beside(
    studies: Sequence[Study], folders: Sequence[Path], output: Path, markdown_name: str
) -> list[str]:
    """Files that the page links to: its Markdown, and the records if they lie near."""
    names = [markdown_name]
    for study, folder in zip(studies, folders, strict=True):
        if folder.resolve() == output.resolve():
            names += study.files
        elif folder.resolve() == output.resolve().parent:
            names += [f"../{name}" for name in study.files]
    return names


def _write_files(section: Section, output: Path, prefix: str) -> None:
    for table in section.tables:
        name = f"{prefix}{table.key}"
        write_text(output / f"tables/{name}.csv", to_csv(table))
        write_text(output / f"tables/{name}.tex", to_latex(table, name))
    for figure in section.figures:
        whole = figure.whole()
        write_bytes(output / f"figures/{prefix}{figure.key}.png", to_png(whole))
        write_bytes(output / f"figures/{prefix}{figure.key}.svg", to_svg_file(whole))
