"""CSV that reads back, LaTeX that nothing breaks out of."""

import csv
import io
import re

import pytest

from mashup._report.formats import escape_tex, to_csv, to_latex
from mashup._report.tables import Cell, Table

TABLE = Table(
    "gains",
    "Gains of 100 % & more",
    ("Arm", "Gain, points"),
    (
        (Cell("a_b & 50 %"), Cell("+8.0", "[+3.0, +14.0]", "better", 0.0803)),
        (Cell('say "hi", then\nleave'), Cell("–")),
    ),
)


def test_csv_reads_back_with_full_numbers():
    rows = list(csv.reader(io.StringIO(to_csv(TABLE))))
    assert rows[0] == ["Arm", "Gain, points", "Gain, points: interval"]
    assert float(rows[1][1]) == 0.0803
    assert rows[1][2] == "[+3.0, +14.0]"
    assert rows[2][0] == 'say "hi", then\nleave'


@pytest.mark.parametrize("name", ["=1+1", "+1+cmd|' /C calc'!A0", "-a", "@x", "\tx", "\rx", "\n=x"])
def test_a_name_in_csv_is_no_formula(name):
    table = Table("x", "X", ("Arm", "Gain"), ((Cell(name, name), Cell("+1.0", value=-1.5)),))
    rows = list(csv.reader(io.StringIO(to_csv(table), newline="")))
    assert rows[1] == [f"'{name}", f"'{name}", "-1.5"]


@pytest.mark.parametrize("number", ["+8.0", "-8.0", "+8.0 %", "+0.1 ± 0.02", "–", "−3", "a-b"])
def test_numbers_and_names_stay_as_they_are_in_csv(number):
    table = Table("x", "X", ("Arm",), ((Cell(number),),))
    assert list(csv.reader(io.StringIO(to_csv(table))))[1] == [number]


def test_latex_has_a_row_a_row_and_the_columns_that_it_says():
    tex = to_latex(TABLE, "gains")
    assert r"\begin{tabular}{lr}" in tex
    body = tex.split(r"\midrule")[1].split(r"\bottomrule")[0].strip()
    assert body.count(r"\\") == 2
    assert r"a\_b \& 50 \%" in body
    assert r"\textbf{+8.0 {[}+3.0, +14.0]}" in body
    assert r"\caption{Gains of 100 \% \& more}" in tex


def test_nothing_in_a_name_is_a_command():
    text = escape_tex(r"\input{x} $y$ #1 ~^")
    bare = re.sub(r"\\text(backslash|asciitilde|asciicircum)\{\}|\\[{}$#]", "", text)
    assert not set(bare) & set("\\{}$#~^")
