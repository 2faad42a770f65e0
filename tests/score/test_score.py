"""Scoring a library on a real tiny model."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch

import mashup
from helpers import prompt_rows, refused, settle, write_adapter, write_jsonl
from lora import save_lora
from mashup import load_base, load_task, scan
from mashup._score import scorer
from mashup.library import Index
from mashup.progress import Bars, Progress
from races import score_in

score = partial(mashup.score, criterion="loss")


@pytest.fixture
def base(tiny_base):
    return load_base(tiny_base, dtype="float32")


@pytest.fixture
def task(tmp_path):
    return load_task(write_jsonl(tmp_path / "new.jsonl", prompt_rows(80)))


@pytest.fixture
def library(tiny_base, tmp_path):
    for seed in range(3):
        save_lora(tiny_base, tmp_path / f"lib/run{seed}", seed=seed, size=0.05 * (seed + 1))
    return tmp_path / "lib"


def counted(monkeypatch):
    """Count evaluations of the model."""
    calls = []
    real = scorer.evaluate
    monkeypatch.setattr(scorer, "evaluate", lambda *a, **k: calls.append(1) or real(*a, **k))
    return calls


def test_losses_are_those_of_peft(base, task, library, tiny_base):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from mashup.evaluate.evaluate import batches_for, evaluate, sample_tokens

    scores = score(library, base, task, samples=20)
    batches = batches_for(base, sample_tokens(base, task, 20, 42, 1024))
    for one in scores.ranking:
        model = AutoModelForCausalLM.from_pretrained(tiny_base)
        alone = evaluate(PeftModel.from_pretrained(model, one.checkpoint.path).eval(), batches)
        np.testing.assert_allclose(one.evaluation.losses, alone.losses, rtol=1e-4)
    assert [s.loss for s in scores.ranking] == sorted(s.loss for s in scores.ranking)
    assert scores.examples == 20


def test_a_log_has_lines_with_the_best_so_far(base, task, library, capsys):
    best = score(library, base, task, samples=10, progress=Bars()).ranking[0]
    last = capsys.readouterr().err.replace("\n", " ").rsplit("scoring: ", 1)[1]
    assert last.startswith("30/30, 3 of 3 checkpoints on 10 examples, least loss so far")
    assert f"least loss so far {best.loss:.4f} ({best.name})" in last


def test_the_base_is_bit_identical_afterwards(base, task, library):
    from mashup.model.base import weights_digest

    before = weights_digest(base.model)
    score(library, base, task, samples=10)
    assert weights_digest(base.model) == before


def test_a_second_call_evaluates_nothing_and_says_the_same(base, task, library, monkeypatch):
    first = score(library, base, task, samples=10)
    calls = counted(monkeypatch)
    second = score(library, base, task, samples=10)
    assert calls == []
    assert [s.loss for s in second.ranking] == [s.loss for s in first.ranking]
    assert all(s.cached for s in second.ranking)
    assert second.cost.seconds == pytest.approx(first.cost.seconds)


def test_an_interrupted_call_goes_on_where_it_was(base, task, library, monkeypatch):
    real, calls = scorer.evaluate, []

    def stop_at_third(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(scorer, "evaluate", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        score(library, base, task, samples=10)
    score(library, base, task, samples=10)
    assert len(calls) == 3 + 2  # base and one adapter were kept; two were missing


@pytest.mark.parametrize("change", ["sample", "seed", "weights", "settings", "base", "template"])
def test_the_cache_never_answers_for_something_else(
    base, task, library, monkeypatch, change, tiny_base
):
    score(library, base, task, samples=10)
    calls = counted(monkeypatch)
    samples, seed, expected = 10, 42, 4
    if change == "sample":
        samples = 11
    elif change == "seed":
        seed = 7
    elif change == "weights":
        save_lora(tiny_base, library / "run0", seed=9)
        expected = 1
    elif change == "settings":
        path = library / "run0/adapter_config.json"
        path.write_text(path.read_text().replace('"lora_alpha": 12', '"lora_alpha": 13'))
        expected = 1
    elif change == "base":
        base = load_base(tiny_base, dtype="float32")
        with torch.no_grad():
            base.model.model.norm.weight[0] += 0.5
    else:
        base.tokenizer.chat_template = "S" + base.tokenizer.chat_template
    score(library, base, task, samples=samples, seed=seed)
    assert len(calls) == expected


def test_a_copy_under_another_name_is_not_evaluated_again(base, task, library, monkeypatch):
    score(library, base, task, samples=10)
    shutil.copytree(library / "run1", library / "copy")
    calls = counted(monkeypatch)
    assert len(score(library, base, task, samples=10).ranking) == 4
    assert calls == []


def test_a_lora_that_changes_nothing_is_reported_and_left_out(base, task, library, tiny_base):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    fresh = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_base), LoraConfig(task_type="CAUSAL_LM", r=2)
    )
    fresh.save_pretrained(library / "untrained")
    scores = score(library, base, task, samples=10)
    assert [c.name for c in scores.unchanged] == ["untrained"]
    assert len(scores.ranking) == 3


def test_adapters_of_another_shape_are_left_out_and_said_so(base, task, library, tiny_base):
    write_adapter(library / "big", base=str(tiny_base), modules={"model.layers.9.q": (64, 64)})
    scores = score(library, base, task, samples=10)
    assert [p.what for p in scores.left_out] == ["adapter of another base"]


def test_an_adapter_that_fits_in_part_is_skipped_and_stops_a_strict_caller(
    base, task, library, tiny_base
):
    modules = {"model.layers.0.self_attn.q_proj": (32, 32), "model.layers.0.mlp.no": (32, 32)}
    write_adapter(library / "part", base=str(tiny_base), modules=modules)
    with refused("tensors without a place", where="part"):
        score(library, base, task, samples=10, strict=True)
    scores = score(library, base, task, samples=10)
    assert [p.what for p in scores.left_out] == ["tensors without a place"]


def test_nan_weights_are_skipped_and_stop_a_strict_caller(base, task, library, tiny_base):
    save_lora(tiny_base, library / "nan", size=float("nan"))
    with refused("weights are not finite", where="nan"):
        score(library, base, task, samples=10, strict=True)
    assert len(score(library, base, task, samples=10).ranking) == 3


def test_an_adapter_that_overflows_is_left_out_and_does_not_disturb_the_ranking(
    base, task, library, tiny_base
):
    save_lora(tiny_base, library / "huge", size=1e25)
    scores = score(library, base, task, samples=10)
    assert [p.what for p in scores.left_out] == ["loss is not finite"]
    losses = [s.loss for s in scores.ranking]
    assert len(losses) == 3
    assert losses == sorted(losses)


def test_a_library_of_another_base_alone_is_refused(base, task, tmp_path):
    write_adapter(tmp_path / "lib/a", base="owner/other")
    with refused("adapter of another base", found="owner/other"):
        score(tmp_path / "lib", base, task)


def test_accuracy_can_rank(base, task, library):
    scores = score(library, base, task, samples=10, criterion="accuracy")
    accuracies = [s.accuracy for s in scores.ranking]
    assert accuracies == sorted(accuracies, reverse=True)


def test_only_training_rows_are_scored_on(task):
    held = {e.prompt_key for e in (*task.dev, *task.test)}
    sample = task.sample(1000)
    assert len(sample) == len(task.train)
    assert held.isdisjoint(e.prompt_key for e in sample)


def test_names_and_paths_do_as_well_as_values(tiny_base, task, library, tmp_path):
    by_value = score(scan(library), load_base(tiny_base), task, samples=10)
    by_name = score(str(library), str(tiny_base), tmp_path / "new.jsonl", samples=10)
    assert [s.loss for s in by_name.ranking] == [s.loss for s in by_value.ranking]


def test_a_larger_sample_evaluates_only_the_new_examples(base, task, library, monkeypatch):
    score(library, base, task, samples=10)
    rows = []
    real = scorer.evaluate
    monkeypatch.setattr(
        scorer,
        "evaluate",
        lambda m, b, **k: rows.append(sum(len(x.rows) for x in b)) or real(m, b, **k),
    )
    larger = score(library, base, task, samples=12)
    assert rows == [2] * 4
    fresh = evaluate_alone(base, task, larger.ranking[0], 12)
    np.testing.assert_allclose(larger.ranking[0].evaluation.losses, fresh, rtol=1e-4)


def evaluate_alone(base, task, one, samples):
    from mashup.delta import read_delta
    from mashup.evaluate.evaluate import batches_for, evaluate, sample_tokens
    from mashup.model import applied

    batches = batches_for(base, sample_tokens(base, task, samples, 42, 1024))
    with applied(base.model, read_delta(one.checkpoint.path)):
        return evaluate(base.model, batches).losses


def many(tiny_base, folder, count):
    for seed in range(count):
        save_lora(tiny_base, folder / f"run{seed:02}", seed=seed, size=0.02 * (1 + seed % 5))
    return folder


def test_racing_agrees_with_exhaustive_for_less(base, task, tiny_base, tmp_path):
    library = many(tiny_base, tmp_path / "many", 24)
    race = score(library, base, task, samples=64, strategy="racing")
    whole = score(library, base, task, samples=64, strategy="exhaustive")
    assert race.strategy == "racing"
    assert race.cost.forwards < race.cost.exhaustive / 2
    assert whole.cost.forwards == whole.cost.exhaustive == race.cost.exhaustive == 25 * 56
    same = {s.digest: s for s in whole.ranking}
    for one in race.ranking:
        part = same[one.digest].evaluation.losses[: one.examples]
        np.testing.assert_allclose(one.evaluation.losses, part, rtol=1e-4)
    assert {s.examples for s in race.finalists} == {56}
    assert race.ranking[0].digest in {s.digest for s in (whole.ranking[0], *whole.rivals)}


def test_auto_says_what_it_picked_and_why(base, task, library, tiny_base, tmp_path):
    few = score(library, base, task, samples=16)
    assert few.strategy == "exhaustive"
    assert "3 checkpoints" in few.reason
    some = score(many(tiny_base, tmp_path / "many", 24), base, task, samples=64)
    assert some.strategy == "racing"
    assert "24 checkpoints" in some.reason


def test_confidence_and_rivals_say_how_sure_the_first_place_is(base, task, library):
    scores = score(library, base, task, samples=40)
    assert 0 < scores.confidence <= 1
    best, *others = scores.ranking
    for one in others:
        difference, error = one.against(best)
        assert (one in scores.rivals) == (difference <= 2 * error)


@pytest.mark.parametrize("strategy", ["exhaustive", "racing"])
def test_a_library_that_changes_meanwhile_keeps_nothing_wrong(
    base, task, library, tiny_base, monkeypatch, strategy
):
    shutil.copytree(library, library.parent / "before")
    real, calls = scorer.evaluate, []

    def change_others(*args, **kwargs):
        if not calls:
            save_lora(tiny_base, library / "run1", seed=99)
            shutil.rmtree(library / "run2")
        calls.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(scorer, "evaluate", change_others)
    scores = score(library, base, task, samples=10, strategy=strategy)
    assert [s.name for s in scores.ranking] == ["run0"]
    assert [p.what for p in scores.left_out] == ["checkpoint changed while it was scored"] * 2
    later = score(library, base, task, samples=10, strategy=strategy)
    new = score_in(later, library / "run1")
    fresh = evaluate_alone(base, task, new, 10)
    np.testing.assert_allclose(new.evaluation.losses, fresh, rtol=1e-4)


def replaced_in_place(folder, other):
    """The content of another folder in the same files, with their mtimes."""
    for path in folder.iterdir():
        path.write_bytes((other / path.name).read_bytes())


def replaced_by_another(folder, other):
    """What an archive with fixed times leaves where another version was deleted."""
    shutil.rmtree(folder)
    shutil.copytree(other, folder)


def replaced_by_rename(folder, other):
    shutil.copytree(other, folder.with_name("new"))
    for path in (folder.with_name("new")).iterdir():
        path.rename(folder / path.name)
    folder.with_name("new").rmdir()


@pytest.mark.parametrize(
    "replaced", [replaced_in_place, replaced_by_another, replaced_by_rename, None]
)
def test_a_checkpoint_of_the_same_size_and_mtime_is_another(
    base, task, library, tiny_base, tmp_path, replaced
):
    """With None only a setting is edited."""
    folder, other = library / "run1", tmp_path / "other"
    shutil.copytree(folder, other)
    if replaced:
        save_lora(tiny_base, other, seed=9, size=0.1)
    else:
        path = other / "adapter_config.json"
        path.write_text(path.read_text().replace('"lora_alpha": 12', '"lora_alpha": 48'))
    for path in (*folder.iterdir(), *other.iterdir()):
        os.utime(path, (0, 0))
    settle()
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    score(library, base, task, samples=10)
    (replaced or replaced_in_place)(folder, other)
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    for samples in (10, 20):
        new = score_in(score(library, base, task, samples=samples), folder)
        fresh = evaluate_alone(base, task, new, samples)
        np.testing.assert_allclose(new.evaluation.losses, fresh, rtol=1e-4)
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    old = score_in(score(library, base, task, samples=20), folder)
    fresh = evaluate_alone(base, task, old, 20)
    np.testing.assert_allclose(old.evaluation.losses, fresh, rtol=1e-4)


def test_a_wrong_note_of_a_digest_is_found_before_anything_is_kept_under_it(base, task, library):
    settle()
    score(library, base, task, samples=5)
    sql = "UPDATE digest SET digest = (SELECT max(digest) FROM digest)"
    with contextlib.closing(sqlite3.connect(library / ".mashup/index.sqlite")) as db, db:
        db.execute(sql)
    scores = score(library, base, task, samples=10, strategy="exhaustive")
    for one in scores.ranking:
        fresh = evaluate_alone(base, task, one, 10)
        np.testing.assert_allclose(one.evaluation.losses, fresh, rtol=1e-4)
    again = score(library, base, task, samples=10, strategy="exhaustive")
    assert len(again.ranking) == 3


def test_a_sketch_that_is_damaged_is_made_again(base, task, library):
    settle()
    first = score(library, base, task, samples=5)
    with contextlib.closing(sqlite3.connect(library / ".mashup/index.sqlite")) as db, db:
        db.execute("UPDATE content SET sketch = x'0011'")
    again = score(library, base, task, samples=5)
    assert again.sketches.keys() == first.sketches.keys()


def test_a_library_that_cannot_be_written_is_scored_and_that_is_said_once(
    base, task, library, monkeypatch
):
    said = []

    class Listening(Progress):
        def say(self, line):
            said.append(line)

    first = score(library, base, task, samples=5)
    shutil.rmtree(library / ".mashup")
    (library / ".mashup").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    again = score(library, base, task, samples=5, progress=Listening())
    assert [s.loss for s in again.ranking] == [s.loss for s in first.ranking]
    assert len([line for line in said if "cannot remember results" in line]) == 1


def test_a_library_of_nothing_that_changes_something_has_an_empty_ranking(
    base, task, library, tiny_base
):
    for run in library.iterdir():
        if (run / "adapter_config.json").exists():
            save_lora(tiny_base, run, size=0.0)
    scores = score(library, base, task, samples=8)
    assert scores.ranking == ()
    assert len(scores.unchanged) == 3
    assert np.isnan(scores.confidence)


def test_two_processes_score_one_library_without_lost_or_doubled_rows(
    task, library, tiny_base, tmp_path
):
    code = (
        "import sys, json, mashup\n"
        "s = mashup.score(*sys.argv[1:4], samples=20, strategy='racing', criterion='loss')\n"
        "print(json.dumps(sorted((r.digest, r.examples, r.loss) for r in s.ranking)))"
    )
    command = [
        sys.executable,
        "-c",
        code,
        str(library),
        str(tiny_base),
        str(tmp_path / "new.jsonl"),
    ]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    first, second = [json.loads(process.communicate()[0]) for process in running]
    assert [row[:2] for row in first] == [row[:2] for row in second]
    np.testing.assert_allclose([r[2] for r in first], [r[2] for r in second], rtol=1e-3)
    with Index(library) as index, contextlib.closing(sqlite3.connect(index.path)) as db:
        assert db.execute("SELECT COUNT(*) FROM loss").fetchone() == (4 * 20,)


def test_the_ledger_remembers_all_that_was_measured_and_takes_over(base, tiny_base, tmp_path):
    library = many(tiny_base, tmp_path / "many", 40)
    for number in range(15):
        rows = [{**row, "prompt": f"{number} {row['prompt']}"} for row in prompt_rows(40)]
        past = load_task(write_jsonl(tmp_path / f"past{number}.jsonl", rows), train_rows=16)
        score(library, base, past, samples=8, strategy="exhaustive")
    new = load_task(write_jsonl(tmp_path / "new.jsonl", prompt_rows(300)))
    found = score(library, base, new, samples=128)
    assert (found.strategy, found.reason) == ("ledger", "40 checkpoints, known from 15 past tasks")
    assert len(found.expected) == 40 - 16
    assert found.cost.forwards < 0.3 * found.cost.exhaustive
    whole = score(library, base, new, samples=128, strategy="exhaustive")
    assert found.ranking[0].loss <= np.median([s.loss for s in whole.ranking])
    again = score(library, base, new, samples=128, strategy="ledger")
    assert again.reason == "as asked"  # the task itself is not one of the past


def test_a_newer_ledger_is_left_alone_and_said_so(base, task, library):
    class Listening(Progress):
        said = ""

        def say(self, line):
            self.said += line

    score(library, base, task, samples=8)
    path = library / ".mashup/ledger.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=99")
        db.execute("PRAGMA journal_mode=DELETE")
    before, progress = path.read_bytes(), Listening()
    assert len(score(library, base, task, samples=8, progress=progress).ranking) == 3
    assert "the ledger is of a newer version" in progress.said
    assert path.read_bytes() == before
