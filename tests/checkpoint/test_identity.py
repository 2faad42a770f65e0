import pytest
from hypothesis import given
from hypothesis import strategies as st

from mashup.checkpoint import canonical_name, same_base

PART = st.from_regex(r"[a-z][a-z0-9._]*(-[a-z0-9._]+)*", fullmatch=True)


@given(owner=PART, name=PART)
def test_a_hub_id_its_cache_folder_and_a_local_copy_are_one_base(owner, name):
    cached = f"/home/u/.cache/huggingface/hub/models--{owner}--{name}/snapshots/0a1b2c"
    for alias in (f"{owner}/{name}", cached, f"{cached}/", f"/models/{name}/", f"C:\\x\\{name}"):
        assert (
            canonical_name(
                alias.upper().replace("MODELS--", "models--").replace("/SNAPSHOTS/", "/snapshots/")
            )
            == name
        )


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
        ("", "google/gemma-3-1b-it", None),
        ("google/gemma-3-1b-it", "  ", None),
    ],
)
def test_names_are_the_same_base_or_not_or_cannot_tell(recorded, given, same):
    assert same_base(recorded, given) is same
