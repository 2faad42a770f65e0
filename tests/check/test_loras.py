"""``mashup check`` on the kinds of LoRA that PEFT saves: what merges is ok."""

import pytest

from helpers import write_adapter
from lora import save_lora
from mashup import check, merge

_KINDS = {
    "saved head": {"modules_to_save": ["lm_head"]},
    "saved norm": {"modules_to_save": ["norm"]},
    "biases": {"bias": "lora_only"},
    "rows": {"trainable_token_indices": [1, 5]},
}


@pytest.mark.parametrize("config", _KINDS.values(), ids=_KINDS.keys())
def test_what_merges_has_no_problem(tiny_base, tmp_path, config):
    folder = save_lora(tiny_base, tmp_path / "a", **config)
    (report,) = check([folder], base=tiny_base, read=True)
    assert report.problems == ()
    kind = "full" if "trainable_token_indices" in config else "lora"
    given = {"base": tiny_base, "weights": [1.0], "output_kind": kind}
    merge([folder], output=tmp_path / "m", **given)


def test_a_lora_on_one_of_a_tied_pair_is_a_note(tied_base, tmp_path):
    given = {"modules": {"lm_head": (32, 300)}, "target_modules": ["lm_head"]}
    folder = write_adapter(tmp_path / "a", base=str(tied_base), **given)
    (report,) = check([folder], base=tied_base)
    assert report.problems == ()
    assert "one of two tied weights" in report.notes[0]
    merge([folder], output=tmp_path / "m", weights=[1.0], base=tied_base)
