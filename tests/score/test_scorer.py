"""Packed scoring gives what scoring one after the other gives; forced here, as on a GPU."""

import shutil
from functools import partial

import numpy as np
import pytest

import mashup
from helpers import prompt_rows, write_jsonl
from lora import save_lora
from mashup import load_base, load_task
from mashup._score import scorer
from races import score_in

score = partial(mashup.score, criterion="loss")


@pytest.fixture
def setting(tiny_base, tmp_path):
    for seed in range(20):
        save_lora(tiny_base, tmp_path / f"lib/run{seed:02}", seed=seed, size=0.05)
    task = load_task(write_jsonl(tmp_path / "new.jsonl", prompt_rows(60)))
    return load_base(tiny_base, dtype="float32"), task, tmp_path / "lib"


@pytest.fixture
def passes(monkeypatch):
    """How many adapters each packed pass had, in packs of four."""
    sizes = []
    real = scorer.evaluate_packed
    monkeypatch.setattr(scorer, "ALONE", ())
    monkeypatch.setattr(scorer, "pack_size", lambda *_: 4)
    monkeypatch.setattr(
        scorer, "evaluate_packed", lambda m, d, *rest: sizes.append(len(d)) or real(m, d, *rest)
    )
    return sizes


def test_packs_give_the_same_losses(setting, passes, monkeypatch):
    base, task, library = setting
    packed = score(library, base, task, samples=16, strategy="exhaustive")
    assert passes == [4] * 5
    shutil.rmtree(library / ".mashup")
    passes.clear()
    monkeypatch.setattr(scorer, "WORTH", 99)
    alone = score(library, base, task, samples=16, strategy="exhaustive")
    assert passes == []
    for one in packed.ranking:
        other = score_in(alone, one.path)
        np.testing.assert_allclose(one.evaluation.losses, other.evaluation.losses, rtol=1e-4)


def test_what_is_known_is_not_packed_again(setting, passes):
    base, task, library = setting
    score(library, base, task, samples=16, strategy="exhaustive")
    passes.clear()
    again = score(library, base, task, samples=16, strategy="exhaustive")
    assert passes == []
    assert all(one.cached for one in again.ranking)


def test_one_that_changes_meanwhile_is_left_out_of_its_pack(setting, passes, monkeypatch):
    base, task, library = setting
    real = scorer.evaluate_packed

    def then_replace(*args):
        if not passes:
            shutil.rmtree(library / "run07")
        return real(*args)

    monkeypatch.setattr(scorer, "evaluate_packed", then_replace)
    found = score(library, base, task, samples=16, strategy="exhaustive")
    assert [p.what for p in found.left_out] == ["checkpoint changed while it was scored"]
    assert len(found.ranking) == 19


def test_a_cpu_measures_one_after_the_other(setting, monkeypatch):
    base, task, library = setting
    monkeypatch.setattr(scorer, "evaluate_packed", lambda *_: pytest.fail("packed"))
    assert len(score(library, base, task, samples=8, strategy="exhaustive").ranking) == 20
