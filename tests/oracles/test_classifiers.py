"""Classifiers: what is below the heads by the method, heads by policy, against plain PEFT.

What a merge writes, loaded by ``AutoModelForSequenceClassification``, computes what the same
arithmetic on plain state dicts does.
"""

import json
import re
import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.testing import assert_close
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    LlamaConfig,
    ModernBertConfig,
    RobertaConfig,
)

from helpers import make_tokenizer, refused
from kinds import trained
from mashup import check, load_base, merge, scan, verify
from mashup.errors import UsageError
from wholes import tensors_of

_SIZES = {"vocab_size": 320, "pad_token_id": 0, "max_position_embeddings": 64}
_WIDTHS = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
_DEEP = {"num_hidden_layers": 2}
_MARKS = {"bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
CONFIGS = {
    "bert": BertConfig(**_SIZES, **_WIDTHS, **_DEEP),
    "roberta": RobertaConfig(**_SIZES, **_WIDTHS, **_DEEP),
    "modernbert": ModernBertConfig(**_SIZES, **_WIDTHS, **_DEEP, **_MARKS),
    "distilbert": DistilBertConfig(**_SIZES, dim=32, n_layers=2, n_heads=4, hidden_dim=48),
    "llama": LlamaConfig(**_SIZES, **_WIDTHS, **_DEEP, tie_word_embeddings=True),
}
LABELS = ("bad", "so so", "good")
IDS = torch.randint(5, 290, (3, 9), generator=torch.Generator().manual_seed(1))
#: Layers that LoRAs are put on: in every family those of attention.
ON = {"bert": ["query", "value"], "roberta": ["query", "value"], "modernbert": ["Wqkv"]} | {
    "distilbert": ["q_lin", "v_lin"],
    "llama": ["q_proj", "v_proj"],
}


@pytest.fixture(scope="module", params=CONFIGS)
def folder(request, tmp_path_factory):
    """A language model, two full fine-tunings of it with a head each, and two LoRAs with one."""
    root, config = tmp_path_factory.mktemp(request.param), CONFIGS[request.param]
    kind = AutoModelForCausalLM if request.param == "llama" else AutoModelForMaskedLM
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind.from_config(config).save_pretrained(root / "base")
        make_tokenizer().save_pretrained(root / "base")
        for n in range(2):
            torch.manual_seed(n)
            whole = classifier(root / "base", LABELS)
            for parameter in whole.parameters():
                parameter.data.add_(0.05 * torch.randn_like(parameter))
            whole.save_pretrained(root / f"full/w{n}")
            settings = {"r": n + 2, "target_modules": ON[request.param], "task_type": "SEQ_CLS"}
            wrapped = get_peft_model(classifier(root / "base", LABELS), LoraConfig(**settings))
            for parameter in trained(wrapped):
                parameter.data.add_(0.2 * torch.randn_like(parameter))
            wrapped.save_pretrained(root / f"lora/l{n}")
    return root


def classifier(path, labels=None):
    """As plain transformers loads it; a head for ``labels`` is new where the folder has none."""
    ids = dict(enumerate(labels or ()))
    named = {"id2label": ids, "label2id": {v: k for k, v in ids.items()}} if labels else {}
    return AutoModelForSequenceClassification.from_pretrained(path, **named).eval()


@torch.no_grad()
def logits(model):
    return model(IDS).logits


def mean(*states):
    return {name: sum(one[name] for one in states) / len(states) for name in states[0]}


def logits_of(like, values):
    model = classifier(like)
    model.load_state_dict(values)
    return logits(model)


def is_head(name):
    return name.split(".")[0] in ("classifier", "score", "pre_classifier")


def state(path):
    return classifier(path).state_dict()


@pytest.mark.parametrize("with_base", [False, True])
def test_heads_for_the_same_labels_are_averaged(folder, tmp_path, with_base):
    both = [folder / f"full/w{n}" for n in range(2)]
    base = {"base": folder / "base"} if with_base else {}
    init = merge(both, output=tmp_path / "m", accept_base=True, **base)
    expected = logits_of(both[0], mean(*map(state, both)))
    found = classifier(init.path)
    assert_close(logits(found), expected, rtol=1e-4, atol=1e-5)
    assert tuple(found.config.id2label.values()) == LABELS
    assert not verify(init.path).problems


def test_a_method_on_deltas_leaves_the_head_a_mean(folder, tmp_path):
    """Task arithmetic adds deltas up; a head has none, so the sum of two would be no head."""
    both = [folder / f"full/w{n}" for n in range(2)]
    options = {"method": "task_arithmetic", "base": folder / "base", "accept_base": True}
    init = merge(both, output=tmp_path / "m", **options)
    found, states, below = state(init.path), list(map(state, both)), tensors_of(folder / "base")
    for name, value in found.items():
        expected = (states[0][name] + states[1][name]) / 2
        if not is_head(name) and name in below:
            expected = 2 * expected - below[name]
        assert_close(value, expected, rtol=1e-4, atol=1e-5)


def test_the_head_of_one(folder, tmp_path):
    both = [folder / f"full/w{n}" for n in range(2)]
    own, other = state(both[1]), mean(*map(state, both))
    apart = {n for n in own if is_head(n) or "pooler" in n or n.startswith("head.")}
    expected = {name: own[name] if name in apart else other[name] for name in own}
    for number, word in enumerate(("from=w1", "from=2", f"from={both[1]}")):
        init = merge(both, output=tmp_path / f"m{number}", head=word, accept_base=True)
        found = state(init.path)
        assert all(torch.equal(found[name], own[name]) for name in own if is_head(name))
        assert_close(
            logits(classifier(init.path)), logits_of(both[1], expected), rtol=1e-4, atol=1e-5
        )
        assert init.manifest["options"]["head"] == "from=2"
    assert not verify(init.path).problems


def test_without_a_head(folder, tmp_path):
    both = [folder / f"full/w{n}" for n in range(2)]
    init = merge(both, output=tmp_path / "m", head="drop", accept_base=True)
    assert not any(map(is_head, tensors_of(init.path)))
    expected = mean(*map(state, both))
    found, info = AutoModel.from_pretrained(init.path, output_loading_info=True)
    assert type(found).__name__ == AutoConfig.from_pretrained(init.path).architectures[0]
    assert not [name for name in info["missing_keys"] if "pooler" not in name]
    prefix = classifier(both[0]).base_model_prefix
    for name, value in found.state_dict().items():
        if name in info["missing_keys"]:
            continue
        assert_close(value, expected[f"{prefix}.{name}"], rtol=1e-5, atol=1e-6)
    assert "id2label" not in json.loads((init.path / "config.json").read_text())


def put(base, lora):
    """The base with a LoRA and its head, by PEFT."""
    return PeftModel.from_pretrained(classifier(base, LABELS), lora).merge_and_unload()


@pytest.mark.parametrize("with_base", [False, True])
def test_loras_with_heads(folder, tmp_path, with_base):
    base, both = folder / "base", [folder / f"lora/l{n}" for n in range(2)]
    given = {"accept_base": True} | ({"base": base} if with_base else {})
    torch.manual_seed(0)  # of a pooler that the base lacks
    states = []
    for path in both:
        torch.manual_seed(0)
        states.append(put(base, path).state_dict())
    for head in ("merge", "from=l1"):
        init = merge(both, output=tmp_path / head, head=head, **given)
        expected = mean(*states)
        if head != "merge":
            expected |= {name: v for name, v in states[1].items() if is_head(name) and
                         f"base_model.model.{name}" in tensors_of(both[1])}  # fmt: skip
        torch.manual_seed(0)
        found = put(base, init.path)
        like = put(base, both[0])
        like.load_state_dict(expected)
        assert_close(logits(found), logits(like), rtol=1e-3, atol=1e-4)


def test_a_lora_without_its_head_gets_a_new_one(folder, tmp_path):
    both = [folder / f"lora/l{n}" for n in range(2)]
    init = merge(both, output=tmp_path / "m", head="drop", accept_base=True)
    assert not [name for name in tensors_of(init.path) if "lora" not in name]
    model = classifier(folder / "base", ("yes", "no"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT says that the head is new
        wrapped = PeftModel.from_pretrained(model, init.path, is_trainable=True)
    assert logits(wrapped).shape == (3, 2)
    (report,) = check([init.path], base=folder / "base", accept_base=True)
    assert not report.problems


def test_a_lora_is_put_into_a_classifier_and_a_full_one_beside_it(folder, tmp_path):
    base, both = folder / "full/w0", [folder / "lora/l0", folder / "full/w1"]
    init = merge(both, output=tmp_path / "m", base=base, accept_base=True)
    states = [put(base, both[0]).state_dict(), state(both[1])]
    expected = logits_of(base, mean(*states))
    assert_close(logits(classifier(init.path)), expected, rtol=1e-4, atol=1e-5)


def test_a_lora_is_put_into_a_base_without_such_a_head_only_without_its_own(folder, tmp_path):
    base, lora = folder / "base", folder / "lora/l0"
    options = {"base": base, "output_kind": "full", "weights": [1.0], "accept_base": True}
    with refused("no place for the head", found="LM"):
        merge([lora], output=tmp_path / "m", **options)
    init = merge([lora], output=tmp_path / "m", head="drop", **options)
    assert tensors_of(init.path).keys() == tensors_of(base).keys()


def test_a_full_classifier_is_not_made_a_lora(folder, tmp_path):
    options = {"base": folder / "base", "output_kind": "lora", "rank": 8, "accept_base": True}
    with refused("cannot be merged into a LoRA", found="a full checkpoint of a classifier"):
        merge([folder / "full/w0"], output=tmp_path / "m", **options)


def test_a_base_that_was_saved_without_any_head(folder, tmp_path):
    """``BertModel`` alone has names without ``bert.``, and a pooler of its own."""
    AutoModel.from_pretrained(folder / "base").save_pretrained(tmp_path / "bare")
    both, lora = [folder / f"full/w{n}" for n in range(2)], folder / "lora/l0"
    given = {"base": tmp_path / "bare", "accept_base": True}
    init = merge(both, output=tmp_path / "m", method="task_arithmetic", scale=0.5, **given)
    expected = logits_of(both[0], mean(*map(state, both)))
    assert_close(logits(classifier(init.path)), expected, rtol=1e-4, atol=1e-5)
    assert tensors_of(init.path).keys() == tensors_of(both[0]).keys()
    put_in = merge([lora], output=tmp_path / "l", head="drop", output_kind="full", **given)
    _, info = AutoModel.from_pretrained(put_in.path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not [
        p
        for r in check([*both, lora], base=tmp_path / "bare", accept_base=True)
        for p in r.problems
    ]


def test_scan_and_check_take_them(folder):
    assert all(one.usable for one in scan(folder).checkpoints)
    found = check([folder / "full", folder / "lora"], base=folder / "base", accept_base=True)
    assert [report.problems for report in found] == [()] * 4


def test_heads_for_other_labels_are_refused(folder, tmp_path):
    one = folder / "full/w0"
    torch.manual_seed(5)
    classifier(folder / "base", ("good", "bad", "so so")).save_pretrained(tmp_path / "order")
    classifier(folder / "base", ("no", "yes")).save_pretrained(tmp_path / "two")
    for name, found in (("order", "good, bad, so so"), ("two", "[2")):
        with refused("heads for other labels", where=str(tmp_path / name), found=found) as caught:
            merge([one, tmp_path / name], output=tmp_path / "m", accept_base=True)
        assert "drop" in caught.value.problems[0].fix
        init = merge(
            [one, tmp_path / name], output=tmp_path / f"d{name}", head="drop", accept_base=True
        )
        assert init.path.is_dir()
    init = merge([one, tmp_path / "two"], output=tmp_path / "m", head="from=two", accept_base=True)
    assert tuple(classifier(init.path).config.id2label.values()) == ("no", "yes")


def test_words_that_choose_no_head_are_refused(folder, tiny_base, tmp_path):
    both = [folder / f"full/w{n}" for n in range(2)]
    for head in ("average", "from=w7", "from=3"):
        with pytest.raises(UsageError, match=re.escape("no such head")):
            merge(both, output=tmp_path / "m", head=head, accept_base=True)
    with pytest.raises(UsageError, match="no head to choose"):
        merge([tiny_base], output=tmp_path / "m", head="drop", accept_base=True)


def test_scoring_and_training_refuse_them_by_name(folder):
    paths = ["full/w0"] if folder.name.startswith("llama") else ["full/w0", "base"]
    for path in paths:
        with refused("base writes no text", where=str(folder / path)):
            load_base(folder / path)
    with refused("base writes no text", found="ForSequenceClassification"):
        load_base(classifier(folder / "full/w0"))
