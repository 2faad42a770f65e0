"""Names are matched as PEFT itself matches them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists

from mashup.checkpoint.targets import Targets, read_targets

PART = st.sampled_from(["model", "layers", "h", "0", "1", "12", "mlp", "q_proj", "proj", "experts"])
NAME = st.lists(PART, min_size=1, max_size=6).map(".".join)
NAMES = st.lists(st.lists(PART, min_size=1, max_size=2).map(".".join), min_size=1, max_size=3)
PATTERN = st.sampled_from([r".*proj", r"model\..*\.(mlp|q_proj)", "q_proj", r".*layers\.[01]\..*"])
LISTS = st.fixed_dictionaries(
    {"target_modules": NAMES},
    optional={
        "exclude_modules": NAMES | PATTERN,
        "modules_to_save": st.lists(PART, min_size=1, max_size=2),
        "layers_to_transform": st.sampled_from([0, 1, [0, 12], [1], []]),
    },
)
PATTERNS = st.fixed_dictionaries({"target_modules": PATTERN}, optional={"exclude_modules": NAMES})


@given(config=LISTS | PATTERNS, name=NAME)
def test_modules_are_matched_as_peft_matches_them(config, name):
    expected = bool(check_target_module_exists(LoraConfig(**config), name))
    assert read_targets(config).match(name) is expected


@given(config=LISTS, name=NAME, pattern=st.sampled_from(["layers", "h", ["layers", "h"]]))
def test_patterns_of_layers_are_those_of_peft(config, name, pattern):
    config = config | {"layers_to_transform": [0, 1], "layers_pattern": pattern}
    expected = bool(check_target_module_exists(LoraConfig(**config), name))
    assert read_targets(config).match(name) is expected


@pytest.mark.parametrize("given_targets", [{}, {"target_modules": "all-linear"}])
def test_settings_that_do_not_say_may_mean_any_module(given_targets):
    targets = read_targets(given_targets)
    assert not targets.is_known
    assert targets.match("model.layers.0.mlp.up_proj")


def test_a_saved_module_is_any_ending_as_in_peft():
    targets = Targets(saved=("norm", "mlp"))
    assert targets.saves("model.layers.0.input_layernorm")
    assert targets.saves_tensor("model.layers.0.mlp.up_proj.weight")
    assert not targets.saves_tensor("model.normal.weight")


def test_a_bare_parameter_may_be_meant_on_any_module_and_an_owned_one_on_its_own():
    targets = Targets(parameters=("down_proj", "experts.up_proj"))
    assert targets.parameters_of("mlp.experts") == {
        "mlp.experts.down_proj": False,
        "mlp.experts.up_proj": True,
    }
    assert targets.parameters_of("mlp.other") == {"mlp.other.down_proj": False}


@pytest.mark.parametrize(
    "config",
    [{"target_modules": 7}, {"modules_to_save": "lm_head"}, {"target_parameters": [1]}],
)
def test_what_is_no_list_of_names_raises(config):
    with pytest.raises(TypeError):
        read_targets(config)


def test_a_pattern_that_does_not_compile_raises():
    with pytest.raises(re.error):
        read_targets({"target_modules": "*q_proj"})
