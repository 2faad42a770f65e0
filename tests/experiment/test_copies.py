"""Test examples that share a prompt are one example in the intervals of a comparison."""

import json

import numpy as np
import pytest

from armresults import PLANS, TESTS, make_result
from mashup.experiment.results import make_records


def intervals(folder, count, prompts):
    """Low and high of mashup's gains, with ``count`` copies of every test example."""
    arms = ("scratch", "mashup")
    results = [make_result(folder, name, PLANS[name], 42, 1.0) for name in arms]
    for one in results:
        path = one.run.path / "test.json"
        values = {k: v * count for k, v in json.loads(path.read_text()).items()}
        if prompts:
            values["prompts"] = list(range(TESTS)) * count
        path.write_text(json.dumps(values))
    records = make_records("e", "t", results)
    return {r.metric: (r.low, r.high) for r in records if r.metric.endswith("_gain")}


def test_copies_do_not_narrow_an_interval(tmp_path):
    once = intervals(tmp_path / "once", 1, prompts=False)
    known = intervals(tmp_path / "known", 25, prompts=True)
    unknown = intervals(tmp_path / "unknown", 25, prompts=False)
    for metric, (low, high) in once.items():
        assert known[metric] == pytest.approx((low, high))
        assert np.diff(unknown[metric]) < np.diff([low, high]) / 3
