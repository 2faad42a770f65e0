"""What jobs are keyed by, and that what is keyed is what is computed with."""

import json
import shutil

import pytest

from mashup.experiment.inputs import base_key
from mashup.experiment.jobs import Store
from mashup.experiment.settings import Experiment
from mashup.experiment.worker import Worker
from mashup.library import Index


def _experiment(base, **more):
    tasks = {"one": {"dataset": "one.jsonl"}, "two": {"dataset": "two.jsonl"}}
    return Experiment(name="x", base=str(base), tasks=tasks, learning_rates=[1e-3], **more)


def test_precision_and_attention_are_in_the_key_and_in_the_base(tiny_base, tmp_path):
    plain = _experiment(tiny_base, dtype="float32")
    asked = _experiment(tiny_base, dtype="float32", attn_implementation="eager")
    with Index(tmp_path) as index:
        assert base_key(plain, index).endswith(" float32")
        assert base_key(asked, index) == f"{base_key(plain, index)} eager"
    assert Worker(plain, Store(tmp_path)).base.asked == {}
    assert Worker(asked, Store(tmp_path)).base.asked == {"attention": "eager"}


def _written(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


CHANGES = {
    "norm": ("config.json", lambda value: value.update(rms_norm_eps=0.5)),
    "template": ("chat_template.jinja", "{% for m in messages %}{{ m['content'] }}{% endfor %}"),
    "special tokens": ("tokenizer_config.json", lambda value: value.update(eos_token="a")),
    "tokenizer": ("tokenizer.json", lambda value: value.update(version="2.0")),
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_key_of_a_base_holds_all_that_its_results_depend_on(what, tiny_base, tmp_path):
    base = shutil.copytree(tiny_base, tmp_path / "base")
    experiment = _experiment(base, dtype="float32")
    name, change = CHANGES[what]
    with Index(tmp_path) as index:
        before = base_key(experiment, index)
        if callable(change):
            _written(base / name, change)
        else:
            (base / name).write_text(change)
        assert base_key(experiment, index) != before


def test_the_key_of_a_base_holds_nothing_else(tiny_base, tmp_path):
    base = shutil.copytree(tiny_base, tmp_path / "base")
    experiment = _experiment(base, dtype="float32")
    with Index(tmp_path) as index:
        before = base_key(experiment, index)
        _written(base / "config.json", lambda value: value.update(transformers_version="9"))
        (base / "generation_config.json").write_text('{"top_k": 3}')
        (base / "README.md").write_text("# a card")
        moved = shutil.move(base, tmp_path / "moved")
        assert base_key(_experiment(moved, dtype="float32"), index) == before
