"""What the gradient does not cover is told from headers."""

import pytest

from helpers import write_full
from kinds import KINDS, save_kind, write_base
from mashup._score.gradient import module_names, uncovered

REASONS = {
    "saved modules": "modules saved whole",
    "all biases": "modules saved whole",
    "bias of B": "a bias of B",
    "token rows": "trained token rows",
    "experts": "parameters adapted themselves",
    "embedding and head": "modules saved whole",  # PEFT saves an adapted embedding's values too
    "embedding, GPT-2": None,
}


@pytest.mark.parametrize("kind", REASONS)
def test_kinds_are_covered_or_say_why_not(tmp_path, kind):
    family, settings = KINDS[kind]
    base = write_base(tmp_path / "base", family)
    assert uncovered(save_kind(base, tmp_path / "lora", **settings)) == REASONS[kind]


def test_a_whole_model_is_not_covered(tmp_path):
    assert uncovered(write_full(tmp_path / "full")) == "a whole model"


def test_module_names_are_of_all_donors(tmp_path):
    base = write_base(tmp_path / "base", "llama")
    one = save_kind(base, tmp_path / "one", target_modules=["q_proj"])
    two = save_kind(base, tmp_path / "two", target_modules=["q_proj", "lm_head"])
    names = module_names([one, two])
    assert len(names) == len(set(names)) == 3
    assert "lm_head" in names
