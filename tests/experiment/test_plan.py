"""The graph of an experiment: its jobs keep their keys, so that what was done stays done."""

from mashup.experiment.arms import make_plan, training
from mashup.experiment.jobs import Inputs
from mashup.experiment.settings import Experiment

TASKS = {name: {"dataset": f"{name}.jsonl"} for name in ("one", "two")}
INPUTS = Inputs("base", {"one": "1", "two": "2"}, {"one": 10, "two": 20})


def plan_of(**more):
    values = {"name": "x", "base": "b", "tasks": TASKS, "targets": ["one"]}
    values |= {"choose": {"criterion": "loss"}}
    return make_plan(Experiment(**values | {"learning_rates": [1e-3]} | more), INPUTS)


def named(plan):
    return {job.name: job for job in plan.jobs.values()}


def test_the_keys_of_jobs_stay():
    """Where one of these changes, experiments that are under way begin again."""
    plan = plan_of(train={"epochs": 1})
    assert {name: job.key for name, job in named(plan).items()} == {
        "train two seed 42 rate 0.001": "0d67af973137f79e5f42",
        "train one scratch seed 42 rate 0.001": "47c0ebe89c9ba83b231a",
        "score one": "956b988f25d862ed3c1e",
        "init one mashup": "1283b0ce5af916238f0b",
        "train one mashup seed 42 rate 0.001": "7c03023df7b632438ea5",
    }


def test_donors_may_have_seeds_of_their_own():
    tasks = TASKS | {"two": {"dataset": "two.jsonl", "donor_seed": 7}}
    assert "train two seed 7 rate 0.001" in named(plan_of(tasks=tasks))


def test_donors_may_have_rates_of_their_own():
    same, own = plan_of(), plan_of(donor_learning_rates=[1e-3, 5e-4])
    assert "train two seed 42 rate 0.0005" in named(own)
    assert "train one mashup seed 42 rate 0.0005" not in named(own)
    assert named(same)["train one scratch seed 42 rate 0.001"].key in own.jobs


def test_a_fold_is_another_start_of_the_same_choice():
    plain, folded = named(plan_of()), named(plan_of(merge={"fold": True}))
    assert plain["score one"].key == folded["score one"].key
    assert plain["init one mashup"].key != folded["init one mashup"].key


def test_donors_have_a_rank_of_their_own_whether_or_not_weights_are_kept():
    experiment = Experiment(name="x", base="b", tasks=TASKS, learning_rates=[1e-3])
    ranks = {
        (donor, kept): job.decides["settings"]["lora_r"]
        for donor in (True, False)
        for kept in (True, False)
        for job in [training(experiment, INPUTS, "one", 1, 1e-3, donor=donor, keeps_weights=kept)]
    }
    assert ranks == {(True, True): 8, (True, False): 8, (False, True): 16, (False, False): 16}


def test_weights_are_kept_of_what_a_later_job_reads():
    kept = {name: job.keeps_weights for name, job in named(plan_of()).items()}
    assert [name for name, keeps in kept.items() if keeps] == [
        "train two seed 42 rate 0.001", "init one mashup",
    ]  # fmt: skip
