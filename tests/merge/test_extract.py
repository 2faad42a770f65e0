"""A LoRA out of full checkpoints: the best of its rank, and the truth about what it cannot hold."""

import pytest
import torch
from torch.testing import assert_close

from lora import save_lora
from mashup import UsageError, merge
from mashup.cli.__main__ import main
from mashup.delta import read_delta
from wholes import materialised, relative_of, tensors_of

RANK = 5


@pytest.fixture
def parents(tiny_base, tmp_path):
    return [relative_of(tiny_base, tmp_path / n, seed=s) for s, n in enumerate("ab")]


def mean_delta(base, parents):
    known, models = tensors_of(base), [tensors_of(folder) for folder in parents]
    means = {n: torch.stack([one[n].double() for one in models]).mean(0) for n in known}
    return {n: means[n] - known[n].double() for n in known}


def is_linear(name, delta):
    return delta.dim() == 2 and not name.startswith(("lm_head", "model.embed_tokens"))


def test_every_module_is_the_best_approximation_of_its_rank(tiny_base, parents, tmp_path):
    given = {"base": tiny_base, "output_kind": "lora", "rank": RANK, "accept_base": True}
    init = merge(parents, output=tmp_path / "m", **given)
    found = read_delta(init.path, torch.float64).modules
    deltas = mean_delta(tiny_base, parents)
    linear = {n.removesuffix(".weight"): d for n, d in deltas.items() if is_linear(n, d)}
    assert found.keys() == linear.keys()
    kept = 0.0
    for name, delta in linear.items():
        U, S, V = torch.linalg.svd(delta, full_matrices=False)
        best = (U[:, :RANK] * S[:RANK]) @ V[:RANK]
        assert_close(found[name].dense(), best, rtol=1e-3, atol=1e-5)
        kept += float(S[:RANK].square().sum())
    total = sum(float(delta.square().sum()) for delta in deltas.values())
    inside = sum(float(delta.square().sum()) for delta in linear.values())
    about = init.manifest
    assert about["kept_energy"] == pytest.approx(kept / total, rel=1e-4)
    assert about["left_out_energy"] == pytest.approx(1 - inside / total, rel=1e-4)
    assert about["relative_error"] == pytest.approx((1 - kept / total) ** 0.5, rel=1e-4)
    assert set(about["left_out_tensors"]) == {n for n, d in deltas.items() if not is_linear(n, d)}


def test_a_share_of_the_energy_chooses_the_rank(tiny_base, parents, tmp_path):
    given = {"base": tiny_base, "output_kind": "lora", "accept_base": True}
    init = merge(parents, output=tmp_path / "m", rank="energy=0.8", **given)
    rank = init.manifest["resolved_rank"]
    less = merge(parents, output=tmp_path / "n", rank=rank - 1, **given).manifest
    inside = 1 - init.manifest["left_out_energy"]
    assert init.manifest["kept_energy"] / inside >= 0.8 > less["kept_energy"] / inside


def test_a_lora_that_was_merged_into_its_base_comes_out_again(tiny_base, tmp_path):
    lora = save_lora(tiny_base, tmp_path / "a")
    whole = materialised(tiny_base, lora, tmp_path / "whole")
    given = {"base": tiny_base, "output_kind": "lora", "accept_base": True, "weights": [1.0]}
    init = merge([whole], output=tmp_path / "m", rank=4, **given)
    before, found = (read_delta(p, torch.float64).modules for p in (lora, init.path))
    for name, factors in before.items():
        assert_close(found[name].dense(), factors.dense(), rtol=1e-3, atol=1e-5)
    assert init.manifest["kept_energy"] == pytest.approx(1, abs=1e-5)


def test_a_lora_and_a_model_become_one_lora(tiny_base, tmp_path):
    lora = save_lora(tiny_base, tmp_path / "a")
    parents = [materialised(tiny_base, lora, tmp_path / "as_model"), relative_of(
        tiny_base, tmp_path / "b", seed=2)]  # fmt: skip
    given = {"base": tiny_base, "output_kind": "lora", "rank": 64, "accept_base": True}
    init = merge([lora, parents[1]], output=tmp_path / "m", **given)
    deltas = mean_delta(tiny_base, parents)
    for name, factors in read_delta(init.path, torch.float64).modules.items():
        assert_close(factors.dense(), deltas[f"{name}.weight"], rtol=1e-3, atol=1e-5)


def test_what_is_left_out_is_named_on_the_command_line(tiny_base, parents, tmp_path, capsys):
    given = ["--model", str(tiny_base), "--output-kind", "lora", "--rank", "4", "--accept-base"]
    with pytest.raises(SystemExit) as done:
        main(["merge", *map(str, parents), "-o", str(tmp_path / "m"), *given])
    assert not done.value.code
    out = " ".join(capsys.readouterr().out.split())
    assert "of the energy is in 7 tensors that a LoRA cannot hold" in out
    assert "left out: lm_head.weight, model.embed_tokens.weight, model.layers.0.input_layer" in out


@pytest.mark.parametrize("rank", ["sum", "max"])
def test_a_model_has_no_rank_to_add_up(tiny_base, parents, tmp_path, rank):
    given = {"base": tiny_base, "output_kind": "lora", "rank": rank, "accept_base": True}
    with pytest.raises(UsageError, match="bad rank"):
        merge(parents, output=tmp_path / "m", **given)
