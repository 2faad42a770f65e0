"""Vocabularies that differ: rows follow the token's string, and nothing is summed blindly."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer

from helpers import refused
from kinds import save_kind
from mashup import merge
from vocabularies import logits_by_token, resized, rows_of
from wholes import relative_of, tensors_of

TEXT = "Is this good <b><a> or bad?"


@pytest.fixture(params=["untied", "tied"])
def base(request, tiny_base, tied_base):
    return tiny_base if request.param == "untied" else tied_base


def mean(rows):
    return tuple(torch.stack(halves).mean(0) for halves in zip(*rows, strict=True))


def test_rows_of_tokens_in_another_order_meet_by_token(base, tmp_path):
    one = resized(base, tmp_path / "a", ["<a>", "<b>"], seed=1)
    two = resized(base, tmp_path / "b", ["<b>", "<a>"], seed=2)
    init = merge([one, two], output=tmp_path / "m", base=base, accept_base=True)
    first, second, found = map(rows_of, (one, two, init.path))
    assert found.keys() == first.keys()
    for token, rows in found.items():
        assert_close(rows, mean([first[token], second[token]]))


def test_the_order_of_tokens_does_not_matter_to_any_logit(base, tmp_path):
    """The same merge, once of folders with one order of tokens, once of folders with two."""
    one = resized(base, tmp_path / "a", ["<a>", "<b>"], seed=1)
    two = resized(base, tmp_path / "b", ["<a>", "<b>"], seed=2)
    turned = turn(two, tmp_path / "turned")
    given = {"base": base, "accept_base": True}
    same = merge([one, two], output=tmp_path / "m", **given)
    other = merge([one, turned], output=tmp_path / "n", **given)
    expected, found = (logits_by_token(p.path, TEXT) for p in (same, other))
    assert found.keys() == expected.keys()
    for token, logit in expected.items():
        assert_close(found[token], logit, rtol=1e-4, atol=1e-5)


def turn(folder, output):
    """The same model with the last two tokens in the other order."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    order = list(range(model.config.vocab_size))
    order[-2:] = reversed(order[-2:])
    for layer in {model.get_input_embeddings(), model.get_output_embeddings()}:
        layer.weight.data = layer.weight.data[order]
        if model.config.tie_word_embeddings:
            break
    model.save_pretrained(output)
    AutoTokenizer.from_pretrained(folder).save_pretrained(output)
    path = output / "tokenizer.json"
    text = path.read_text()
    path.write_text(text.replace("<a>", "<x>").replace("<b>", "<a>").replace("<x>", "<b>"))
    return output


def test_a_token_that_a_parent_lacks_has_the_bases_row(base, tmp_path):
    """The base has <a>; one parent was trained on a vocabulary that never had it."""
    wide = resized(base, tmp_path / "wide", ["<a>"], seed=1)
    one = resized(wide, tmp_path / "a", [], seed=2)
    two = resized(base, tmp_path / "b", [], seed=3)
    init = merge([one, two], output=tmp_path / "m", base=wide, accept_base=True)
    known, first, second, found = map(rows_of, (wide, one, two, init.path))
    assert_close(found["<a>"], mean([first["<a>"], known["<a>"]]))
    assert_close(found["t"], mean([first["t"], second["t"]]))


def test_a_token_that_only_one_parent_has_is_that_parents(base, tmp_path):
    one = resized(base, tmp_path / "a", ["<a>"], seed=1)
    two = resized(base, tmp_path / "b", [], seed=2)
    init = merge([one, two], output=tmp_path / "m", base=base, accept_base=True)
    found = rows_of(init.path)
    assert_close(found["<a>"], rows_of(one)["<a>"])
    assert json.loads((init.path / "config.json").read_text())["vocab_size"] == 301
    assert init.manifest["vocabulary"] == str(one)
    assert logits_by_token(init.path, TEXT)["<a>"].isfinite().all()


def test_padding_is_no_token(base, tmp_path):
    one = resized(base, tmp_path / "a", ["<a>"], seed=1, multiple=64)
    two = resized(base, tmp_path / "b", ["<a>"], seed=2, multiple=16)
    init = merge([one, two], output=tmp_path / "m", base=base, accept_base=True)
    first, second, found = map(rows_of, (one, two, init.path))
    for token in ("<a>", "t", "<|im_end|>"):
        assert_close(found[token], mean([first[token], second[token]]))


