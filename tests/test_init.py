"""The merged start is measured as it was written."""

import importlib
import time

import pytest

from deltas import delta_inner
from helpers import prompt_rows, write_jsonl
from lora import save_lora
from mashup import UsageError, load_base, load_task, merge, score
from mashup import _init as start
from mashup._init import FARTHER_SCALES, SCALES, Sample, make_init, search_scale
from mashup._merge.manifest import against_best
from mashup._select import Selection
from mashup.delta import read_delta
from mashup.evaluate.evaluate import batches_for, evaluate, sample_tokens
from mashup.model import applied

merging = importlib.import_module("mashup._merge.merge")


def test_the_manifest_holds_what_the_written_folder_scores(tiny_base, tmp_path):
    base = load_base(tiny_base, dtype="float32")
    task = load_task(write_jsonl(tmp_path / "d.jsonl", prompt_rows(60)))
    for n in (1, 2):
        save_lora(tiny_base, tmp_path / f"lib/{n}", seed=n, size=0.1)
    scores = score(tmp_path / "lib", base, task, samples=20)
    selection = Selection(scores.ranking, scores)
    init = make_init(selection, base, task, Sample(20), tmp_path / "init")

    about = init.manifest["sample"]
    batches = batches_for(base, sample_tokens(base, task, 20, 42, 1024))
    with applied(base.model, read_delta(init.path)):
        found = evaluate(base.model, batches)
    assert about["loss"] == pytest.approx(found.loss)
    difference = found.loss - scores.base.loss
    assert about["difference"] == pytest.approx(difference, abs=1e-5)  # answers run as a tree
    assert about["digest"] == scores.sample_digest
    assert about["examples"] == 20
    assert type(init).open(init.path) == init
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.jsonl", "init", "lib"]


def test_a_stop_while_the_merge_is_measured_leaves_no_init(tiny_base, tmp_path, monkeypatch):
    base = load_base(tiny_base, dtype="float32")
    task = load_task(write_jsonl(tmp_path / "d.jsonl", prompt_rows(60)))
    save_lora(tiny_base, tmp_path / "lib/1", size=0.1)
    scores = score(tmp_path / "lib", base, task, samples=20)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(start, "measure", stop)
    with pytest.raises(KeyboardInterrupt):
        make_init(Selection(scores.ranking, scores), base, task, Sample(20), tmp_path / "init")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.jsonl", "lib"]


@pytest.mark.parametrize("criterion", ["loss", "knowledge"])
def test_a_searched_scale_is_the_best_of_those_that_were_tried(tiny_base, tmp_path, criterion):
    base = load_base(tiny_base, dtype="float32")
    task = load_task(write_jsonl(tmp_path / "d.jsonl", prompt_rows(60)))
    for n in (1, 2):
        save_lora(tiny_base, tmp_path / f"lib/{n}", seed=n, size=0.3)
    scores = score(tmp_path / "lib", base, task, samples=20, criterion=criterion)
    selection, sample = Selection(scores.ranking, scores), Sample(20)
    init = make_init(selection, base, task, sample, tmp_path / "init", scale="search")

    values = {float(scale): value for scale, value in init.manifest["scales"].items()}
    sign = 1 if criterion == "loss" else -1  # less is better in scales, not in bits
    assert len(values) >= len(SCALES)
    assert tuple(values) == (*SCALES, *FARTHER_SCALES)[: len(values)]
    assert sign * init.manifest["sample"]["value"] == pytest.approx(min(values.values()))
    fixed = make_init(selection, base, task, sample, tmp_path / "fixed", scale=1.25)
    assert sign * fixed.manifest["sample"]["value"] == pytest.approx(values[1.25])
    assert len(set(values.values())) == len(values)


def norm(delta):
    return delta_inner(delta, delta) ** 0.5


