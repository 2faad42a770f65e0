"""The picture of gains: no arm is left out, and a line has no more arms than can be told apart."""

from mashup._report.experiment.forest import gain_lines, is_by_arm
from mashup._report.experiment.material import read_folders
from mashup._report.experiment.summarise import make_study
from mashup._report.style import LIGHT, dash
from studies import plans, write_study


def lines_of(folder, arms):
    (read,) = read_folders([write_study(folder, arms=arms, targets=("trec", "sst2"))])
    return gain_lines(make_study(read))


def test_few_arms_share_the_line_of_a_target(tmp_path):
    lines = lines_of(tmp_path, {name: plans()[name] for name in ("scratch", "mashup")})
    assert [line.name for line in lines] == ["trec", "sst2", "mean over targets"]
    assert not is_by_arm(lines)


def test_many_arms_have_a_line_each(tmp_path):
    variants = {f"k{k}": plans()["mashup"] for k in range(1, 9)}
    lines = lines_of(tmp_path, plans() | variants)
    assert is_by_arm(lines)
    assert {line.name for line in lines} == {
        "mashup", "best-single", "random", "scratch-longer", "average-all",
        *variants,
    }  # fmt: skip


def test_an_arm_whose_colour_comes_again_has_another_line():
    looks = {
        (LIGHT.colour(f"k{place}", place), str(dash(f"k{place}", place))) for place in range(16)
    }
    assert len(looks) == 16
    assert dash("mashup", 9) == "-"
