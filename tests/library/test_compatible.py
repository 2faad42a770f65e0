import pytest

from helpers import assert_problem, write_adapter, write_full, write_json
from mashup.errors import InputError, Problem
from mashup.library import fitting, scan, skipped

BASE = "owner/tiny"


def fit(folder, base=BASE, *, accept_base=False, strict=False):
    checkpoints = scan(folder).checkpoints
    fit = fitting(checkpoints, base, accept_base=accept_base, strict=strict)
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
    assert_problem(*left_out, "full checkpoint of another base", where="full", found="owner/large")


def test_a_blank_base_is_a_problem_that_the_user_decides_about(tmp_path):
    write_adapter(tmp_path / "a")
    write_adapter(tmp_path / "blank", base=" ")
    with pytest.raises(InputError) as caught:
        fit(tmp_path, strict=True)
    assert_problem(*caught.value.problems, "base model not named", where="blank")
    assert "`accept_base`" in caught.value.problems[0].fix
    assert fit(tmp_path, accept_base=True) == (["a", "blank"], ())
    used, left_out = fit(tmp_path)
    assert used == ["a"]
    assert_problem(*left_out, "base model not named", where="blank")


def test_an_adapter_of_another_name_is_used_when_the_user_says_that_it_fits(tmp_path):
    write_adapter(tmp_path / "alias", base="owner/tiny-renamed")
    assert fit(tmp_path, accept_base=True) == (["alias"], ())


def test_all_broken_ones_are_left_out_and_stop_a_strict_caller_at_once(tmp_path):
    for name in ("a", "b"):
        break_adapter(tmp_path / name)
    write_adapter(tmp_path / "c")
    with pytest.raises(InputError) as caught:
        fit(tmp_path, strict=True)
    problems = caught.value.problems
    assert [problem.what for problem in problems] == ["truncated safetensors"] * 2
    used, left_out = fit(tmp_path)
    assert used == ["c"]
    assert [problem.what for problem in left_out] == ["truncated safetensors"] * 2


def test_accepting_the_base_does_not_accept_what_is_broken(tmp_path):
    break_adapter(tmp_path / "a")
    with pytest.raises(InputError, match="truncated"):
        fit(tmp_path, accept_base=True)


@pytest.mark.parametrize("strict", [False, True])
def test_nothing_that_fits_is_an_error_with_every_reason(tmp_path, strict):
    write_adapter(tmp_path / "other", base="owner/large")
    write_json(write_full(tmp_path / "full") / "mashup.json", {"base": "owner/large"})
    with pytest.raises(InputError) as caught:
        fit(tmp_path, strict=strict)
    whats = {problem.what for problem in caught.value.problems}
    assert whats == {"adapter of another base", "full checkpoint of another base"}


def test_what_was_skipped_is_counted_by_kind_in_one_line(tmp_path):
    for name in ("a", "b"):
        break_adapter(tmp_path / name)
    write_adapter(tmp_path / "c")
    write_adapter(tmp_path / "blank", base="")
    write_adapter(tmp_path / "other", base="owner/large")
    left_out = fit(tmp_path)[1]
    assert skipped(left_out, 1000) == (
        "3 of 1,000 checkpoints skipped: 2 x truncated safetensors, 1 x base model not named "
        "(mashup check shows them)"
    )
    assert skipped([one for one in left_out if "another base" in one.what], 5) == ""
    assert skipped([Problem("bad", "a", found="x"), Problem("bad", "a", found="y")], 1) == (
        "1 of 1 checkpoints skipped: 1 x bad (mashup check shows them)"
    )
