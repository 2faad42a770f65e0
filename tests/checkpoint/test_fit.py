"""One answer to "does this checkpoint fit this base?", and checkpoints that are opened once."""

import json
from collections import Counter

import pytest
from safetensors.torch import load_file, save_file

import mashup
import mashup.checkpoint.config
import mashup.checkpoint.safetensors
from helpers import Q_PROJ, refused, write_adapter, write_full
from kinds import write_base
from lora import save_lora
from mashup.checkpoint import FOREIGN, BaseShapes, fit, open_checkpoint
from mashup.checkpoint.fit import COMPUTED, PARTIAL, UNNAMED, settings_problem


def codes(found):
    return [problem.code for problem in found.problems]


def only(folder, cut):
    """Keep the tensors of an adapter whose names do not hold ``cut``."""
    path = folder / "adapter_model.safetensors"
    save_file({n: t for n, t in load_file(path).items() if cut not in n}, path)
    return folder


def test_the_code_says_how_a_checkpoint_does_not_fit(tiny_base, tmp_path):
    base = BaseShapes.read(tiny_base)
    good = {"base": str(tiny_base), "modules": {Q_PROJ: (32, 32)}}
    wide = {"model.layers.0.self_attn.k_proj": (32, 99)}
    cases = {
        "fits": (good, []),
        "blank": ({**good, "base": ""}, [UNNAMED]),
        "name": ({**good, "base": "owner/x"}, [FOREIGN]),
        "shape": ({**good, "modules": {Q_PROJ: (16, 16)}}, [FOREIGN]),
        "part": ({**good, "modules": {Q_PROJ: (32, 32), **wide}}, [PARTIAL]),
        "more": ({**good, "modules": {Q_PROJ: (32, 32), "x": (4, 4)}}, [PARTIAL]),
    }
    for name, (given, expected) in cases.items():
        opened = open_checkpoint(write_adapter(tmp_path / name, **given))
        assert codes(fit(opened, base)) == expected, name
        stated = (UNNAMED,) if name == "blank" else (FOREIGN,) if name == "name" else ()
        rest = [code for code in expected if code not in stated]
        assert codes(fit(opened, base, accept_base=True)) == rest, name


def test_headers_tell_which_modules_of_the_settings_have_no_weights(tiny_base, tmp_path):
    folder = save_lora(tiny_base, tmp_path / "a", target_modules=["q_proj", "v_proj"])
    base = BaseShapes.read(tiny_base)
    assert fit(open_checkpoint(folder), base, accept_base=True).problems == ()
    opened = open_checkpoint(only(folder, "layers.1.self_attn.v_proj"))
    (problem,) = fit(opened, base, accept_base=True).problems
    assert (problem.what, problem.code) == ("tensors missing", PARTIAL)
    assert "layers.1.self_attn.v_proj" in problem.found


def test_a_trained_bias_is_no_computed_buffer(tmp_path):
    """``c_attn.bias`` ends like the masks ``attn.bias`` that old versions saved."""
    base = write_base(tmp_path / "base", "gpt2")
    folder = write_base(tmp_path / "a", "gpt2")
    path = folder / "model.safetensors"
    tensors = load_file(path)
    lost = next(name for name in tensors if name.endswith("c_attn.bias"))
    save_file({n: t for n, t in tensors.items() if n != lost}, path, {"format": "pt"})
    found = fit(open_checkpoint(folder), BaseShapes.read(base), accept_base=True)
    assert [(one.what, lost in one.found) for one in found.problems] == [("tensors missing", True)]
    assert "transformer.h.0.attn.bias".endswith(COMPUTED)


@pytest.mark.parametrize(
    ("own", "expected", "found"),
    [
        ({"hidden_act": "gelu"}, {"hidden_act": "silu"}, "hidden_act is 'gelu'"),
        ({"my_gate": 2}, {"my_gate": 3}, "my_gate is 2, not 3"),
        ({"rope_theta": 1}, {"rope_parameters": {"rope_theta": 2}}, "rope_theta"),
        ({"text_config": {"head_dim": 8}}, {"text_config": {"head_dim": 4}}, "head_dim"),
        ({"vision_config": {"depth": 8}}, {"vision_config": {"depth": 4}}, "vision_config.depth"),
        ({"use_cache": True, "pad_token_id": 1}, {"use_cache": False, "pad_token_id": 2}, None),
        ({"my_gate": 2}, {}, None),
    ],
)
def test_settings_that_both_have_must_be_the_same(tmp_path, own, expected, found):
    problem = settings_problem(tmp_path, own, expected, "base")
    assert problem is None if found is None else found.replace("'", "") in problem.found


def test_all_problems_of_a_broken_checkpoint_are_told_at_once(tmp_path):
    folder = write_full(tmp_path / "a")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}, "metadata": {}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with refused("missing shard") as caught:
        open_checkpoint(folder)
    assert len(caught.value.problems) == 2


@pytest.fixture
def opens(monkeypatch):
    """How often the config and the header of each checkpoint folder were read."""
    counts = Counter()

    def counted(module, name, kind):
        real = getattr(module, name)

        def read(path, *rest):
            counts[path.parent.name if path.suffix else path.name, kind] += 1
            return real(path, *rest)

        monkeypatch.setattr(module, name, read)

    counted(mashup.checkpoint.config, "read_json", "config")
    counted(mashup.checkpoint.safetensors, "read_header", "header")
    return counts


def test_one_check_opens_each_checkpoint_once(tiny_base, tmp_path, opens):
    for name in "ab":
        write_adapter(tmp_path / name, base=str(tiny_base), modules={Q_PROJ: (32, 32)})
    reports = mashup.check([tmp_path / "a", tmp_path / "b"], base=tiny_base, read=True)
    assert all(report.problems == () for report in reports)
    wanted = {(name, kind): 1 for name in "ab" for kind in ("config", "header")}
    assert {key: count for key, count in opens.items() if key[0] in "ab"} == wanted
