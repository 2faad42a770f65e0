"""What lies beside merged weights: configs, tokenizer, template, generation settings, card."""

import json

import pytest
from transformers import AutoTokenizer

from helpers import CHATML, make_tokenizer, refused, write_json
from lora import save_lora
from mashup import merge
from mashup.checkpoint.history import card_head
from wholes import relative_of

_TEMPLATE = "{{ messages[0]['content'] }}"


@pytest.fixture
def parents(tiny_base, tmp_path):
    return [relative_of(tiny_base, tmp_path / n, seed=s) for s, n in enumerate("ab")]


def test_config_generation_config_tokenizer_and_template_come_along(tiny_base, parents, tmp_path):
    for folder in parents:
        write_json(folder / "generation_config.json", {"temperature": 0.3, "do_sample": True})
        card = "---\nlicense: mit\nbase_model: owner/base\n---\ntext"
        (folder / "README.md").write_text(card)
    path = merge(parents, output=tmp_path / "m", accept_base=True).path
    config, before = (json.loads((p / "config.json").read_text()) for p in (path, tiny_base))
    assert config == before | {"dtype": "float32"}
    assert json.loads((path / "generation_config.json").read_text())["temperature"] == 0.3
    made, own = (AutoTokenizer.from_pretrained(p) for p in (path, tiny_base))
    assert made.get_vocab() == own.get_vocab()
    assert made.chat_template == CHATML
    assert card_head(path)["license"] == "mit"
    assert card_head(path)["base_model"] == "owner/base"


def test_a_base_without_a_template_does_not_take_it_from_its_fine_tunes(
    tiny_base, parents, tmp_path
):
    bare = relative_of(tiny_base, tmp_path / "base", seed=9, size=0)
    (bare / "chat_template.jinja").unlink()
    write_json(bare / "generation_config.json", {"eos_token_id": 2})
    for folder in parents:
        (folder / "chat_template.jinja").write_text(_TEMPLATE)
        config = json.loads((folder / "config.json").read_text())
        write_json(folder / "config.json", config | {"eos_token_id": 1})
        write_json(folder / "generation_config.json", {"eos_token_id": 1})
    init = merge(parents, output=tmp_path / "m", base=bare, accept_base=True)
    assert AutoTokenizer.from_pretrained(init.path).chat_template == _TEMPLATE
    for name in ("config.json", "generation_config.json"):
        assert json.loads((init.path / name).read_text())["eos_token_id"] == 1


def test_the_dtype_in_the_config_is_that_of_the_weights(tiny_base, parents, tmp_path):
    for folder in parents:
        config = json.loads((folder / "config.json").read_text())
        write_json(folder / "config.json", config | {"dtype": "float16", "torch_dtype": "float16"})
    path = merge(parents, output=tmp_path / "m", accept_base=True).path
    config = json.loads((path / "config.json").read_text())
    assert config["dtype"] == "float32"
    assert "torch_dtype" not in config


def test_code_of_the_model_comes_along_and_pickles_of_the_trainer_do_not(parents, tmp_path):
    for folder in parents:
        (folder / "modeling_own.py").write_text("x = 1\n")
        (folder / "optimizer.pt").write_bytes(b"x")
    init = merge(parents, output=tmp_path / "m", accept_base=True)
    names = {path.name for path in init.path.iterdir()}
    assert "modeling_own.py" in names
    assert "optimizer.pt" not in names


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_what_cannot_be_averaged_is_the_first_parents_and_a_note_says_so(tiny_base, tmp_path, kind):
    make = relative_of if kind == "full" else save_lora
    parents = [make(tiny_base, tmp_path / name, seed=n) for n, name in enumerate("ab")]
    for number, folder in enumerate(parents):
        own = make_tokenizer()
        own.chat_template = f"{folder.name}: {CHATML}"
        own.eos_token = ("<|im_end|>", "<|end|>")[number]
        own.save_pretrained(folder)
        if kind == "full":
            config = json.loads((folder / "config.json").read_text())
            write_json(folder / "config.json", config | {"eos_token_id": number})
    for number, order in enumerate((parents, parents[::-1])):
        first, other = order
        init = merge(order, output=tmp_path / f"m{number}", accept_base=True)
        made = AutoTokenizer.from_pretrained(init.path)
        assert made.chat_template == f"{first.name}: {CHATML}"
        assert made.eos_token == AutoTokenizer.from_pretrained(first).eos_token
        if kind == "full":
            end = json.loads((init.path / "config.json").read_text())["eos_token_id"]
            assert end == parents.index(first)
        assert [p["path"] for p in init.manifest["parents"]] == [str(p) for p in order]
        kinds = ["chat template", "end token", *(["end token's id"] if kind == "full" else [])]
        assert init.manifest["notes"] == [
            f"the {what} is that of {first}; another one in {other}" for what in kinds
        ]
    weights = [[p.read_bytes() for p in (tmp_path / f"m{n}").glob("*.safetensors")] for n in (0, 1)]
    assert weights[0] == weights[1]


def test_parents_that_agree_leave_no_note(tiny_base, parents, tmp_path):
    init = merge(parents, output=tmp_path / "m", base=tiny_base, accept_base=True)
    assert "notes" not in init.manifest


@pytest.mark.parametrize("name", ["tokenizer.model", "generation_config.json"])
def test_a_file_that_is_too_large_to_be_copied_is_refused(parents, tmp_path, name):
    for folder in parents:
        with (folder / name).open("wb") as stream:
            stream.truncate(1 << 40)
    with refused("cannot read file", where=name, found="1,099,511,627,776 bytes"):
        merge(parents, output=tmp_path / "m", accept_base=True)
    assert not (tmp_path / "m").exists()
