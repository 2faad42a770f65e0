"""Datasets on the command line: columns, labels, rows that are left out, templates that fail."""

import json

import pytest

from helpers import make_tokenizer, prompt_rows, write_jsonl, write_tiny_model
from lora import save_lora


@pytest.fixture(scope="module")
def library(tiny_base, tmp_path_factory):
    root = tmp_path_factory.mktemp("lib")
    for seed in range(2):
        save_lora(tiny_base, root / f"run{seed}", seed=seed, size=0.1)
    return root


@pytest.fixture
def score(mashup, library, tiny_base):
    def run(data, *arguments, base=tiny_base):
        given = ("-m", base, "-d", data, "--samples", "8", "--accept-base", *arguments)
        return mashup("score", library, *given)

    return run


def test_columns_and_names_of_labels_are_flags(score, tmp_path):
    rows = [{"text": f"Is {n} even?", "label": n % 2} for n in range(40)]
    flags = ("--prompt-column", "text", "--completion-column", "label")
    names = ("--label-names", "yes", "no")
    code, out, _ = score(write_jsonl(tmp_path / "a.jsonl", rows), *flags, *names, "--json")
    assert code == 0
    plain = score(write_jsonl(tmp_path / "b.jsonl", prompt_rows(40)), "--json")
    assert json.loads(out)["sample_digest"] == json.loads(plain[1])["sample_digest"]


def test_what_is_left_out_is_counted_and_names_its_line(score, tmp_path):
    long = {"prompt": "Is it? " * 300, "completion": "yes"}
    rows = [*prompt_rows(40), {"prompt": "", "completion": "yes"}, {"messages": []}]
    path = write_jsonl(
        tmp_path / "a.jsonl", [*rows, *[long | {"completion": str(n)} for n in range(40)]]
    )
    code, out, err = score(
        path, "--test-dataset", write_jsonl(tmp_path / "t.jsonl", prompt_rows(60)[40:])
    )
    assert (code, out) == (3, "")
    assert f"line 41 of {path}" in "".join(err.split("\n")).replace("  ", "")
    given = ("--test-dataset", tmp_path / "t.jsonl", "--dev-rows", "8", "--drop-bad")
    code, out, err = score(path, *given, "--samples", "60")
    assert (code, out) == (3, "")
    assert "longer than 512 tokens" in err
    code, out, err = score(path, *given, "--samples", "60", "--drop-long", "--json")
    assert code == 0
    assert "left out 1 row: empty prompt" in err
    found = json.loads(out)
    assert found["left_out_long"] + found["examples"] == 60
    assert f"left out {found['left_out_long']} of 60 examples of the sample: too long" in err
    assert "Token indices" not in err


def test_copies_of_a_prompt_are_one_example_in_standard_errors(score, tmp_path):
    rows = [row for row in prompt_rows(16) for _ in range(20)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    test = write_jsonl(tmp_path / "t.jsonl", prompt_rows(40)[16:])
    code, out, err = score(path, "--test-dataset", test, "--samples", "100", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["examples"] == 100
    assert found["prompts"] == 5
    assert "100 examples with 5 different prompts: 5 independent examples" in err
    code, once, _ = score(path, "--test-dataset", test, "--samples", "100", "--json")
    assert json.loads(once)["ranking"][0]["standard_error"] > 0


@pytest.mark.parametrize("template", ["{{ 1 / 0 }}", "{{ messages[99] }}", "{{ '' }}"])
def test_a_broken_template_ends_with_code_3(score, tmp_path, template):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    base = write_tiny_model(tmp_path / "base", tokenizer)
    data = write_jsonl(tmp_path / "a.jsonl", prompt_rows(40))
    code, out, err = score(data, base=base)
    assert (code, out) == (3, "")
    assert "cannot use row" in err
    assert "Traceback" not in err


def test_merge_reads_rows_as_the_other_verbs_do(mashup, library, tiny_base, tmp_path):
    rows = [{"text": f"Is {n} even?", "label": n % 2} for n in range(40)]
    data = write_jsonl(tmp_path / "a.jsonl", [*rows, {"text": "", "label": 1}])
    flags = ("--prompt-column", "text", "--completion-column", "label", "--drop-bad")
    given = ("-m", tiny_base, "-d", data, "--samples", "8", "--weights", "loss", *flags)
    parents = (library / "run0", library / "run1")
    code, _, err = mashup("merge", *parents, "-o", tmp_path / "m", "--accept-base", *given)
    assert code == 0
    assert "left out 1 row: empty prompt" in err
