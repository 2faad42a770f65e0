"""Fixtures for all tests: no network, a cache of their own, tiny real tokenizers and a model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub

import pytest
from hypothesis import settings

from helpers import make_tokenizer, write_tiny_model
from visions import load_torchvision

NAMED = load_torchvision()
settings.register_profile("mashup", deadline=None, database=None, max_examples=50)
settings.load_profile("mashup")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What goes to the user's cache goes to a temporary folder instead."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        yield cache


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A tokenizer with a chat template (ChatML). Do not change it: it is shared."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def plain_tokenizer() -> Any:
    """A tokenizer without a chat template. Do not change it: it is shared."""
    return make_tokenizer(chat=False)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """Folder of a random two-layer Llama, 32 wide, with ``tokenizer``. Do not change it."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny", tokenizer)


@pytest.fixture(scope="session")
def tied_base(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """The same with one tensor for embedding and output head. Do not change it."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tied", tokenizer, tied=True)


@pytest.fixture(scope="session")
def seeing_base(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """A Gemma-3 that sees, whose stored names are not those of its parameters. Do not change it."""
    from seeing import write_seeing_model  # loads transformers

    return write_seeing_model(tmp_path_factory.mktemp("models") / "seeing", tokenizer)