def test_two_parents_with_tokens_of_their_own_are_a_choice(base, tmp_path):
    one = resized(base, tmp_path / "a", ["<a>"], seed=1)
    two = resized(base, tmp_path / "b", ["<b>"], seed=2)
    given = {"base": base, "accept_base": True}
    with refused("vocabularies differ", found="/a 1 (<a>)") as caught:
        merge([one, two], output=tmp_path / "m", **given)
    assert "/b 1 (<b>)" in caught.value.problems[0].found
    assert "`tokenizer`" in caught.value.problems[0].fix
    first, second = map(rows_of, (one, two))
    init = merge([one, two], output=tmp_path / "m", tokenizer=one, **given)
    found = rows_of(init.path)
    assert found.keys() == first.keys()
    assert_close(found["<a>"], first["<a>"])
    assert_close(found["t"], mean([first["t"], second["t"]]))
    small = rows_of(merge([one, two], output=tmp_path / "n", tokenizer=base, **given).path)
    assert small.keys() == rows_of(base).keys()
    assert_close(small["t"], found["t"])


def test_a_tokenizer_of_nobody_is_refused(tiny_base, tied_base, tmp_path):
    one = resized(tiny_base, tmp_path / "a", ["<a>"], seed=1)
    with refused("tokenizer of another model", where=str(tied_base)):
        merge([one], output=tmp_path / "m", base=tiny_base, accept_base=True, tokenizer=tied_base)


def test_without_tokenizers_rows_cannot_be_aligned(tiny_base, tmp_path):
    one = resized(tiny_base, tmp_path / "a", ["<a>"], seed=1)
    (one / "tokenizer.json").unlink()
    with refused("no tokenizer", where=str(one)):
        merge([one], output=tmp_path / "m", base=tiny_base, accept_base=True)
    two = resized(tiny_base, tmp_path / "b", ["<a>"], seed=1)
    with refused("vocabularies differ"):
        merge([two, relative_of(tiny_base, tmp_path / "c", seed=2)], output=tmp_path / "m",
              accept_base=True)  # fmt: skip


def test_more_rows_promised_than_there_are_is_refused(tiny_base, tmp_path):
    one = resized(tiny_base, tmp_path / "a", ["<a>", "<b>"], seed=1)
    tensors = {n: t[:-1] if len(t) == 302 else t for n, t in tensors_of(one).items()}
    save_file({n: t.clone() for n, t in tensors.items()}, one / "model.safetensors")
    with refused("damaged tokenizer", where=str(one), found="301"):
        merge([one], output=tmp_path / "m", base=tiny_base, accept_base=True)


def test_a_row_that_a_parent_of_another_type_lacks_is_the_bases_to_the_bit(tiny_base, tmp_path):
    base = resized(tiny_base, tmp_path / "base", ["<a>"], seed=1)
    parent = relative_of(tiny_base, tmp_path / "p", seed=2, dtype=torch.bfloat16)
    init = merge([parent], output=tmp_path / "m", base=base, accept_base=True, weights=[1.0])
    found, expected = rows_of(init.path)["<a>"], rows_of(base)["<a>"]
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize(
    "config",
    [{"trainable_token_indices": [320]}, {"target_modules": ["embed_tokens", "q_proj"]}],
    ids=["rows", "lora"],
)
def test_rows_by_number_in_two_vocabularies_are_refused(tiny_base, tmp_path, kind, config):
    """The embedding has rows to spare, and two runs have put other tokens into the same one."""
    base = resized(tiny_base, tmp_path / "base", [], seed=1, multiple=64)
    if "trainable_token_indices" in config:
        config = {"trainable_token_indices": [len(AutoTokenizer.from_pretrained(base))]}
    parents = [save_kind(base, tmp_path / n, seed=s, **config) for s, n in enumerate("ab")]
    for parent, token in zip(parents, ("<a>", "<b>"), strict=True):
        tokenizer = AutoTokenizer.from_pretrained(base)
        tokenizer.add_tokens([token])
        tokenizer.save_pretrained(parent)
    given = {"base": base, "accept_base": True, "output_kind": kind}
    with refused("vocabularies differ", found="different vocabularies"):
        merge(parents, output=tmp_path / "m", **given)
    tokenizer.save_pretrained(parents[0])
    if kind == "full" and "target_modules" not in config:
        assert merge(parents, output=tmp_path / "n", **given).path.exists()
