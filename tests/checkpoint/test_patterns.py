"""Patterns match what Python's ``re`` says they match, and always in a short time."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import assert_problem, write_adapter
from mashup import read_checkpoint
from mashup.checkpoint.patterns import check_patterns, matches
from mashup.library import scan

NAMES = (
    "", "q_proj", "proj!", "lm_head", "model.layers.0.self_attn.q_proj", "MODEL.Layers.1.mlp.up",
    "model.layers.12.mlp.down_proj", "model.visual.blocks.3.attn.qkv", "model.layers.1.mlp.experts",
    "model.language_model.layers.1.self_attn.k_proj", "a\n", "ab.ab.ab", "ß", "aaaa",
)  # fmt: skip
#: What trainers write (PEFT's docs, Unsloth, ms-swift, LLaMA-Factory, diffusers), and what they
#: could.
USUAL = (
    r".*\.(q|v)_proj$",
    r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?"
    r"(?:q_proj|k_proj|v_proj|down_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)"
    r"\.(?:(?:q_proj|k_proj|down_proj)))",
    r"^(language_model|model)(?=\.).*\.(q_proj|down_proj|qkv)$",
    r"^(?!.*(?:visual|patch_embed)).*(?:q_proj|k_proj|down_proj).*",
    r"(.*x_embedder|.*(?<!single_)layers\.[0-9]+\.mlp\.(up|down)_proj|.*\.[0-9]+\.attn\.qkv)$",
    r"(?i)model\.(.*)\.[12]+\.(.*)",
    r"(\w+\.)*q_proj",
    r"model\.layers\.(?:[0-9]|1[0-9])\.(self_attn|mlp)\..*_(proj|head).*",
    r"(?:\w+\.){2,4}(?i:MLP|self_ATTN)\..*_proj",
    r"(a|b|ab)*(\.(ab)*)*",
    r"[^.]*\.[^.]*\.\d+(\..*)*",
    r"(?s:.*.*.*)|\S*\W*\s*",
    r".*?.*?^$.*|a*a*a*\n?$",
    r"(?x) .* \. .* _ .* proj",
    r"(a{2}){2}|((a{0,2}){1,3}){1,2}x?",
)


@pytest.mark.parametrize("text", USUAL)
def test_patterns_of_trainers_match_as_they_do_in_python(text):
    check_patterns([text])
    for name in NAMES:
        assert matches(text, name) is (re.fullmatch(text, name) is not None), name


PARTS = st.sampled_from(["a", "b", ".", r"\.", "[ab]", "[^a]", r"\w", "(?=a)", "(?!b)", r"\b", "^"])
PATTERN = st.recursive(
    PARTS,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map("".join)
        | st.lists(inner, min_size=1, max_size=3).map(lambda some: f"(?:{'|'.join(some)})")
        | st.tuples(inner, st.sampled_from(["*", "+", "?", "*?", "{2}", "{1,3}"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        )
    ),
    max_leaves=6,
)


@given(text=PATTERN, name=st.text("ab.", max_size=6))
def test_any_pattern_matches_as_it_does_in_python(text, name):
    assert matches(text, name) is (re.fullmatch(text, name) is not None)


ENDLESS = (
    "(.*)*proj!", "(.*)*(.*)*(.*)*proj!", ".*" * 60 + "!", "((((a|.)*)*)*)*!", "(.*.*.*)*!",
    "(.{0,12}){0,12}!", "(?=(.*)*!)x|(?!(.*)*x).*!",
)  # fmt: skip


@pytest.mark.parametrize("text", ENDLESS)
def test_patterns_that_python_would_not_end_with_do_not_match(text):
    assert not matches(text, "model.layers.0.self_attn.q_proj.model.layers.0.self_attn.q_proj")


@pytest.mark.parametrize(
    ("field", "wrap"),
    [("target_modules", str), ("exclude_modules", str), ("modules_to_save", lambda text: [text]),
     ("rank_pattern", lambda text: {text: 4}), ("alpha_pattern", lambda text: {text: 4})],
)  # fmt: skip
@pytest.mark.parametrize("text", ["(.*)*proj!", ".*" * 60 + "!"])
def test_a_scan_of_endless_patterns_ends(tmp_path, field, wrap, text):
    write_adapter(tmp_path / "a", **{field: wrap(text)})
    write_adapter(tmp_path / "b")
    assert {c.name for c in scan(tmp_path).checkpoints} == {"a", "b"}


@pytest.mark.parametrize(
    "config",
    [
        {"modules_to_save": ["(?i)head"]},
        {"modules_to_save": ["head("]},
        {"target_modules": "*q_proj"},
        {"target_modules": "(" * 5000 + ")" * 5000},
        {"target_modules": ".*" * 300},
        {"target_modules": r"(.*)(.*)(.*)\1"},
        {"target_modules": r"(.{0,50}){0,50}"},
        {"rank_pattern": {"q_proj)": 4}},
        {"layers_to_transform": [0], "layers_pattern": "(?i)layers"},
        {"layers_to_transform": [0], "layers_pattern": "(.*)*layers"},
        {"layers_to_transform": [0], "layers_pattern": "(?P<idx>layers)"},
    ],
)
def test_patterns_that_cannot_be_used_are_a_problem_of_their_checkpoint(tmp_path, config):
    folder = write_adapter(tmp_path / "a", **config)
    assert_problem(read_checkpoint(folder).problem, "bad adapter settings", where="a")


def test_a_choice_of_lists_of_layers_is_as_in_peft(tmp_path):
    config = {"target_modules": ["q_proj"], "layers_to_transform": [0]}
    folder = write_adapter(tmp_path / "a", layers_pattern="(layers|h)", **config)
    assert read_checkpoint(folder).usable
    folder = write_adapter(tmp_path / "b", layers_pattern="(blocks|h)", **config)
    assert_problem(read_checkpoint(folder).problem, "weights without a target")
