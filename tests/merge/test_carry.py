"""What lies beside merged weights: configs, tokenizer, template, generation settings, card."""

import json
import os
import shlex

import pytest
from transformers import AutoTokenizer

from helpers import CHATML, make_tokenizer, refused, write_json
from lora import save_lora
from mashup import merge
from mashup.checkpoint.history import card_head
from mashup.cli.__main__ import main
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


def run_code(card, folder):
    """The names that the Python of a card makes, for this folder."""
    names = {}
    code = card.split("```python")[1].split("```")[0]
    assert len(code.strip().splitlines()) == 4
    exec(code.replace("PATH", str(folder)), names)
    return names


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_card_loads_the_folder_and_makes_it_again(tiny_base, tmp_path, kind):
    make = save_lora if kind == "lora" else relative_of
    parents = [make(tiny_base, tmp_path / name, seed=n) for n, name in enumerate("ab")]
    for folder in parents:
        AutoTokenizer.from_pretrained(tiny_base).save_pretrained(folder)
    given = {"method": "ties", "density": 0.7, "weights": [0.3, 0.7], "dtype": "bfloat16"}
    given |= {"rank": 3} if kind == "lora" else {}
    init = merge(parents, output=tmp_path / "m", base=tiny_base, accept_base=True, **given)
    card = (init.path / "README.md").read_text()
    assert "density 0.7" in card
    assert "Not a finished model" not in card
    assert str(tiny_base) not in card.split("```bash")[0]
    names = run_code(card, init.path)
    assert names["model"].config.vocab_size == len(names["tokenizer"])

    command = card.split("```bash")[1].split("```")[0].strip()
    words = shlex.split(command.replace("OUTPUT", str(tmp_path / "again")))
    with pytest.raises(SystemExit) as done:
        main(words[1:])
    assert not done.value.code
    weights = [next(f.glob("*.safetensors")).read_bytes() for f in (init.path, tmp_path / "again")]
    assert weights[0] == weights[1]


def test_written_files_have_the_permissions_of_the_umask(tiny_base, parents, tmp_path):
    before = os.umask(0o027)
    try:
        init = merge(parents, output=tmp_path / "m", accept_base=True)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in init.path.iterdir()} == {0o640}
    assert init.path.stat().st_mode & 0o777 == 0o750


def test_licenses_that_differ_are_not_kept(parents, tmp_path):
    for folder, license in zip(parents, ("mit", "apache-2.0"), strict=True):
        (folder / "README.md").write_text(f"---\nlicense: {license}\n---\n")
    init = merge(parents, output=tmp_path / "m", accept_base=True)
    assert "license" not in card_head(init.path)
    assert "the licenses differ (apache-2.0, mit): the card names none" in init.manifest["notes"]
