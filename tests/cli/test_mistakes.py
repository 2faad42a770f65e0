"""Mistakes of users: each answer names the thing and the cause, and nothing was written."""

import os

import pytest

from helpers import prompt_rows, write_adapter, write_full, write_jsonl
from lora import save_lora
from studies import write_study


@pytest.fixture
def data(tmp_path):
    return write_jsonl(tmp_path / "task.jsonl", prompt_rows(80))


@pytest.fixture
def of(tmp_path, data):
    """A base that is never loaded, and a dataset."""
    return ("-m", write_full(tmp_path / "base"), "-d", data)


def told(err):
    return " ".join(err.split())


def test_mistakes_of_several_inputs_are_told_at_once(mashup, tmp_path):
    call = ("score", tmp_path / "nope", "-m", "nope", "-d", tmp_path / "nope.jsonl")
    code, out, err = mashup(*call)
    assert (code, out) == (3, "")
    assert err.count("error") == 2  # the base is looked at when there is a library
    code, out, err = mashup("train", *call[2:], "-o", tmp_path / "out", "--init", tmp_path / "x")
    assert (code, out, err.count("error")) == (3, "", 3)


def test_a_file_in_place_of_a_folder_is_called_a_file(mashup, tmp_path, data, of):
    for call in (("scan", data), ("check", data), ("score", data, *of), ("convert", data),
                 ("merge", data, "-o", tmp_path / "out"),
                 ("train", *of, "-o", tmp_path / "out", "--init", data)):  # fmt: skip
        code, _, err = mashup(*call)
        assert (code, err.count("error")) == (3, 1)
        assert "not a folder" in err
        assert "a file" in err


def test_an_init_that_is_not_there_is_no_such_folder(mashup, tmp_path, of):
    code, _, err = mashup("train", *of, "-o", tmp_path / "out", "--init", tmp_path / "nope")
    assert code == 3
    assert "no such folder" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tracker", ["wandb", "tensorboard", "nonsense"])
def test_a_tracker_that_is_not_installed_is_told_before_anything_runs(
    mashup, tmp_path, of, tracker, monkeypatch
):
    integrations = pytest.importorskip("transformers.integrations.integration_utils")
    monkeypatch.setattr(integrations, "is_wandb_available", lambda: False)
    monkeypatch.setattr(integrations, "is_tensorboard_available", lambda: False)
    monkeypatch.setattr("mashup.model.load_base", lambda *_, **__: 1 / 0)
    code, _, err = mashup("train", *of, "-o", tmp_path / "out", "--report-to", tracker)
    assert code == 2
    assert "unknown tracker" in err
    assert "--report-to" in err
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_made_is_told_before_any_work(mashup, tmp_path, data, of):
    write_adapter(tmp_path / "lib/a", base=str(of[1]))
    yaml = tmp_path / "e.yaml"
    yaml.write_text(
        f"name: x\nlearning_rates: [0.1]\nbase: {of[1]}\ntasks: {{a: {data}, b: {data}}}\n"
    )
    for output in (data / "out", data / "far/below"):
        for call in (("init", tmp_path / "lib", *of), ("compare", tmp_path / "lib", *of),
                     ("train", *of), ("merge", tmp_path / "lib/a"), ("loo", yaml)):  # fmt: skip
            code, out, err = mashup(*call, "-o", output)
            assert (code, out) == (3, "")
            assert "could not write" in err


def test_an_output_without_permission_is_told_before_any_work(mashup, tmp_path, of, monkeypatch):
    write_adapter(tmp_path / "lib/a", base=str(of[1]))
    (tmp_path / "closed").mkdir()
    access = os.access  # root may write everywhere, so the answer is made up
    monkeypatch.setattr(os, "access", lambda p, mode: "closed" not in str(p) and access(p, mode))
    for call in (("init", tmp_path / "lib", *of), ("compare", tmp_path / "lib", *of),
                 ("train", *of), ("merge", tmp_path / "lib/a")):  # fmt: skip
        code, _, err = mashup(*call, "-o", tmp_path / "closed/out")
        assert code == 3
        assert "could not write" in err
        assert "no permission" in err


def test_a_report_that_cannot_be_written_is_no_crash(mashup, tmp_path):
    write_study(tmp_path / "study")
    (tmp_path / "file").write_text("")
    code, _, err = mashup("report", tmp_path / "study", "-o", tmp_path / "file/report")
    assert code == 3
    assert "could not write" in err


def test_settings_without_effect_are_noted(mashup, tmp_path, tiny_base, data):
    one = save_lora(tiny_base, tmp_path / "lib/one", seed=1, size=0.1)
    code, _, err = mashup("merge", one, "-o", tmp_path / "a", "--density", 0.2, "--scale", 1)
    assert code == 0
    assert "--density has no effect with --method linear" in told(err)
    assert "--scale" not in err
    code, out, _ = mashup("merge", one, one, "-o", tmp_path / "b")
    assert "the same checkpoint 2 times" in told(out)
    call = ("score", tmp_path / "lib", "-m", tiny_base, "-d", data, "--k", 100, "--samples", 5000)
    code, _, err = mashup(*call)
    assert code == 0
    assert "--k is 100, and the library has 1 usable" in told(err)
    assert "--samples is 5,000, and there are" in told(err)


def test_training_settings_without_effect_are_noted(mashup, tmp_path, tiny_base, data):
    of = ("-m", tiny_base, "-d", data, "--max-steps", 1)
    code, _, err = mashup("train", *of, "-o", tmp_path / "a", "--lora-target-modules", "q_proj,foo")
    assert code == 0
    assert "no module of the base is called foo" in told(err)
    code, _, err = mashup(
        "train", *of, "-o", tmp_path / "b", "--init", tmp_path / "a", "--lora-r", 9
    )
    assert code == 0
    assert "--lora-r has no effect with --init" in told(err)


def test_a_checkpoint_of_the_hub_is_answered_with_how_to_get_it(mashup, tmp_path):
    code, _, err = mashup("merge", "user/lora-a", "user/lora-b", "-o", tmp_path / "out")
    assert code == 3
    assert "hf download user/lora-a --local-dir lora-a" in err
