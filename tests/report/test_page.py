"""The page: whole, alone, legible to all, safe."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from mashup._report.write import report
from mashup.errors import InputError

VOID = {"meta", "img", "source", "br"}
SVG = {"circle", "rect", "path", "polyline"}


class Checker(HTMLParser):
    """Every tag is closed in its order; attributes are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in SVG
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def check(folder):
    report(folder)
    checker = Checker()
    checker.feed((folder / "index.html").read_text())
    checker.close()
    assert checker.open == []
    return checker


def test_page_is_valid_alone_and_small(make_folder):
    folder = make_folder(seeds=(1, 2, 3), budgets=(0.5, 1.0))
    page = check(folder)
    html = (folder / "index.html").read_text()
    assert len(html) < 2e5
    assert not re.search(r"""(src|href|srcset|url\()\s*=?\s*["']?\s*(https?:|//|file:)""", html)
    assert html.count("<script") == 1  # our own, which sorts; no other is allowed to run
    assert {name for name, _ in page.tags}.isdisjoint({"link", "iframe", "object"})
    assert "url(" not in html
    csp = next(m["content"] for m in page.all("meta") if m.get("http-equiv"))
    assert "default-src 'none'" in csp
    script = re.search(r"<script>(.*)</script>", html, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in csp


def test_headings_are_linked_files_named_and_tables_sorted(make_folder):
    folder = make_folder(budgets=(0.5, 1.0))
    page = check(folder)
    links = [link["href"] for link in page.all("a")]
    ids = [one["id"] for one in page.all("details") if "id" in one]
    assert len(ids) == len(set(ids)) == len(page.all("h2"))
    assert {link[1:] for link in links if link.startswith("#")} == {*ids, "results"}
    files = {"records.jsonl", "scores.json", "comparison.json", "table.md"}
    linked = {link for link in links if not link.startswith("#")}
    assert {link for link in linked if not link.startswith("tables/")} == files
    assert all((folder / link).exists() for link in linked)
    assert {table.get("class") for table in page.all("table")} == {"sortable"}


def test_page_reads_on_a_phone_and_in_the_dark(make_folder, tmp_path):
    page = check(make_folder())
    metas = {meta.get("name"): meta.get("content") for meta in page.all("meta")}
    assert "width=device-width" in metas["viewport"]
    assert metas["color-scheme"] == "light dark"
    html = (tmp_path / "index.html").read_text()
    assert "@media (prefers-color-scheme: dark)" in html
    colours = set(re.findall(r"(?:fill|stroke)=\"([^\"]+)\"", html))
    assert all(colour == "none" or colour.startswith("var(--") for colour in colours)
    scrolling = [div for div in page.all("div") if div.get("class") == "scroll"]
    assert len(scrolling) == len(page.all("table"))


def test_images_have_words(make_folder):
    images = [one for one in check(make_folder()).all("svg") if one.get("role") == "img"]
    alts = [image["aria-label"] for image in images]
    assert len(alts) == 7  # gains, four of curves, costs, ranking
    assert all(len(alt) > 40 for alt in alts)
    assert "Mashup against scratch: better than scratch, +8.0 points" in alts[0]
    assert "mashup 74.0 %" in alts[1]
    assert "Chosen: tweet_emotion and subjectivity." in alts[-1]


def test_page_says_what_the_table_says(make_folder):
    text = check(make_folder()).text.replace("\u00a0", " ")
    assert "Mashup is better than scratch on tickets" in text
    for number in ("74.0 %", "0.730", "+8.0", "[+3.0, +14.0]", "12 / 24", "−0.900 ± 0.050"):
        assert number in text
    assert "One seed" in text
    assert "never" in text


def test_names_cannot_become_markup(make_folder):
    evil = "<script>alert(1)</script>"
    problem = {"what": evil, "where": '"><img src=x>', "found": evil, "fix": evil}
    folder = make_folder(
        task=evil, library=[(evil, -0.5, 0.1), ("$x$ 日本", -0.3, 0.1)],
        about={"left_out": [problem], "sentence": evil},
    )  # fmt: skip
    page = check(folder)
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert evil in page.text
    assert "<script" not in (folder / "table.md").read_text()


def test_empty_selection_has_no_numbers_to_boast_of(make_folder, plans):
    page = check(make_folder(chosen=0, mashup=plans["scratch"]))
    assert "Nothing beat the base on tickets; start from the base" in page.text
    assert "points" not in page.text.partition("Nothing beat")[2].partition("Gain of each")[0]


def test_long_rankings_are_folded(make_folder):
    library = [(f"run-{place}", -0.9 + 0.01 * place, 0.01) for place in range(45)]
    page = check(make_folder(library=library))
    assert "36 more rows" in page.text
    assert "run-44" in page.text


def test_all_files_are_made_and_the_same_again(make_folder):
    folder = make_folder()
    names = ("index.html", "table.md", "tables/arms.csv", "figures/curves.png",
             "figures/gains.svg", "figures/ranking.png")  # fmt: skip
    report(folder)
    first = {name: (folder / name).read_bytes() for name in names}
    report(folder)
    assert first == {name: (folder / name).read_bytes() for name in names}
    assert first["figures/curves.png"].startswith(b"\x89PNG")
    assert not list(folder.glob("*.part"))


def test_a_sparse_comparison_json_is_enough(make_folder):
    folder = make_folder()
    (folder / "comparison.json").write_text("{}")
    assert "Mashup is better than scratch" in check(folder).text


def test_missing_records_are_told(make_folder):
    folder = make_folder()
    (folder / "records.jsonl").unlink()
    with pytest.raises(InputError, match="cannot read records"):
        report(folder)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("scores.json", "[]"),
        ("scores.json", "{}"),
        ("scores.json", "[7]"),
        ("scores.json", '[{"name": "base"}]'),
        (
            "scores.json",
            '[{"name": "a", "digest": "b", "loss": "x", "accuracy": 0, "difference": 0}]',
        ),
        ("comparison.json", "[]"),
        ("records.jsonl", "[]"),
        ("records.jsonl", "[" * 100_000),
        ("records.jsonl", "\x00"),
    ],
)
def test_files_that_are_damaged_are_told(make_folder, file, text):
    folder = make_folder()
    (folder / file).write_text(text)
    with pytest.raises(InputError, match=r"damaged file|cannot read records"):
        report(folder)


def test_records_that_are_not_utf_8_are_told(make_folder):
    folder = make_folder()
    (folder / "records.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"damaged file|cannot read records"):
        report(folder)


def test_date_hardware_and_command_are_shown_where_they_are_known(make_folder):
    made = {"date": "2026-11-30", "hardware": "2 CPU cores", "command": "mashup compare lib"}
    page = check(make_folder(about={"made": made}))
    assert "2026-11-30 · 2 CPU cores · mashup compare lib" in page.text
    assert "Hardware" not in check(make_folder()).text


def test_form_and_knowledge_of_the_checkpoints_are_shown(make_folder):
    folder = make_folder(about={"criterion": "knowledge"})
    scores = json.loads((folder / "scores.json").read_text())
    known = {"form": 0.11, "knowledge": 0.41, "knowledge_error": 0.05}
    (folder / "scores.json").write_text(json.dumps([row | known for row in scores]))
    text = check(folder).text.replace("\u00a0", " ")
    assert "Knowledge, bits" in text
    assert "+0.41 ± 0.05" in text
    assert "Missing knowledge − base" in text


def test_a_running_comparison_is_left_alone(make_folder):
    from mashup.outputs import only_one

    folder = make_folder()
    with only_one(folder), pytest.raises(InputError):
        report(folder)
