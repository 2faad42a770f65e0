"""Model cards: what the Hub reads of them, and code and commands that do what they say."""

import pytest
import yaml

from helpers import write_json
from mashup.checkpoint.card import Card, command_of, hub_id, kept_heads


def head_of(text):
    return yaml.safe_load(text.split("---")[1])


def card(**values):
    given = {"title": "T", "text": "t", "base": "owner/base", "is_lora": True}
    return str(Card(**given | {"relation": "adapter", "command": "mashup"} | values))


def test_the_head_names_base_library_task_and_relation():
    assert head_of(card(kept={"license": "mit"})) == {
        "base_model": "owner/base",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "license": "mit",
        "tags": ["base_model:adapter:owner/base", "lora", "mashup-learning"],
    }
    whole = head_of(card(is_lora=False, relation="merge", tags=["merge"]))
    assert whole["library_name"] == "transformers"
    assert whole["tags"] == ["base_model:merge:owner/base", "mashup-learning", "merge"]


def test_a_local_base_is_named_by_its_id_or_not_at_all(tmp_path):
    assert hub_id("owner/base") == "owner/base"
    assert hub_id("/c/hub/models--owner--base-1b/snapshots/0a1b") == "owner/base-1b"
    assert hub_id("models--gpt2/snapshots/0a1b") == "gpt2"
    for local in ("", "./base", "/x/y", "a/b/c", "base", str(tmp_path)):
        assert hub_id(local) == ""
    write_json(tmp_path / "config.json", {"_name_or_path": "owner/base"})
    assert hub_id(str(tmp_path)) == "owner/base"
    write_json(tmp_path / "config.json", {"_name_or_path": str(tmp_path)})
    assert hub_id(str(tmp_path)) == ""
    text = card(base=str(tmp_path))
    assert "base_model" not in head_of(text)
    assert "# base_model is left out" in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("licenses", "kept"),
    [(["mit", "mit"], "mit"), (["mit", None], "mit"), (["mit", "apache-2.0"], None)],
)
def test_a_license_is_kept_where_those_that_name_one_agree(tmp_path, licenses, kept):
    for number, license in enumerate(licenses):
        (tmp_path / f"{number}").mkdir()
        named = f"license: {license}\n" if license else ""
        (tmp_path / f"{number}/README.md").write_text(f"---\n{named}language: en\n---\n")
    found = kept_heads([tmp_path / "0", tmp_path / "1"])
    assert found == ({"license": kept} if kept else {}) | {"language": "en"}


def test_commands_are_quoted():
    options = {"lora_r": 8, "untie": True, "init": None, "weights": [0.5, 0.5]}
    made = command_of("merge", ["a b"], options)
    assert made == "mashup merge 'a b' --lora-r 8 --untie --weights 0.5 0.5"
