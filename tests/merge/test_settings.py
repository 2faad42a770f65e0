import json

import pytest

from corpus import seeds
from helpers import refused, write_json
from mashup import merge


def model(folder, seed=0, **settings):
    """A full checkpoint with changed settings; ``...`` takes one away."""
    seeds.write(seeds.single(seed), folder)
    config = json.loads((folder / "config.json").read_text()) | settings
    write_json(folder / "config.json", {k: v for k, v in config.items() if v is not ...})
    return folder


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 2}, "head_dim"),
        ({"rms_norm_eps": 1e-6}, "rms_norm_eps"),
        ({"rope_theta": 1e6}, "rope_theta"),
        ({"rope_theta": ...}, "rope_theta is 10000.0, not 5000.0"),
        ({"model_type": "mistral"}, "model_type"),
        ({"hidden_act": "gelu"}, "hidden_act"),
    ],
)
def test_equal_shapes_that_are_used_differently_are_not_merged_unless_told_so(
    tmp_path, settings, said
):
    folders = [model(tmp_path / "a", seed=1, **settings)]
    base = model(tmp_path / "tiny")
    with refused("models compute differently", found=said):
        merge(folders, output=tmp_path / "m", base=base)
    assert not (tmp_path / "m").exists()
    merge(folders, output=tmp_path / "m", base=base, accept_base=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"torch_dtype": "bfloat16", "use_cache": False, "transformers_version": "4.40.0"},
        {"eos_token_id": [10, 11], "max_position_embeddings": 128, "attention_dropout": 0.1},
        {"rope_theta": ..., "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}},
        {"attention_bias": ..., "head_dim": ...},
        {"unsloth_version": "2025.1", "my_note": 7},
    ],
)
def test_settings_that_compute_the_same_are_merged(tmp_path, settings):
    merge([model(tmp_path / "a", 1, **settings), model(tmp_path / "b", 2)], output=tmp_path / "m")


@pytest.mark.parametrize("settings", [{"hidden_size": "8"}, {"vocab_size": 13}])
def test_settings_that_do_not_fit_their_own_weights_are_refused_even_if_told_so(tmp_path, settings):
    with refused("bad model settings", where="config.json"):
        merge([model(tmp_path / "a", **settings)], output=tmp_path / "m", accept_base=True)


def test_infinity_in_settings_is_carried_as_it_is(tmp_path):
    parents = [model(tmp_path / name, n, limit=float("inf")) for n, name in enumerate("ab")]
    merge(parents, output=tmp_path / "m")
    assert json.loads((tmp_path / "m" / "config.json").read_text())["limit"] == float("inf")


def test_models_of_a_type_that_transformers_does_not_know_are_compared_as_they_stand(tmp_path):
    one = model(tmp_path / "a", 1, model_type="mine", depth=3)
    two = model(tmp_path / "b", 2, model_type="mine", depth=4)
    with refused("models compute differently", found="depth is"):
        merge([one, two], output=tmp_path / "m")
