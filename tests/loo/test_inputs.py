"""What jobs are keyed by, and that what is keyed is what is computed with."""

from mashup.library import Index
from mashup.loo import Experiment
from mashup.loo.inputs import base_key
from mashup.loo.store import Store
from mashup.loo.work.worker import Worker


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
