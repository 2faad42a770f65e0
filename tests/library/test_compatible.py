import pytest

from helpers import assert_problem, write_adapter, write_full, write_json
from mashup.errors import InputError
from mashup.library import fitting, scan

BASE = "owner/tiny"


def fit(folder, base=BASE, *, accept_base=False, skip_bad=False):
    checkpoints = scan(folder).checkpoints
    fit = fitting(checkpoints, base, accept_base=accept_base, skip_bad=skip_bad)
    return [checkpoint.name for checkpoint in fit.used], fit.left_out


def break_adapter(folder):
    (write_adapter(folder) / "adapter_model.safetensors").write_bytes(b"")


def test_adapters_of_another_base_are_left_out_and_said_so(tmp_path):
    write_adapter(tmp_path / "a")
    write_adapter(tmp_path / "other", base="owner/large")
    used, left_out = fit(tmp_path, "/local/copy/of/tiny")
    assert used == ["a"]
    assert_problem(*left_out, "adapter of another base", where="other", found="owner/large")


def test_a_whole_model_that_names_no_base_is_told_by_its_weights(tmp_path):
    write_adapter(tmp_path / "a")
    write_full(tmp_path / "full")
    assert fit(tmp_path) == (["a", "full"], ())


def test_a_whole_model_of_another_base_is_left_out_and_said_so(tmp_path):
    write_adapter(tmp_path / "a")
    write_json(write_full(tmp_path / "full") / "mashup.json", {"base": "owner/large"})
    used, left_out = fit(tmp_path)
    assert used == ["a"]
    assert_problem(*left_out, "whole model of another base", where="full", found="owner/large")


def test_a_blank_base_is_a_problem_that_the_user_decides_about(tmp_path):
    write_adapter(tmp_path / "a")
    write_adapter(tmp_path / "blank", base=" ")
    with pytest.raises(InputError) as caught:
        fit(tmp_path)
    assert_problem(*caught.value.problems, "base model not named", where="blank")
    assert "--accept-base" in caught.value.problems[0].fix
    assert fit(tmp_path, accept_base=True) == (["a", "blank"], ())
    used, left_out = fit(tmp_path, skip_bad=True)
    assert used == ["a"]
    assert_problem(*left_out, "base model not named", where="blank")


def test_an_adapter_of_another_name_is_used_when_the_user_says_that_it_fits(tmp_path):
    write_adapter(tmp_path / "alias", base="owner/tiny-renamed")
    assert fit(tmp_path, accept_base=True) == (["alias"], ())


def test_all_broken_ones_are_told_at_once_and_how_to_go_on(tmp_path):
    for name in ("a", "b"):
        break_adapter(tmp_path / name)
    write_adapter(tmp_path / "c")
    with pytest.raises(InputError) as caught:
        fit(tmp_path)
    problems = caught.value.problems
    assert [problem.what for problem in problems] == ["truncated safetensors"] * 2
    assert all("--skip-bad" in problem.fix for problem in problems)
    used, left_out = fit(tmp_path, skip_bad=True)
    assert used == ["c"]
    assert [problem.what for problem in left_out] == ["truncated safetensors"] * 2


def test_accepting_the_base_does_not_accept_what_is_broken(tmp_path):
    break_adapter(tmp_path / "a")
    with pytest.raises(InputError, match="truncated"):
        fit(tmp_path, accept_base=True)


@pytest.mark.parametrize("skip_bad", [False, True])
def test_nothing_that_fits_is_an_error_with_every_reason(tmp_path, skip_bad):
    write_adapter(tmp_path / "other", base="owner/large")
    write_json(write_full(tmp_path / "full") / "mashup.json", {"base": "owner/large"})
    with pytest.raises(InputError) as caught:
        fit(tmp_path, skip_bad=skip_bad)
    whats = {problem.what for problem in caught.value.problems}
    assert whats == {"adapter of another base", "whole model of another base"}
