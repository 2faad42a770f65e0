"""The pictures: no arm is left out, and a row has no more arms than can be told apart."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from mashup._report.canvas import drawable, short, to_png, to_svg_file
from mashup._report.figures import arms_figure, curves_figures, gains_figure, panels
from mashup._report.plots import Look, Series, lines
from mashup._report.style import LIGHT, PALETTE, colour_of, dash_of, shape_of
from mashup._report.write import read_studies
from studies import plans, write_study


def study_of(folder, arms, targets=("trec", "sst2")):
    (study,) = read_studies([write_study(folder, arms=arms, targets=targets)])
    return study


def words(figure):
    """All texts of a picture."""
    root = ET.fromstring(to_svg_file(figure.whole()))
    return [one.text for one in root.iter() if one.tag.endswith("}text")]


def titles(figure):
    root = ET.fromstring(to_svg_file(figure.whole()))
    return [one.text for one in root.iter() if one.tag.endswith("}title")]


def test_the_first_picture_has_mashup_on_every_target_and_their_mean(tmp_path):
    study = study_of(tmp_path, plans())
    figure = gains_figure(study)
    assert [one for one in words(figure) if one in ("trec", "sst2", "mean over targets")] == [
        "trec", "sst2", "mean over targets",
    ]  # fmt: skip
    assert {one.partition(",")[0] for one in titles(figure)} == {"mashup"}
    assert "best-single" not in words(figure)


def test_few_arms_share_the_row_of_a_target(tmp_path):
    few = {name: plans()[name] for name in ("scratch", "mashup", "best-single")}
    figure = arms_figure(study_of(tmp_path, few))
    assert [look.name for look in figure.looks] == ["mashup", "best-single"]
    assert {"mashup, trec", "best-single, sst2"} <= {t.partition(":")[0] for t in titles(figure)}


def test_many_arms_have_a_row_each(tmp_path):
    variants = {f"k{k}": plans()["mashup"] for k in range(1, 9)}
    figure = arms_figure(study_of(tmp_path, plans() | variants))
    assert figure.looks == ()
    assert {
        "mashup", "best-single", "random", "scratch-longer", "average-all", *variants,
    } <= set(words(figure))  # fmt: skip


def test_one_target_has_a_row_for_each_arm_in_the_first_picture(tmp_path):
    study = study_of(tmp_path, plans(), targets=("trec",))
    assert {"mashup", "best-single", "average-all"} <= set(words(gains_figure(study)))
    assert arms_figure(study) is None


def test_every_run_has_its_curve(study_folder):
    (study,) = read_studies([study_folder])
    figures = curves_figures(study)
    assert [figure.key for figure in figures] == [
        "curves-accuracy", "curves-accuracy-seconds", "curves-dev", "curves-dev-seconds",
    ]  # fmt: skip
    for figure in figures:
        assert len(figure.drawings) == len(study.targets)
        told = titles(figure)
        assert sum(one.startswith("mashup, seed 43") for one in told) == len(study.targets)
        assert sum(one.startswith("mashup, step 0:") for one in told) == len(study.targets)


def test_accuracy_is_of_dev_rows_where_test_rows_were_read_at_the_end_alone(study_folder):
    (study,) = read_studies([study_folder])
    assert panels(study)[0].title == "Test accuracy, %"
    target = study.targets[0]
    arm = target.arms[0]
    blank = replace(arm.runs[0].points[0], test_accuracy=None, test_loss=None)
    run = replace(arm.runs[0], points=(blank, *arm.runs[0].points[1:]))
    arms = (replace(arm, runs=(run,)), *target.arms[1:])
    brief = replace(study, targets=(replace(target, arms=arms),))
    assert panels(brief)[0].title == "Dev accuracy, %"
    assert "Dev accuracy, %" in words(curves_figures(brief)[0])


def test_a_run_that_is_judged_early_holds_its_value_in_the_mean(study_folder):
    """With the best points kept at different steps, the mean ended at the earliest of them."""
    (study,) = read_studies([study_folder])
    target = study.targets[0]
    arm = next(one for one in target.arms if one.name == "mashup")
    early, late = arm.runs[0], arm.runs[1]
    early = replace(early, points=early.points[:2])
    runs = (early, late)
    arms = tuple(replace(arm, runs=runs) if one is arm else one for one in target.arms)
    only = replace(study, targets=(replace(target, arms=arms),))
    (drawing,) = curves_figures(only)
    end = (early.last.test_accuracy + late.last.test_accuracy) / 2
    last = f"mashup, step {late.last.step}: {100 * end:.1f} %"
    assert last in titles(drawing)


@pytest.mark.parametrize("ys", [(0.5, 0.5), (0.0, 0.0), (-1.0, 3.0), (1e-9, 2.0), (100, 5e6)])
def test_any_values_can_be_drawn(ys):
    look = Look("mashup", "mashup", "circle")
    points = tuple(zip((0.0, 1.0), ys, strict=True))
    drawing = lines("x", "steps", [Series(look, points)], loss=True)
    assert to_svg_file(drawing).startswith(b"<?xml")
    assert len(drawing.items) < 60
    alone = lines("x", "steps", [Series(look, points[:1])])
    assert to_png(alone).startswith(b"\x89PNG")


def test_an_arm_whose_colour_comes_again_has_another_line():
    looks = {(colour_of(f"k{place}", place), dash_of(f"k{place}", place)) for place in range(16)}
    assert len(looks) == 16
    assert dash_of("mashup", 9) == ""


def luminance(colour):
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_colours_can_be_read_on_their_paper(theme):
    """WCAG 2.1: 4.5 for text, 3 for marks."""
    paper = PALETTE["paper"][theme]
    for name in ("ink", "muted", "better", "worse", "chosen"):
        assert contrast(PALETTE[name][theme], paper) >= 4.5, name
    for name in set(PALETTE) - {"paper", "line"}:
        assert contrast(PALETTE[name][theme], paper) >= 3, name


def test_every_arm_has_a_colour_and_a_mark_that_exist():
    from mashup._report.style import SHAPES

    for place, arm in enumerate(("scratch", "mashup", "race", "blind", "anything", "else")):
        assert colour_of(arm, place) in LIGHT
        assert shape_of(arm, place) in SHAPES


def test_names_in_pictures():
    assert short("a" * 40) == "a" * 11 + "…" + "a" * 12
    assert drawable("a日b") == "a□b"
