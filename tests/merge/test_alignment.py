"""Embeddings of other vocabularies are aligned by token, never by row."""

import pytest
import torch
from safetensors.torch import save_file

from helpers import refused, write_json
from mashup import merge
from wholes import tensors_of

EMBEDDING = "model.embed_tokens.weight"


def write_model(folder, tokens, shift=0.0, rows=None):
    """A model whose row of a token is its letter's number, plus ``shift``."""
    numbers = [float(ord(token[0])) + shift for token in tokens]
    numbers += [0.0] * ((rows or len(tokens)) - len(tokens))
    vocabulary = {token: row for row, token in enumerate(tokens)}
    write_json(folder / "tokenizer.json", {"model": {"vocab": vocabulary}})
    config = {"model_type": "llama", "vocab_size": len(numbers), "tie_word_embeddings": True}
    write_json(folder / "config.json", config)
    embedding = torch.tensor(numbers)[:, None].repeat(1, 2)
    save_file(
        {EMBEDDING: embedding, "model.norm.weight": torch.ones(2)}, folder / "model.safetensors"
    )
    return folder


def merged(tmp_path, base, *parents, **given):
    init = merge(parents, output=tmp_path / "m", base=base, accept_base=True, **given)
    return tensors_of(init.path)[EMBEDDING][:, 0].tolist(), init


def test_rows_follow_their_tokens(tmp_path):
    base = write_model(tmp_path / "base", "abcd")
    one = write_model(tmp_path / "one", "dcba", shift=1)
    rows, _ = merged(tmp_path, base, one)
    assert rows == [ord(c) + 1 for c in "abcd"]


def test_a_token_that_a_parent_lacks_has_a_delta_of_zero(tmp_path):
    base = write_model(tmp_path / "base", "abcd")
    one, two = write_model(tmp_path / "one", "ba", 1), write_model(tmp_path / "two", "abcd", 3)
    rows, _ = merged(tmp_path, base, one, two)
    assert rows == [ord("a") + 2, ord("b") + 2, ord("c") + 1.5, ord("d") + 1.5]


def test_a_token_that_the_base_lacks_is_the_mean_of_those_that_have_it(tmp_path):
    base = write_model(tmp_path / "base", "ab")
    one, two = write_model(tmp_path / "one", "abc", 1), write_model(tmp_path / "two", "abc", 3)
    rows, init = merged(tmp_path, base, one, two)
    assert rows == [ord("a") + 2, ord("b") + 2, ord("c") + 2]
    assert (init.path / "config.json").read_text().count('"vocab_size": 3')
    assert (init.path / "tokenizer.json").read_text() == (one / "tokenizer.json").read_text()


def test_the_result_can_have_the_tokens_of_one_that_lacks_some(tmp_path):
    base = write_model(tmp_path / "base", "ab")
    one, two = write_model(tmp_path / "one", "abc", 1), write_model(tmp_path / "two", "abd", 3)
    with refused("vocabularies differ"):
        merged(tmp_path, base, one, two)
    rows, init = merged(tmp_path, base, one, two, tokenizer=base)
    assert rows == [ord("a") + 2, ord("b") + 2]
    assert init.manifest["vocabulary"] == str(base)


def test_rows_beyond_the_tokens_are_kept(tmp_path):
    base = write_model(tmp_path / "base", "ab", rows=4)
    one = write_model(tmp_path / "one", "ba", 1, rows=4)
    assert merged(tmp_path, base, one)[0] == [ord("a") + 1, ord("b") + 1, 0, 0]


@pytest.mark.parametrize("method", ["ties", "dare_linear", "slerp"])
def test_other_methods_align_as_well(tmp_path, method):
    base = write_model(tmp_path / "base", "abcd")
    some = [
        write_model(tmp_path / n, tokens, 1) for n, tokens in (("one", "dcba"), ("two", "abcd"))
    ]
    weights = [0.5, 0.5]
    rows, _ = merged(tmp_path, base, *some, method=method, density=1, weights=weights)
    assert rows == pytest.approx([ord(c) + 1 for c in "abcd"])
