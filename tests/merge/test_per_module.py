"""Other numbers for some tensors: by parts of their names, and by layers."""

import pytest
import torch
from torch.testing import assert_close

from helpers import refused
from lora import save_lora
from mashup import MergeSettings, UsageError, merge, verify
from mashup._merge.combine import layer_counts
from mashup._merge.merge import prepare_merge
from mashup.delta import read_delta
from mashup.settings import ModuleRule
from wholes import relative_of, tensors_of


@pytest.fixture
def parents(tiny_base, tmp_path):
    return [save_lora(tiny_base, tmp_path / name, seed=n) for n, name in enumerate("ab", start=1)]


@pytest.fixture
def wholes(tiny_base, tmp_path):
    return [relative_of(tiny_base, tmp_path / f"whole{n}", seed=n) for n in (1, 2)]


def test_a_rule_is_the_same_as_text_and_as_names():
    rule = ModuleRule(match="mlp", parent=2, weight=(0.0, 0.5, 1.0))
    assert ModuleRule.model_validate("mlp:weight[2]=0..0.5..1") == rule
    assert rule.texts() == ["mlp:weight[2]=0.0..0.5..1.0"]
    assert ModuleRule.model_validate("*:density=0.3") == ModuleRule(density=0.3)
    two = ModuleRule(match="q", density=(0.2,), scale=(1e-3, 2.0))
    assert [ModuleRule.model_validate(text) for text in two.texts()] == [
        ModuleRule(match="q", scale=(1e-3, 2.0)),
        ModuleRule(match="q", density=0.2),
    ]


@pytest.mark.parametrize(
    "rule",
    ["mlp", "mlp:rank=3", "mlp:weight=x", "mlp:density=1.5", "mlp:scale[1]=2", {"match": "a"}],
)
def test_a_rule_that_cannot_be(rule):
    with pytest.raises(UsageError):
        merge(["a"], output="b", per_module=[rule])


def test_layers_are_counted_by_what_stands_before_the_number():
    names = ["model.layers.0.a.weight", "model.layers.11.experts.3.w", "head.weight", "v.h.4.b"]
    assert layer_counts(names) == {"model.layers.": 12, "v.h.": 5}


def test_weights_of_parts_and_layers_in_a_merge_of_loras(parents, tmp_path):
    rules = ["q_proj:weight[1]=0..1", "v_proj:scale=0.5"]
    init = merge(parents, output=tmp_path / "init", weights=[0.5, 0.25], per_module=rules)
    one, other, made = (read_delta(path) for path in (*parents, init.path))
    for name, factors in made.modules.items():
        layer = int(name.split(".")[2])
        weight = layer if "q_proj" in name else 0.5
        scale = 0.5 if "v_proj" in name else 1.0
        exact = scale * (weight * one.modules[name].dense() + 0.25 * other.modules[name].dense())
        assert_close(factors.dense(), exact, rtol=1e-4, atol=1e-6)
    assert init.manifest["options"]["per_module"] == ["q_proj:weight[1]=0.0..1.0",
                                                      "v_proj:scale=0.5"]  # fmt: skip
    assert verify(init.path).agrees


def test_the_first_rule_that_matches_decides(tiny_base, wholes, tmp_path):
    rules = ["layers.0.mlp:weight[1]=0", "mlp:weight[1]=1", "*:weight=0.5"]
    init = merge(
        wholes, output=tmp_path / "m", base=tiny_base, method="task_arithmetic",
        per_module=rules, accept_base=True,
    )  # fmt: skip
    made, base, one, other = map(tensors_of, (init.path, tiny_base, *wholes))
    for name in made:
        first = 0.0 if "layers.0.mlp" in name else 1.0 if "mlp" in name else 0.5
        exact = base[name] + first * (one[name] - base[name]) + 0.5 * (other[name] - base[name])
        assert_close(made[name], exact, rtol=1e-5, atol=1e-6)


def test_the_order_of_parents_decides_nothing_but_which_is_the_first(tiny_base, wholes, tmp_path):
    given = {"base": tiny_base, "method": "ties", "accept_base": True}
    merge(wholes, output=tmp_path / "m", per_module=["mlp:density[1]=0.2"], **given)
    merge(wholes[::-1], output=tmp_path / "n", per_module=["mlp:density[2]=0.2"], **given)
    one, other = tensors_of(tmp_path / "m"), tensors_of(tmp_path / "n")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_normalised_weights_need_no_base(wholes, tmp_path):
    rules = ["mlp:weight[1]=1..3"]
    init = merge(
        wholes, output=tmp_path / "m", weights=[2, 1], normalize=True, per_module=rules,
        accept_base=True,
    )  # fmt: skip
    made, one, other = map(tensors_of, (init.path, *wholes))
    name = "model.layers.1.mlp.up_proj.weight"
    assert_close(made[name], 0.75 * one[name] + 0.25 * other[name])
    name = "model.layers.0.mlp.up_proj.weight"
    assert_close(made[name], 0.5 * one[name] + 0.5 * other[name])
    with refused("base model is needed"):
        prepare_merge(wholes, MergeSettings(weights=[0.5, 0.5], per_module=rules,
                                            accept_base=True), None)  # fmt: skip


def test_a_parent_that_only_a_rule_gives_a_weight(tiny_base, wholes, tmp_path):
    init = merge(
        wholes, output=tmp_path / "m", base=tiny_base, weights=[1, 0],
        per_module=["mlp:weight[2]=1"], accept_base=True,
    )  # fmt: skip
    made, base, one, other = map(tensors_of, (init.path, tiny_base, *wholes))
    name = "model.layers.0.mlp.up_proj.weight"
    assert_close(made[name], one[name] + other[name] - base[name], rtol=1e-5, atol=1e-6)
    assert torch.equal(made["model.norm.weight"], one["model.norm.weight"])


def test_what_a_method_cannot_use_is_said_at_once(parents):
    settings = MergeSettings(
        method="della", density=0.4, epsilon=0.1,
        per_module=["mlp:weight[3]=-1", "mlp:epsilon=0.45"],
    )  # fmt: skip
    with pytest.raises(UsageError) as caught:
        prepare_merge(parents, settings, None)
    assert [problem.what for problem in caught.value.problems] == [
        "no such parent",
        "bad weights",
        "bad setting",
    ]
    with pytest.raises(UsageError, match="one weight for all tensors"):
        prepare_merge(parents, MergeSettings(method="factor_average", normalize=True), None)
