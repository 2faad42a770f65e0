"""Choosing by a few steps from each donor: who is taken, and what it costs."""

import pytest

from experiments import TRAIN, write_experiment, write_tasks
from mashup import UsageError
from mashup.experiment.run import prepare, run_jobs
from mashup.experiment.work import choose_by_probe
from mashup.results.curve import CURVE, read_curve

RANKING = [{"digest": letter, "name": letter} for letter in "abc"]


def ends(**losses):
    """Facts of probes; None is one that diverged."""
    return {
        "probe" if name == "base" else f"probe {name}": {
            "diverged": loss is None,
            "dev_loss": loss,
        }
        for name, loss in losses.items()
    }


def chosen(k=2, **losses):
    return choose_by_probe(ends(**losses), RANKING, k, str)


def test_the_best_after_the_steps_are_taken_not_the_first_of_the_ranking():
    assert chosen(base=2.0, a=1.5, b=1.9, c=1.1) == ["c", "a"]
    assert chosen(k=1, base=2.0, a=1.5, b=1.9, c=1.1) == ["c"]


def test_only_those_ahead_of_the_base_are_taken():
    assert chosen(base=1.2, a=1.5, b=1.9, c=1.1) == ["c"]
    assert chosen(base=1.0, a=1.5, b=1.9, c=1.1) == []


def test_a_probe_that_diverged_is_out():
    assert chosen(base=2.0, a=None, b=1.9, c=1.1) == ["c", "b"]
    assert chosen(base=None, a=None, b=1.9, c=1.1) == ["c", "b"]


def test_an_experiment_chooses_by_probes_and_pays_for_them(tiny_base, tmp_path):
    experiment = write_experiment(
        tmp_path / "probe.yaml", tiny_base, write_tasks(tmp_path), seeds=[1],
        choose={"samples": 8, "criterion": "loss", "k": 1, "probe_steps": 3}, arms=["mashup"],
        train=TRAIN | {"evaluations": 3},
    )  # fmt: skip
    prepared = prepare(experiment, tmp_path / "out")
    records = run_jobs(prepared)
    names = {job.name: job.key for job in prepared.plan.jobs.values()}
    facts = {name: prepared.store.result(key) for name, key in names.items()}
    probes = {name: one for name, one in facts.items() if "probe" in name and "train" in name}
    assert len(probes) == 3
    curves = [read_curve(prepared.store.root / one["path"] / CURVE) for one in probes.values()]
    assert all([point.step for point in curve] == [0, 3] for curve in curves)
    assert all(point.test_loss is None for curve in curves for point in curve)
    assert all(name.endswith("rate 0.02") for name in probes)
    spent = sum(one["train_seconds"] + one["check_seconds"] for one in probes.values())
    plain, probed = facts["score one"], facts["score one probed"]
    assert probed["seconds"] > plain["seconds"] + spent
    best = min(probes, key=lambda name: probes[name]["dev_loss"])
    paid = next(r.value for r in records if r.arm == "mashup" and r.metric == "score_seconds")
    assert paid == pytest.approx(probed["seconds"])
    base = next(one for name, one in probes.items() if "probe base" in name)
    assert len(probed["chosen"]) == (base["dev_loss"] > probes[best]["dev_loss"])


def test_an_arm_that_no_test_row_judges_is_refused(tiny_base, tmp_path):
    with pytest.raises(UsageError, match="test_points none"):
        write_experiment(
            tmp_path / "e.yaml", tiny_base, write_tasks(tmp_path), arms=["mashup"],
            train=TRAIN | {"test_points": "none"},
        )  # fmt: skip


def test_probes_need_donors_of_our_own(tiny_base, tmp_path):
    (tmp_path / "library").mkdir()
    with pytest.raises(UsageError, match="probe_steps needs donors"):
        write_experiment(
            tmp_path / "p.yaml", tiny_base, write_tasks(tmp_path), library="library",
            choose={"probe_steps": 1},
        )  # fmt: skip
