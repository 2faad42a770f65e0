"""A name for a base model: looked at before anything is held against it."""

import time

import pytest

import mashup
from helpers import assert_problem, prompt_rows, write_adapter, write_full, write_jsonl
from hubserver import serving
from mashup.checkpoint import check_base
from mashup.errors import InputError


def problem_of(name, named=()):
    with pytest.raises(InputError) as caught:
        check_base(name, named)
    (problem,) = caught.value.problems
    return problem


def test_the_folder_of_a_model_can_be_a_base(tmp_path):
    check_base(write_full(tmp_path / "base"))


@pytest.mark.parametrize("name", ["bases/typo", "/no/where", "./typo", "a/b/c", "x" * 5000, "a\0b"])
def test_a_name_that_is_nothing_is_told_with_what_was_meant(name):
    problem = problem_of(name, ["bases/tiny", "", "bases/tiny", "other"])
    assert problem.code == "base.missing"
    assert "no such folder" in problem.found
    assert problem.fix == "2 checkpoints name bases/tiny: did you mean it?"
    assert "check the path" in problem_of(name).fix


def test_a_file_an_adapter_and_an_empty_folder_are_told_apart(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    adapter = write_adapter(tmp_path / "adapter", base="owner/base")
    assert_problem(problem_of(tmp_path / "file"), "base model is a file", where="file")
    assert_problem(problem_of(tmp_path / "empty"), "no model in the folder", where="empty")
    problem = problem_of(adapter)
    assert (problem.what, problem.code) == ("base model is an adapter", "base.adapter")
    assert "owner/base" in problem.fix


def test_a_wrong_base_is_one_problem_in_python_too(tmp_path):
    for n in range(4):
        write_adapter(tmp_path / f"lib/{n}", base="bases/tiny")
    data = write_jsonl(tmp_path / "data.jsonl", prompt_rows(80))
    one = tmp_path / "lib/0"
    calls = (
        lambda: mashup.score(tmp_path / "lib", "bases/typo", data),
        lambda: mashup.check([tmp_path / "lib"], base="bases/typo"),
        lambda: mashup.merge([one], output=tmp_path / "out", base="bases/typo"),
        lambda: mashup.train("bases/typo", data, output=tmp_path / "out"),
        lambda: mashup.compare(tmp_path / "lib", "bases/typo", data, output=tmp_path / "out"),
        lambda: mashup.load_base("bases/typo"),
    )
    for call in calls:
        with pytest.raises(InputError) as caught:
            call()
        assert [problem.code for problem in caught.value.problems] == ["base.missing"]
    assert not (tmp_path / "out").exists()


def test_a_hub_that_cannot_be_reached_is_noticed_in_seconds(tmp_path, monkeypatch, capfd):
    with serving(tmp_path) as hub:
        hub.add("org/tiny", write_full(tmp_path / "tiny"))
        check_base("org/tiny")
        monkeypatch.setattr("mashup.hub._WAITS", (0.5, 1.5))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
        template = "http://127.0.0.1:1/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        start = time.monotonic()
        problem = problem_of("org/tiny")
        assert time.monotonic() - start < 5
    assert "the Hub cannot be reached: no connection" in problem.found
    assert "HF_ENDPOINT" in problem.fix
    assert capfd.readouterr().err == ""


def test_what_the_hub_says_of_a_base(tmp_path):
    with serving(tmp_path) as hub:
        assert problem_of("org/none").found == "no such folder, and no such model on the Hub"
        hub.add("org/tiny", write_full(tmp_path / "tiny"), gated=True)
        assert problem_of("org/tiny").code == "base.gated"
