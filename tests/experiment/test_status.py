"""How far an experiment is: right for every process that asks, and cheap to ask often."""

import json

import pytest

from helpers import refused
from mashup.experiment.jobs import Job, Plan, Store
from mashup.experiment.settings import known_jobs
from mashup.experiment.status import Tally

JOBS = [Job("train", {"n": n}, about={"words": [n]}, keeps_weights=n == 0) for n in range(4)]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "jobs")


def tally(store, jobs=JOBS):
    plan = Plan()
    for job in jobs:
        plan.add(job)
    return Tally(plan, store, dict.fromkeys(plan.jobs, 2.0), 10.0)


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves on."""
    now = [100.0]
    monkeypatch.setattr("mashup.experiment.status.time.time", lambda: now[0])
    return now


def counts(status):
    (row,) = status.rows
    return row.done, row.running, row.left, row.seconds


def test_before_anything_was_begun_there_is_not_even_a_folder(store):
    assert counts(tally(store).status()) == (0, 0, 4, 80.0)


def test_two_that_ask_see_what_the_other_process_has_done(store):
    one, two = tally(store), tally(store)
    store.begin(JOBS[1], now=0.0)
    assert counts(one.status()) == counts(two.status()) == (0, 1, 3, 80.0)
    ((name, seconds),) = one.status().running
    assert name == "train 1"
    assert seconds > 0
    store.finish(JOBS[1], {})
    store.begin(JOBS[2], now=0.0)
    assert counts(two.status())[:3] == counts(one.status())[:3] == (1, 1, 2)


def test_seconds_left_follow_the_pace_at_which_jobs_end(store, clock):
    asked = tally(store)
    store.begin(JOBS[0], now=0.0)
    store.begin(JOBS[1], now=0.0)
    assert asked.status().seconds == 4 * 20 / 2  # two at once, each as fast as was estimated
    clock[0] += 6
    store.finish(JOBS[0], {})
    store.finish(JOBS[1], {})
    assert asked.status().seconds == 6  # two took 6 seconds, two are left
    clock[0] += 6
    assert asked.status().seconds == 12
    assert tally(store).status().seconds == 2 * 20  # who asks anew has seen none of them end


def test_a_job_whose_weights_are_gone_is_open_until_they_are_there_again(store):
    asked = tally(store)
    store.finish(JOBS[0], {"weights": False})
    assert counts(asked.status())[0] == 0
    store.begin(JOBS[0], now=0.0)
    assert counts(asked.status())[:2] == (0, 1)
    store.finish(JOBS[0], {"weights": True})
    assert counts(asked.status())[:2] == (1, 0)


def test_a_job_that_is_done_and_done_again_for_others_is_not_running_here(store):
    store.finish(JOBS[1], {})
    store.begin(JOBS[1], now=0.0)
    assert tally(store).status().running == ()


def test_a_kill_while_a_job_ends_leaves_it_open_or_leaves_its_result_alone(store, monkeypatch):
    store.begin(JOBS[1], now=0.0)

    def killed(path, text):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mashup.experiment.jobs.write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            store.finish(JOBS[1], {})
    assert list(store.folder(JOBS[1].key).iterdir()) == []
    store.finish(JOBS[1], {})
    assert [path.name for path in store.folder(JOBS[1].key).iterdir()] == ["result.json"]


def test_a_job_that_ends_while_it_is_looked_at_is_no_mistake(store, monkeypatch):
    store.begin(JOBS[1], now=0.0)
    path = store.folder(JOBS[1].key) / "running.json"
    monkeypatch.setattr("mashup.experiment.jobs.read_state", _gone(path))
    assert store.running_since(JOBS[1]) is None


def _gone(path):
    from mashup.state import read_state

    def read(kind, asked, fix):
        path.unlink()
        return read_state(kind, asked, fix)

    return read


def test_only_jobs_that_are_begun_and_open_are_looked_at_again(store, monkeypatch):
    looked = []
    real = Store.is_done
    monkeypatch.setattr(Store, "is_done", lambda self, job: looked.append(job) or real(self, job))
    asked = tally(store)
    for job in JOBS:
        store.begin(job, now=0.0)
        store.finish(job, {"weights": True})
        asked.status()
    assert looked == JOBS
    assert counts(asked.status()) == (4, 0, 0, 0.0)


TRAINED = {
    "kind": "train", "took": 1.0, "diverged": False, "path": "key/one", "dev_loss": 1.0,
    "train_seconds": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "null", "\x00" * 9, "[" * 100_000, json.dumps(TRAINED | {"took": "1"})),
        json.dumps({name: value for name, value in TRAINED.items() if name != "path"}),
        json.dumps(TRAINED | {"path": "../../elsewhere"}),
        json.dumps(TRAINED | {"path": "/elsewhere"}),
        json.dumps(TRAINED | {"took": float("nan")}),
        json.dumps(TRAINED | {"dev_loss": float("inf")}),
        json.dumps(TRAINED | {"search_seconds": [1.0]}),
    ],
)
def test_a_damaged_result_is_named_with_the_folder_to_remove(store, content):
    store.finish(JOBS[1], TRAINED)
    assert store.result(JOBS[1].key)["path"] == "key/one"
    path = store.folder(JOBS[1].key) / "result.json"
    path.write_text(content)
    with refused("damaged file", where=str(path)) as caught:
        store.result(JOBS[1].key)
    assert str(path.parent) in caught.value.problems[0].fix


@pytest.mark.parametrize("jobs", ["x", "", "../x", 3])
def test_a_damaged_place_of_the_jobs_is_refused(tmp_path, jobs):
    (tmp_path / "store.json").write_text(json.dumps({"jobs": jobs}))
    with refused("damaged file", where="store.json"):
        known_jobs(tmp_path)
