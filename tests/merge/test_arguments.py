"""Arguments of `mashup.merge`: a settings object, keyword shorthands, contradictions."""

import numpy as np
import pytest
from safetensors.torch import load_file

from helpers import write_adapter
from mashup import MergeSettings, UsageError, merge


@pytest.fixture
def parents(tmp_path):
    return [write_adapter(tmp_path / name, seed=seed) for seed, name in enumerate("ab")]


def problems_of(parents, output, *settings, **given):
    with pytest.raises(UsageError) as caught:
        merge(parents, *settings, output=output, **given)
    assert not output.exists()
    return {(problem.what, problem.where) for problem in caught.value.problems}


def test_settings_and_shorthands_are_two_ways_to_say_the_same(parents, tmp_path):
    given = {"method": "ties", "density": 0.3, "rank": 4, "weights": (2, 1)}
    short = merge(parents, output=tmp_path / "m", **given)
    long = merge(parents, MergeSettings(**given), output=tmp_path / "n")
    mixed = {"settings": MergeSettings(method="ties", density=0.3), "rank": 4}
    both = merge(parents, output=tmp_path / "o", weights=np.array([2.0, 1.0]), **mixed)
    files = [load_file(one.path / "adapter_model.safetensors") for one in (short, long, both)]
    for other in files[1:]:
        assert all(bool((tensor == other[name]).all()) for name, tensor in files[0].items())
    assert short.manifest["density"] == 0.3


def test_none_is_the_default(parents, tmp_path):
    given = dict.fromkeys(MergeSettings.model_fields)
    about = merge(parents, output=tmp_path / "m", **given).manifest
    plain = merge(parents, output=tmp_path / "n").manifest
    times = ("merge_seconds",)
    assert {n: v for n, v in about.items() if n not in times} == {
        n: v for n, v in plain.items() if n not in times
    }


def test_all_that_is_wrong_is_said_at_once(parents, tmp_path):
    settings = MergeSettings(density=0.2, method="ties")
    given = {"density": 0.4, "gamma": 7, "densty": 0.1, "scale": 0}
    found = problems_of(parents, tmp_path / "m", settings, **given)
    assert found == {
        ("setting given twice", "`density` (merge)"),
        ("bad setting", "`gamma` (merge)"),
        ("bad setting", "`scale` (merge)"),
        ("unknown setting", "merge"),
    }


def test_settings_that_do_not_go_with_the_method_are_said_at_once(parents, tmp_path):
    given = {"method": "slerp", "weights": (1, 1, 1), "scale": "search"}
    found = problems_of([*parents, parents[0]], tmp_path / "m", **given)
    assert found == {
        ("wrong number of parents", "`method` slerp"),
        ("nothing to search a scale on", "`scale`"),
    }
    given = {"method": "greedy_soup", "weights": "loss"}
    found = problems_of(parents, tmp_path / "m", **given)
    assert found == {
        ("no losses of the parents", "`weights` loss"),
        ("nothing to measure with", "`method` greedy_soup"),
    }


def test_settings_of_another_kind_are_refused(parents, tmp_path):
    found = problems_of(parents, tmp_path / "m", {"method": "ties"})
    assert found == {("bad setting", "`settings` (merge)")}
