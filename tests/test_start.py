"""The merged start is measured as it was written."""

import pytest

from helpers import prompt_rows, write_jsonl
from lora import save_lora
from mashup import load_base, load_task, score, start
from mashup.delta import read_delta
from mashup.model import applied
from mashup.score import evaluate
from mashup.score.sample import batches_for, sample_tokens
from mashup.select import Selection
from mashup.start import Sample, make_init


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
    assert about["difference"] == pytest.approx(found.loss - scores.base.loss)
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