@pytest.mark.parametrize(
    ("best", "beyond"), [(0.5, ()), (1.5, (1.75,)), (2.0, (1.75, 2.0, 2.5)), (9, FARTHER_SCALES)]
)
def test_a_search_goes_on_while_the_largest_scale_is_the_best(tiny_base, tmp_path, best, beyond):
    base = load_base(tiny_base, dtype="float32")
    task = load_task(write_jsonl(tmp_path / "d.jsonl", prompt_rows(60)))
    whole = norm(read_delta(save_lora(tiny_base, tmp_path / "lib/1")))
    scores = score(tmp_path / "lib", base, task, samples=20)

    def loss(delta):
        return abs(norm(delta) / whole - best)

    selection = Selection(scores.ranking, scores)
    losses = search_scale(selection, base, loss, tmp_path / "staged", {})
    assert tuple(losses) == (*SCALES, *beyond)
    assert min(losses, key=losses.__getitem__) == min(best, max(FARTHER_SCALES))
    assert not (tmp_path / "staged").exists()


def test_a_merge_alone_has_nothing_to_search_a_scale_on(tiny_base, tmp_path):
    save_lora(tiny_base, tmp_path / "lib/1", size=0.1)
    with pytest.raises(UsageError, match="nothing to search a scale on"):
        merge([tmp_path / "lib/1"], output=tmp_path / "m", scale="search")


@pytest.fixture
def opposed(tiny_base, tmp_path):
    """A selection of two LoRAs whose mean is far worse than the better of them."""
    base = load_base(tiny_base, dtype="float32")
    task = load_task(write_jsonl(tmp_path / "d.jsonl", prompt_rows(60)))
    for n in (1, 2):
        save_lora(tiny_base, tmp_path / f"lib/{n}", seed=n, size=(0, 0.05, 2.0)[n])
    scores = score(tmp_path / "lib", base, task, samples=20, criterion="loss")
    return Selection(scores.ranking, scores), base, task, Sample(20)


def test_the_best_parent_alone_is_taken_where_it_is_better_for_sure(opposed, tmp_path):
    selection, *_ = opposed
    best, merged = selection.chosen[0], make_init(*opposed, tmp_path / "merged")
    single = merged.manifest["sample"]["best_single"]
    assert single["name"] == best.name
    assert single["loss"] == pytest.approx(best.loss)
    behind = merged.manifest["sample"]["loss"] - best.loss
    assert single["difference"] == pytest.approx(behind)
    assert behind > 2 * single["standard_error"] > 0
    assert "instead_of" not in merged.manifest

    options = {"or_best": True, "method": "ties", "scale": 0.9, "rank": 8}
    init = make_init(*opposed, tmp_path / "best", **options)
    assert [p["name"] for p in init.manifest["parents"]] == [best.name]
    assert init.manifest["sample"]["loss"] == pytest.approx(best.loss, abs=1e-5)
    assert init.manifest["instead_of"]["merge"] == [s.name for s in selection.chosen]
    assert f"start from {best.name} alone" in against_best(init.manifest)
    assert type(init).open(init.path) == init


def test_a_merge_that_is_no_worse_for_sure_is_kept(opposed, tmp_path):
    selection, *given = opposed
    twice = Selection(selection.chosen[:1] * 2, selection.scores)
    init = make_init(twice, *given, tmp_path / "init", or_best=True)
    assert len(init.manifest["parents"]) == 2
    assert "instead_of" not in init.manifest


def test_a_best_parent_that_is_ahead_by_next_to_nothing_leaves_the_merge(
    opposed, tmp_path, monkeypatch
):
    """A certain difference can be far too small to matter."""
    monkeypatch.setattr("mashup._init.WORTH", 100.0)  # nats; certain as before
    init = make_init(*opposed, tmp_path / "init", or_best=True)
    assert len(init.manifest["parents"]) == 2
    assert "instead_of" not in init.manifest


def test_no_second_between_refusing_and_writing_is_free(opposed, tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def taking(seconds, function):
        def run(*arguments, **options):
            now[0] += seconds
            return function(*arguments, **options)

        return run

    steps = {"search_scale": 300, "merge": 50, "measure": 7, "_note": 2}
    for name, seconds in steps.items():
        monkeypatch.setattr(start, name, taking(seconds, getattr(start, name)))
    monkeypatch.setattr(merging, "prepare_merge", taking(20, merging.prepare_merge))
    for options in ({"scale": "search"}, {"or_best": True}):
        before = now[0]
        init = make_init(*opposed, tmp_path / next(iter(options)), **options)
        spent = init.manifest["merge_seconds"] + init.manifest["measure_seconds"]
        assert spent == pytest.approx(now[0] - before)
