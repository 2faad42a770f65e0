"""A merge is made again from its manifest and its sources, and compared to the byte."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import mashup
from helpers import prompt_rows, refused, write_jsonl
from lora import save_lora
from mashup import load_base, load_task, merge, verify
from mashup._init import Sample, make_init
from mashup._select import Selection
from mashup.cli.__main__ import main
from wholes import relative_of

CASES = {
    "linear": {},
    "ties": {"method": "ties", "density": 0.4},
    "dare_ties": {"method": "dare_ties", "density": 0.4, "seed": 7, "scale": 0.5},
    "slerp": {"method": "slerp", "weights": [0.3, 0.7]},
    "factor_average": {"method": "factor_average"},
    "energy": {"rank": "energy=0.9", "factors": "balanced", "dtype": "bfloat16"},
}
WHOLES = {
    "mean": ({}, False),
    "ties": ({"method": "ties", "density": 0.4}, True),
    "sharded": ({"shard_size": 2e-5, "dtype": "bfloat16"}, True),
    "into a LoRA": ({"output_kind": "lora", "rank": 4}, True),
}


@pytest.fixture
def parents(tiny_base, tmp_path):
    return [save_lora(tiny_base, tmp_path / name, seed=n) for n, name in enumerate("ab", start=1)]


@pytest.fixture
def wholes(tiny_base, tmp_path):
    return [relative_of(tiny_base, tmp_path / f"whole{n}", seed=n) for n in (1, 2)]


def states(found):
    return {(check.what, check.state) for check in found.checks}


@pytest.mark.parametrize("name", CASES)
def test_a_merge_of_loras_is_made_again_to_the_byte(parents, tmp_path, name):
    init = merge(parents, output=tmp_path / "init", **CASES[name])
    before = sorted(tmp_path.rglob("*"))
    found = verify(init.path)
    assert found.agrees, found.problems
    assert {state for _, state in states(found)} == {"agrees"}
    assert {check.what for check in found.checks} >= {"source", "weights", "numbers", "model card"}
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", WHOLES)
def test_a_merge_of_full_checkpoints_is_made_again_to_the_byte(tiny_base, wholes, tmp_path, name):
    settings, with_base = WHOLES[name]
    base = tiny_base if with_base else None
    init = merge(wholes, output=tmp_path / "init", base=base, accept_base=True, **settings)
    if name == "sharded":
        assert len(list(init.path.glob("*.safetensors"))) > 2
    found = verify(init.path)
    assert found.agrees, found.problems


def test_a_lora_in_a_model_is_made_again(tiny_base, parents, wholes, tmp_path):
    mixed = [parents[0], wholes[0]]
    init = merge(mixed, output=tmp_path / "init", base=tiny_base, dtype="float32", accept_base=True)
    assert verify(init.path).agrees


def damage(folder, name="adapter_model.safetensors"):
    tensors = load_file(folder / name)
    first = sorted(tensors)[0]
    tensors[first].view(-1)[0] += 1e-4
    save_file(tensors, folder / name, {"format": "pt"})


def test_a_number_of_the_weights_that_was_changed_is_found(parents, tmp_path):
    init = merge(parents, output=tmp_path / "init")
    damage(init.path)
    found = verify(init.path)
    assert [problem.what for problem in found.problems] == ["weights differ"]
    assert "relative difference" in found.problems[0].found
    assert verify(init.path, tolerance=1e-2).agrees
    assert not verify(init.path, tolerance=1e-9).agrees


def test_everything_that_was_changed_is_named_at_once(parents, tmp_path):
    init = merge(parents, output=tmp_path / "init")
    config = json.loads((init.path / "adapter_config.json").read_text())
    (init.path / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 3}))
    (init.path / "model.safetensors.bin").write_text("x")
    (init.path / "thesis.txt").write_text("mine")
    manifest = json.loads((init.path / "mashup.json").read_text())
    manifest |= {"kept_energy": 0.5, "seed": manifest["seed"]}
    (init.path / "mashup.json").write_text(json.dumps(manifest))
    found = verify(init.path)
    assert {problem.what for problem in found.problems} == {
        "file differs from what is made again",
        "file that does not belong here",
        "number differs",
        "model card differs from its manifest",
    }
    assert ("file", "not checked") in states(found)  # thesis.txt


def test_sources_that_are_missing_or_changed_are_named_and_found_elsewhere(parents, tmp_path):
    init = merge(parents, output=tmp_path / "init")
    shutil.move(parents[0], tmp_path / "attic/old")
    damage(parents[1])
    found = verify(init.path)
    assert [problem.what for problem in found.problems] == [
        "source is missing",
        "source has changed",
    ]
    assert ("weights", "not checked") in states(found)
    found = verify(init.path, sources=tmp_path / "attic")
    assert [problem.what for problem in found.problems] == ["source has changed"]


def test_a_base_that_has_changed_or_moved(tiny_base, wholes, tmp_path):
    shutil.copytree(tiny_base, tmp_path / "base")
    of_base = {"base": tmp_path / "base", "accept_base": True}
    init = merge(wholes, output=tmp_path / "init", method="ties", **of_base)
    shutil.move(tmp_path / "base", tmp_path / "moved")
    assert [p.what for p in verify(init.path).problems] == ["no such base model"]
    assert verify(init.path, base=tmp_path / "moved").agrees
    relative_of(tiny_base, tmp_path / "base", seed=9)
    assert [p.what for p in verify(init.path).problems] == ["base has changed"]


def test_a_chain_of_mashups_is_verified_from_its_beginning(tiny_base, parents, tmp_path):
    first = merge(parents, output=tmp_path / "first")
    third = save_lora(tiny_base, tmp_path / "c", seed=3)
    second = merge([first.path, third], output=tmp_path / "second", rank=4)
    found = verify(second.path)
    assert found.agrees
    assert [c.where for c in found.checks if c.what == "weights"] == [
        str(first.path),
        str(second.path),
    ]
    damage(parents[0])
    found = verify(second.path)
    assert [problem.what for problem in found.problems] == ["source has changed"]
    assert ("weights", "agrees") in states(found)  # the second, from its own sources


def test_a_merge_of_an_earlier_version_which_noted_less(tiny_base, wholes, tmp_path):
    given = {"base": tiny_base, "accept_base": True, "shard_size": 2e-5}
    init = merge(wholes, output=tmp_path / "init", method="ties", **given)
    manifest = json.loads((init.path / "mashup.json").read_text())
    del manifest["base_files"]
    del manifest["options"]["shard_size"]
    (init.path / "mashup.json").write_text(json.dumps(manifest))
    found = verify(init.path)
    assert [problem.what for problem in found.problems] == ["model card differs from its manifest"]


@pytest.fixture
def scored(tiny_base, tmp_path):
    """An init of two LoRAs, its base and its task."""
    base = load_base(tiny_base, dtype="float32")
    task = load_task(write_jsonl(tmp_path / "d.jsonl", prompt_rows(60)))
    for n in (1, 2):
        save_lora(tiny_base, tmp_path / f"lib/{n}", seed=n, size=0.1)
    scores = mashup.score(tmp_path / "lib", base, task, samples=20, seed=5)
    selection = Selection(scores.ranking, scores)
    make_init(selection, base, task, Sample(20, seed=5), tmp_path / "init")
    return tmp_path / "init", base, task


def test_the_sample_of_an_init_is_scored_again(scored, tmp_path):
    folder, _, task = scored
    assert ("sample", "not checked") in states(verify(folder))
    found = verify(folder, task=tmp_path / "d.jsonl")
    assert found.agrees, found.problems
    assert ("sample", "agrees") in states(found)
    manifest = json.loads((folder / "mashup.json").read_text())
    manifest["sample"]["loss"] -= 0.1
    (folder / "mashup.json").write_text(json.dumps(manifest))
    whats = [problem.what for problem in verify(folder, task=task).problems]
    assert whats == ["model card differs from its manifest", "number differs"]


def test_a_base_that_is_gone_is_one_problem_among_others(scored, tmp_path):
    folder, base, task = scored
    manifest = (folder / "mashup.json").read_text().replace(base.name, str(tmp_path / "gone"))
    (folder / "mashup.json").write_text(manifest)
    whats = {problem.what for problem in verify(folder, task=task).problems}
    assert whats == {"no such base model", "model card differs from its manifest"}
    assert verify(folder, task=task, base=base.name).checks[-1].state == "agrees"


def test_other_data_than_an_init_was_made_for(scored, tmp_path):
    folder, *_ = scored
    other = write_jsonl(tmp_path / "other.jsonl", prompt_rows(60, ending=" really"))
    found = verify(folder, task=other)
    assert [p.what for p in found.problems] == ["other data than the init was made for"]


def test_a_greedy_soup_is_made_again_from_the_weights_that_it_found(tiny_base, parents, tmp_path):
    losses = iter([1.0, 2.0, 3.0])
    init = merge(
        parents, output=tmp_path / "init", method="greedy_soup", measure=lambda _: next(losses)
    )
    assert [p["weight"] for p in init.manifest["parents"]] == [1.0, 0.0]
    assert verify(init.path).agrees


def test_folders_that_hold_nothing_to_verify(tiny_base, tmp_path):
    with refused("nothing to verify"):
        verify(tiny_base)
    with refused("no such folder"):
        verify(tmp_path / "nope")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/mashup.json").write_text('{"kind": "run"}')
    with refused("nothing to verify", found="trained run"):
        verify(tmp_path / "run")
    (tmp_path / "run/mashup.json").write_text('{"kind": "init"}')
    with refused("damaged file"):
        verify(tmp_path / "run")


def test_weights_are_compared_bit_by_bit(wholes, tmp_path):
    init = merge(wholes, output=tmp_path / "init", accept_base=True)
    file = init.path / "model.safetensors"
    tensors = load_file(file)
    name = next(n for n, t in tensors.items() if t.dim() == 1)
    tensors[name] = tensors[name].to(torch.bfloat16)
    save_file(tensors, file, {"format": "pt"})
    assert [p.what for p in verify(init.path).problems] == ["weights differ"]


def test_weights_that_cannot_be_read_are_one_problem_among_others(parents, tmp_path):
    init = merge(parents, output=tmp_path / "init")
    (init.path / "README.md").unlink()
    name = "adapter_model.safetensors"
    tensors = load_file(init.path / name)
    first = sorted(tensors)[0]
    tensors[first].fill_(float("nan"))
    save_file(tensors, init.path / name, {"format": "pt"})
    card = "model card differs from its manifest"
    assert [p.what for p in verify(init.path, tolerance=1.0).problems] == [card, "weights differ"]
    (init.path / name).write_bytes(b"short")
    assert [p.what for p in verify(init.path).problems] == [card, "truncated safetensors"]


def test_data_for_a_merge_that_was_never_scored(parents, tmp_path):
    init = merge(parents, output=tmp_path / "init")
    data = write_jsonl(tmp_path / "d.jsonl", prompt_rows(60))
    found = verify(init.path, task=data)
    assert found.agrees
    assert found.checks[-1].state == "not checked"


def test_the_command_line_says_what_agrees_and_exits_with_3_if_anything_does_not(
    parents, tmp_path, capsys
):
    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main(["verify", *map(str, arguments)])
        return int(done.value.code or 0), *capsys.readouterr()

    init = merge(parents, output=tmp_path / "init")
    code, out, _ = run(init.path)
    assert code == 0
    assert "verified: 6 checks agree" in out
    damage(init.path)
    code, out, err = run(init.path)
    assert code == 3
    assert "not verified: 1 differ" in out
    assert "--tolerance" in err
    code, out, _ = run(init.path, "--json")
    assert code == 3
    assert [c["state"] for c in json.loads(out)["checks"]].count("differs") == 1
