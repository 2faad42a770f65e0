"""The Markdown table: order, numbers, escapes."""

from __future__ import annotations

from dataclasses import replace

from mashup._report.formats import markdown, to_markdown
from mashup._report.sections import make_parts
from mashup._report.tables import Cell, Table
from mashup._report.write import read_studies


def table_of(folder):
    return markdown(make_parts(read_studies([folder])), None)


def row_of(text, name):
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_one_row_an_arm_with_its_numbers(make_folder):
    text = table_of(make_folder())
    assert row_of(text, "scratch")[:6] == ["scratch", "base", "66.0 %", "–", "–", "0.950"]
    assert row_of(text, "scratch")[8:] == ["0", "60", "60"]
    assert row_of(text, "mashup")[:4] == (
        ["mashup", "tweet_emotion + subjectivity", "74.0 %", "+8.0 [+3.0, +14.0]"]
    )
    assert row_of(text, "mashup")[6] == "12 / 24 (50 % fewer)"
    assert row_of(text, "merged-untrained")[6:] == ["never", "never", "6.8", "0", "6.8"]


def test_parts_come_in_order(make_folder):
    text = table_of(make_folder(budgets=(0.5, 1.0)))
    heads = ["**Mashup is better", "figures/gains.png", "| Starts from", "## Comparisons"]
    heads += ["## Curves", "## Costs", "## Steps and seconds to parity", "paper's rule"]
    heads += ["## Budget ladder", "## Source checkpoints", "## How this was measured"]
    places = [text.index(head) for head in heads]
    assert places == sorted(places)


def test_ladder_says_which_budget_is_enough(make_folder):
    text = table_of(make_folder(budgets=(0.5, 0.75, 1.0)))
    assert "Mashup reaches the dev loss of scratch's full run with 50 % of the steps" in text
    assert "cratch reaches" not in text


def test_what_sources_have_seen_stands_among_the_facts(make_folder):
    said = "a (1 in all) trained on up to 40% of the scoring sample of tickets"
    assert said in table_of(make_folder(about={"leaks": [said]})).split("## How this was")[1]


def test_no_ladder_without_budgets(make_folder):
    assert "adder" not in table_of(make_folder())


def test_costs_are_split(make_folder, plans):
    searched = replace(plans["mashup"], search=120.0)
    text = table_of(make_folder(mashup=searched)).split("## Costs")[1]
    assert row_of(text, "mashup") == ["mashup", "6.0", "0.8", "120", "60", "187"]


def test_arms_and_notes_of_the_comparison_are_shown(make_folder):
    arms = [
        {"arm": "random-two", "seed": 1, "parents": ["trec", "sst2"]},
        {"arm": "random-two", "seed": 2, "parents": ["sst2", "trec"]},
        {"arm": "mashup", "seed": 1, "parents": [], "note": "same as scratch"},
    ]
    text = table_of(make_folder(seeds=(1, 2), about={"arms": arms}))
    assert row_of(text, "random-two")[1] == "trec + sst2; sst2 + trec"
    assert row_of(text, "mashup")[1] == "base (same as scratch)"


def test_left_out_and_unchanged_are_listed(make_folder):
    problem = {"what": "truncated", "where": "lib/a|b", "found": "x\ny", "fix": "copy again"}
    text = table_of(make_folder(about={"left_out": [problem], "unchanged": ["zero"]}))
    assert "lib/a\\|b" in text
    assert "x y" in text
    assert "zero: loaded, but changed nothing" in text


def test_learning_rates_of_a_grid(make_folder):
    text = table_of(make_folder(about={"learning_rates": [1e-4, 5e-4]}))
    assert "0.0001 and 0.0005; each arm, target and seed takes the best by dev loss" in text


def test_long_rankings_are_cut_with_a_note(make_folder):
    library = [(f"run-{place}", -0.9 + 0.01 * place, 0.01) for place in range(45)]
    text = table_of(make_folder(library=library))
    assert "| run-9 " in text
    assert "| run-10 " not in text
    assert "And 36 more, in `tables/ranking.csv`." in text


def test_empty_library(make_folder, plans):
    same = plans["scratch"]
    text = table_of(make_folder(library=(), chosen=0, mashup=same, best_single=same))
    assert "\n\n**Nothing beat the base on tickets; start from the base.**" in text
    assert row_of(text, "best-single")[1] == "base"


def test_nothing_in_a_name_ends_a_cell():
    text = to_markdown(Table("x", "X", ("a", "b"), ((Cell("x|<i>"), Cell("1")),)))
    assert text.splitlines()[2] == "| x\\|&lt;i> |   1 |"


def test_narrow_columns_have_a_rule_that_is_one():
    table = Table("x", "X", ("Arm", "p"), ((Cell("a"), Cell("–")),))
    assert to_markdown(table).splitlines()[1] == "| --- | --: |"
