"""Write everything that a reader of a comparison sees, from the files of its folder alone."""

from __future__ import annotations

from pathlib import Path

from mashup._report.figures import curves_figure, ranking_figure, render
from mashup._report.markdown import markdown
from mashup._report.material import read_material
from mashup._report.page import page
from mashup._report.style import LIGHT
from mashup._report.summarise import summarise
from mashup.files import only_one, write_bytes, write_text


def rebuild(folder: Path) -> None:
    """Write table, pictures and page again.

    Needs ``records.jsonl``, ``scores.json`` and ``comparison.json`` in ``folder`` and makes
    ``table.md``, ``index.html``, ``curves.png``, ``curves.svg`` and ``scores.png``; the same
    files give the same bytes.

    Raises:
        InputError: a file is missing or not what it should be; the comparison is running.
        OutputError: the disk is full or not writable.
    """
    with only_one(folder):
        write_report(folder)


def write_report(folder: Path) -> None:
    """:func:`rebuild` for a caller that holds the folder's lock."""
    summary = summarise(read_material(folder))
    curves = curves_figure(summary, LIGHT)
    pictures = {
        "curves.svg": render(curves, "svg"),
        "curves.png": render(curves, "png"),
        "scores.png": render(ranking_figure(summary.ranking, LIGHT), "png"),
    }
    texts = {"table.md": markdown(summary), "index.html": page(summary)}
    for name, content in pictures.items():
        write_bytes(folder / name, content)
    for name, text in texts.items():
        write_text(folder / name, text)
