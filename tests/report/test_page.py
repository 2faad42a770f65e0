"""The page: whole, alone, legible to all, safe."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from mashup._report import rebuild
from mashup._report.ranking_panel import drawable, short
from mashup.errors import InputError

VOID = {"meta", "img", "source", "br"}
SVG = {"circle", "rect", "path"}


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
    rebuild(folder)
    checker = Checker()
    checker.feed((folder / "index.html").read_text())
    checker.close()
    assert checker.open == []
    return checker


def test_page_is_valid_alone_and_small(make_folder):
    folder = make_folder(seeds=(1, 2, 3), budgets=(0.5, 1.0))
    page = check(folder)
    html = (folder / "index.html").read_text()
    assert len(html) < 5e6
    assert not re.search(r"""(src|href|srcset|url\()\s*=?\s*["']?\s*(https?:|//|file:)""", html)
    assert html.count("<script") == 1  # our own, which sorts; no other is allowed to run
    assert {name for name, _ in page.tags}.isdisjoint({"link", "iframe", "object"})
    sources = page.all("img") + page.all("source")
    uris = [image.get("src") or image.get("srcset") for image in sources]
    assert all(uri.startswith("data:image/svg+xml;base64,") for uri in uris)
    csp = next(m["content"] for m in page.all("meta") if m.get("http-equiv"))
    assert "default-src 'none'" in csp
    script = re.search(r"<script>(.*)</script>", html, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in csp


def test_headings_are_linked_files_named_and_tables_sorted(make_folder):
    page = check(make_folder(budgets=(0.5, 1.0)))
    links = [link["href"] for link in page.all("a")]
    ids = {heading["id"] for heading in page.all("h2")}
    assert {link[1:] for link in links if link.startswith("#")} == ids
    files = {"records.jsonl", "scores.json", "comparison.json", "table.md"}
    assert {link for link in links if not link.startswith("#")} == files
    assert {table.get("class") for table in page.all("table")} == {"sortable"}


def test_page_reads_on_a_phone_and_in_the_dark(make_folder):
    page = check(make_folder())
    metas = {meta.get("name"): meta.get("content") for meta in page.all("meta")}
    assert "width=device-width" in metas["viewport"]
    assert metas["color-scheme"] == "light dark"
    assert len(page.all("source")) == len(page.all("img")) == 5
    assert {source["media"] for source in page.all("source")} == {"(prefers-color-scheme: dark)"}
    scrolling = [div for div in page.all("div") if div.get("class") == "scroll"]
    assert len(scrolling) == len(page.all("table"))


def test_images_have_words(make_folder):
    alts = [image["alt"] for image in check(make_folder()).all("img")]
    assert all(len(alt) > 40 for alt in alts)
    assert "mashup ends at 74.0 %" in alts[0]
    assert "Chosen: tweet_emotion and subjectivity." in alts[-1]


def test_page_says_what_the_table_says(make_folder):
    text = check(make_folder()).text.replace("\u00a0", " ")
    assert "Mashup is better than scratch on tickets" in text
    for number in ("74.0 %", "0.730", "+8.0", "[+3.0, +14.0] better", "12 / 24", "−0.900 ± 0.050"):
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
    assert len(page.all("img")) == 5
    assert evil in page.text
    assert "<script" not in (folder / "table.md").read_text()


def test_empty_selection_has_no_numbers_to_boast_of(make_folder, plans):
    page = check(make_folder(chosen=0, mashup=plans["scratch"]))
    assert "Nothing beat the base on tickets; start from the base" in page.text
    assert not [dl for dl in page.all("dl") if dl.get("class") == "tiles"]


def test_long_rankings_are_folded(make_folder):
    library = [(f"run-{place}", -0.9 + 0.01 * place, 0.01) for place in range(45)]
    page = check(make_folder(library=library))
    assert "35 more checkpoints" in page.text
    assert "run-44" in page.text


def test_all_files_are_made_and_the_same_again(make_folder):
    folder = make_folder()
    names = ("index.html", "table.md", "curves.png", "curves.svg", "scores.png")
    rebuild(folder)
    first = {name: (folder / name).read_bytes() for name in names}
    rebuild(folder)
    assert first == {name: (folder / name).read_bytes() for name in names}
    assert first["curves.png"].startswith(b"\x89PNG")
    assert not list(folder.glob("*.part"))


def test_a_sparse_comparison_json_is_enough(make_folder):
    folder = make_folder()
    (folder / "comparison.json").write_text("{}")
    assert "Mashup is better than scratch" in check(folder).text


def test_missing_records_are_told(make_folder):
    folder = make_folder()
    (folder / "records.jsonl").unlink()
    with pytest.raises(InputError, match="cannot read records"):
        rebuild(folder)


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
        rebuild(folder)


def test_records_that_are_not_utf_8_are_told(make_folder):
    folder = make_folder()
    (folder / "records.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"damaged file|cannot read records"):
        rebuild(folder)


def test_names_in_pictures():
    assert short("a" * 40) == "a" * 11 + "…" + "a" * 12
    assert drawable("a日b") == "a□b"
