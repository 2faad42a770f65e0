"""Mashup in a notebook: models and rows in memory, what is shown, data frames."""

import pytest
import torch

import mashup
from helpers import prompt_rows, refused, write_adapter
from lora import save_lora
from mashup import TrainSettings, load_base, load_task

ROWS = prompt_rows(60)


@pytest.fixture(scope="module")
def library(tiny_base, tmp_path_factory):
    root = tmp_path_factory.mktemp("lib")
    for seed in range(3):
        save_lora(tiny_base, root / f"run{seed}", seed=seed, size=0.1)
    return root


def in_memory(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=load_base(folder).dtype)


@pytest.fixture(scope="module")
def scores(tiny_base, library):
    return mashup.score(library, str(tiny_base), ROWS, samples=16)


def test_a_model_in_memory_is_a_base_and_scores_are_those_of_its_folder(
    tiny_base, library, scores, tmp_path
):
    model = in_memory(tiny_base)
    base = load_base(model)
    assert (base.name, base.digest) == (str(tiny_base), load_base(tiny_base).digest)
    assert load_base(base) is base
    found = mashup.score(library, model, ROWS, samples=16)
    assert [one.loss for one in found.ranking] == [one.loss for one in scores.ranking]
    init = mashup.merge([library / "run0", library / "run1"], output=tmp_path / "m", base=model)
    assert init.path.is_dir()
    run = mashup.train(
        model, ROWS, output=tmp_path / "run", settings=TrainSettings(max_steps=1, batch_size=4)
    )
    assert run.record["config"]["base"]["digest"] == base.digest


def test_a_tokenizer_can_be_given_and_is_asked_for(tiny_base, tokenizer, tmp_path):
    model = in_memory(tiny_base)
    model.config._name_or_path = ""
    with refused("no tokenizer of the base", where="LlamaForCausalLM"):
        load_base(model)
    assert load_base(model, tokenizer=tokenizer).tokenizer is tokenizer
    assert load_base(tiny_base, tokenizer=tokenizer).tokenizer is tokenizer


def test_a_model_with_an_adapter_and_what_is_no_model_are_refused(tiny_base, library):
    from peft import PeftModel

    model = PeftModel.from_pretrained(in_memory(tiny_base), library / "run0")
    for changed in (model, model.get_base_model()):
        with pytest.raises(ValueError, match=r"adapter on it|cannot load base model"):
            load_base(changed)
    with pytest.raises(ValueError, match="a causal language model of transformers"):
        load_base(torch.nn.Linear(2, 2))


def test_a_quantised_model_is_known_by_its_scales_too(tiny_base):
    model = in_memory(tiny_base)
    model.register_buffer("scales", torch.ones(3))
    plain = load_base(model).digest
    assert plain == load_base(tiny_base).digest
    model.is_quantized = True
    first = load_base(model).digest
    model.scales[0] = 2
    assert len({plain, first, load_base(model).digest}) == 3


def test_what_is_shown_is_no_longer_than_a_screen(tiny_base, scores, tmp_path):
    for n in range(40):
        write_adapter(tmp_path / f"lib/a<b>{n}", base="owner/x")
    library = mashup.scan(tmp_path / "lib")
    selection = mashup.select(scores)
    for one in (library, scores, selection, load_task(ROWS)):
        text = repr(one)
        assert len(text.splitlines()) <= 16
        assert len(text) < 4000
    assert "40 checkpoints" in repr(library)
    assert "... and 30 more" in repr(library)
    assert "run0" in repr(scores)
    assert "a&lt;b&gt;0" in library._repr_html_()
    assert "<b>" not in library._repr_html_()
    for one in (scores, selection):
        assert one._repr_html_().startswith("<p>")


def test_results_become_data_frames(scores, library):
    frame = scores.to_pandas()
    assert list(frame["name"]) == [row["name"] for row in scores.rows()]
    assert "losses" not in frame
    assert set(mashup.scan(library).to_pandas()["rank"]) == {4}


def test_all_public_names_can_be_completed():
    assert set(mashup.__all__) <= set(dir(mashup))
