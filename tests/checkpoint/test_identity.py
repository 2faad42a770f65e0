import pytest
from hypothesis import given
from hypothesis import strategies as st

from mashup.checkpoint import canonical_name, same_base

WORD = st.text("abz019._", min_size=1, max_size=4)
PART = st.lists(WORD, min_size=1, max_size=3).map(lambda words: "m" + "-".join(words))


@given(owner=PART, name=PART)
def test_a_hub_id_its_cache_folder_and_a_local_copy_are_one_base(owner, name):
    cached = f"/home/u/.cache/huggingface/hub/models--{owner}--{name.title()}/snapshots/0a1b2c"
    local = (f"/models/{name}/", f"C:\\models\\{name}")
    aliases = (f"{owner}/{name.upper()}", cached, f"{cached}/", *local)
    assert {canonical_name(alias) for alias in aliases} == {name}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/hub/models--google--gemma-3-1b-it/snapshots/dead/", "gemma-3-1b-it"),
        ("/hub/models--gpt2/snapshots/beef", "gpt2"),
        (r"C:\hub\models--openai-community--gpt2\snapshots\beef", "gpt2"),
    ],
)
def test_the_cache_of_the_hub_gives_the_models_name(path, name):
    assert canonical_name(path) == name


@pytest.mark.parametrize(
    ("recorded", "given", "same"),
    [
        ("google/gemma-3-1b-it", "unsloth/Gemma-3-1B-it", True),
        ("google/gemma-3-1b-it", "google/gemma-3-1b-pt", False),
        ("/runs/a/checkpoint-500", "/runs/b/checkpoint-500", False),
        ("/old/runs/a/checkpoint-500", r"C:\runs\A\checkpoint-500", True),
        ("/models/a/final", "/models/b/final/", False),
        ("/models/a/merged_model", "/models/b/merged_model", False),
        ("final", "./final", True),
        ("o/Mistral-7B-4bit-dpo-v2", "o/Mistral-7B", False),
        ("o/Mistral-7B-int8-sft", "o/Mistral-7B", False),
        ("", "google/gemma-3-1b-it", None),
        ("google/gemma-3-1b-it", "  ", None),
    ],
)
def test_names_are_the_same_base_or_not_or_cannot_tell(recorded, given, same):
    assert same_base(recorded, given) is same


def test_a_folder_is_known_by_its_whole_path(tmp_path, monkeypatch):
    (tmp_path / "models/base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "models")
    assert same_base(str(tmp_path / "models/base"), "base") is True
    assert same_base(str(tmp_path / "models/base"), "./base/") is True
    assert same_base("/elsewhere/other/base", "base") is False


@pytest.mark.parametrize(
    "suffix",
    [
        *("-bnb-4bit", "-unsloth-bnb-4bit", "-4bit", ".8bit", "_4bit-128g", "-GPTQ", "-GPTQ-Int4"),
        *("-AWQ", "-AWQ-INT4", "-FP8", "-FP8-dynamic", "-quantized.w4a16", "-nf4", "-4-bit"),
        *("-gptq-4bit-128g-actorder_True", "-HQQ-4bit"),
    ],
)
def test_a_quantised_copy_is_the_same_base(suffix):
    assert same_base(f"unsloth/Mistral-7B{suffix}", "mistralai/Mistral-7B") is True
