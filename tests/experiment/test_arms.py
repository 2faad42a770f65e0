"""Which checkpoints an arm starts from, and what it pays for."""

from dataclasses import replace

import numpy as np

from armresults import PLANS, make_result
from mashup._score.scores import Score
from mashup.evaluate.evaluate import Evaluation
from mashup.experiment.arms import make_plan
from mashup.experiment.jobs import Inputs
from mashup.experiment.results import make_records
from mashup.experiment.settings import Experiment
from mashup.experiment.work import drawn, joined
from mashup.settings import ARMS, USUAL_ARMS
from races import candidate, scored

TASKS = {name: {"dataset": f"{name}.jsonl"} for name in ("one", "two", "three")}
INPUTS = Inputs("base", {name: name for name in TASKS}, dict.fromkeys(TASKS, 8))
OUTSIDE = replace(INPUTS, library={"a": "digest a", "b": "digest b"})


def ranking(count):
    one = Evaluation(np.ones(4), np.ones(4, int), np.ones(4, bool))
    return tuple(Score(None, one, f"digest{n}") for n in range(count))


def plan_of(arms, inputs=INPUTS, **more):
    values = {"name": "x", "base": "b", "tasks": TASKS, "targets": ["one"], "arms": arms}
    values |= {"learning_rates": [1e-3], "seeds": [1, 2]}
    return make_plan(Experiment(**values | more), inputs)


def test_every_arm_has_its_cells_and_scratch_is_always_there():
    plan = plan_of(ARMS, draws=2)
    names = list(dict.fromkeys(cell.arm for cell in plan.cells))
    assert names[:3] == ["scratch", "mashup", "race"]
    draws = {"random-1", "random-2", "blind-1", "blind-2", "single-two", "single-three"}
    assert set(names) == (set(ARMS) - {"random", "blind", "each-single"}) | draws
    assert {cell.arm for cell in plan_of(("mashup",)).cells} == {"scratch", "mashup"}


def test_only_the_arms_that_used_the_ranking_pay_for_it():
    cells = plan_of(USUAL_ARMS, OUTSIDE, library="lib").cells
    assert {cell.arm: cell.score is not None for cell in cells} == {
        "scratch": False,
        "mashup": True,
        "best-single": True,
        "random-two": False,
        "merged-untrained": True,
    }


def test_controls_run_with_the_seeds_of_controls():
    def seeds(plan):
        return {arm: [c.seed for c in plan.cells if c.arm == arm] for arm in USUAL_ARMS}

    assert seeds(plan_of(USUAL_ARMS)) == {
        "scratch": [1, 2], "mashup": [1, 2], "best-single": [1], "random-two": [1],
        "merged-untrained": [1],
    }  # fmt: skip
    whole = plan_of(USUAL_ARMS, control_seeds=[1, 2])
    assert all(found == [1, 2] for found in seeds(whole).values())
    pairs = [cell.init for cell in whole.cells if cell.arm == "random-two"]
    assert len(set(pairs)) == 2  # each seed has its own draw


def test_of_a_library_the_merge_decides_the_size_of_all_arms():
    plan = plan_of(("mashup", "random", "scratch-longer"), OUTSIDE, library="lib")
    (mashup,) = (cell.init for cell in plan.cells if cell.arm == "mashup" and cell.seed == 1)
    for cell in plan.cells:
        assert all(plan.jobs[key].needs["size"] == (mashup,) for key in cell.runs)
        if cell.arm.startswith("random"):
            assert plan.jobs[cell.init].needs["size"] == (mashup,)
    own = plan_of(("mashup",), OUTSIDE, library="lib", match_rank=False)
    assert not [job for job in own.jobs.values() if "size" in job.needs]
    alone = plan_of(("scratch",), OUTSIDE, library="lib")
    assert {job.kind for job in alone.jobs.values()} == {"train"}


def test_targets_that_share_their_donors_do_not_share_their_draws():
    donors = ranking(8)
    left_out = [tuple(d for d in donors if d is not target) for target in donors]
    pairs = [
        drawn(rest, 2, f"1 {target.digest}") for target, rest in zip(donors, left_out, strict=True)
    ]
    assert len({frozenset(s.digest for s in pair) for pair in pairs}) >= 6
    assert len({s.digest for pair in pairs for s in pair}) >= 6
    assert drawn(donors, 2, "1 sst2") == drawn(donors[::-1], 2, "1 sst2")
    assert drawn(donors, 2, "1 sst2") != drawn(donors, 2, "2 sst2")


def test_another_processor_draws_the_same_donors_though_their_bytes_differ():
    losses, names = np.ones(4), [f"task{n}" for n in range(8)]
    here = [scored(candidate(name, f"digest{n}"), losses) for n, name in enumerate(names)]
    there = [scored(candidate(name, f"other{7 - n}"), losses) for n, name in enumerate(names)]
    for draw in range(10):
        pairs = [[one.name for one in drawn(some, 2, draw)] for some in (here, there)]
        assert pairs[0] == pairs[1]
        pairs = [[one.name for one in drawn(some, 2, f"{draw} sst2")] for some in (here, there)]
        assert pairs[0] == pairs[1]


def test_random_parents_depend_on_the_seed_and_not_on_the_ranking():
    scores = ranking(9)
    pairs = {tuple(s.digest for s in drawn(scores, 2, seed)) for seed in range(40)}
    assert len(pairs) > 10
    assert drawn(scores, 2, 3) == drawn(scores[::-1], 2, 3)
    assert len(drawn(scores[:1], 2, 3)) == 1


def test_names_of_many_long_donors_fit_a_file_name():
    assert joined(["a/b", "c"]) == "a-b+c"
    long = joined(["漢字" * 30] * 6)
    assert 90 < len(long.encode()) <= 100


def test_an_arm_is_judged_by_the_point_that_is_kept_and_pays_for_all_steps(tmp_path):
    result = make_result(tmp_path, "mashup", PLANS["mashup"], 42, 1.0)
    best = result.run.curve[4]
    run = replace(result.run, record=result.run.record | {"best_step": best.step})
    records = make_records("e", "t", [replace(result, run=run)])
    found = {one.metric: one for one in records}
    assert (found["dev_loss"].step, found["dev_loss"].value) == (best.step, best.dev_loss)
    assert found["train_seconds"].value == result.run.last.seconds > best.seconds
    assert found["total_seconds"].value == result.run.last.seconds + result.before


def test_a_rate_may_be_searched_with_some_seeds_alone():
    more = {"learning_rates": [1e-3, 5e-4], "seeds": [1, 2, 3], "control_seeds": [1, 3]}
    plan = plan_of(("mashup", "best-single"), search_seeds=1, **more)
    cells = {(cell.arm, cell.seed): cell for cell in plan.cells}
    for arm, seeds in (("scratch", (2, 3)), ("mashup", (2, 3)), ("best-single", (3,))):
        first = cells[arm, 1].runs
        assert len(first) == 2
        for seed in seeds:
            (key,) = cells[arm, seed].runs
            assert plan.jobs[key].needs["search"] == first
            assert plan.jobs[key].name.endswith(f"{arm} seed {seed}")
    whole, two = plan_of(("mashup",), **more), plan_of(("mashup",), search_seeds=2, **more)
    assert all(len(cell.runs) == 2 for cell in whole.cells)
    (key,) = (cell.runs[0] for cell in two.cells if (cell.arm, cell.seed) == ("mashup", 3))
    assert len(two.jobs[key].needs["search"]) == 4
    assert set(whole.jobs) > {key for cell in two.cells if cell.seed < 3 for key in cell.runs}


def test_the_untrained_merge_is_judged_at_step_0_also_where_runs_read_the_test_rows_at_the_end():
    arms = ("mashup", "merged-untrained")
    plan = plan_of(arms, control_seeds=[1, 2], train={"test_points": "end"})
    (start,) = {cell.runs for cell in plan.cells if cell.arm == "merged-untrained"}
    settings = plan.jobs[start[0]].decides["settings"]
    assert (settings["max_steps"], settings.get("test_points", "all")) == (1, "all")
    assert plan.jobs[start[0]].name == "train one merged-untrained"
    without = plan_of(("mashup",), train={"test_points": "end"})
    assert set(plan.jobs) - set(without.jobs) == set(start)
    usual = plan_of(arms)
    assert not [job for job in usual.jobs.values() if "untrained" in job.name]


def test_controls_can_have_budgets_too():
    arms = ("mashup", "best-single", "race", "merged-untrained")
    plan = plan_of(arms, budgets=[0.25, 1], control_budgets=[0.25])
    budgets = {arm: {c.budget for c in plan.cells if c.arm == arm} for arm in ("scratch", *arms)}
    assert budgets == {
        "scratch": {0.25, 1.0}, "mashup": {0.25, 1.0}, "best-single": {0.25}, "race": {0.25},
        "merged-untrained": {1.0},
    }  # fmt: skip
    stages = {(c.arm, c.budget): c.stage for c in plan.cells}
    assert stages["mashup", 0.25] < stages["best-single", 0.25] < stages["mashup", 1.0]
    races = [plan.jobs[c.runs[0]] for c in plan.cells if c.arm == "race"]
    assert {job.decides["settings"]["max_steps"] for job in races} == {
        plan.jobs[c.runs[0]].decides["settings"]["max_steps"]
        for c in plan.cells
        if (c.arm, c.budget) == ("mashup", 0.25)
    }
    assert all(job.name.endswith("budget 0.25") for job in races)
    both = plan_of(arms, budgets=[0.25, 1], control_budgets=[0.25, 1])
    usual = plan_of(arms, budgets=[0.25, 1])
    assert set(both.jobs) == set(plan.jobs) | set(usual.jobs)


def test_controls_may_search_with_another_seed_than_scratch():
    """The plan looked for scratch's run of seed 2 at every rate, and scratch has one."""
    more = {"learning_rates": [1e-3, 5e-4], "seeds": [1, 2], "search_seeds": 1}
    plan = plan_of(("mashup", "best-single"), control_seeds=[2], **more)
    runs = {(c.arm, c.seed): c.runs for c in plan.cells}
    assert len(runs["best-single", 2]) == 2
    assert len(runs["mashup", 2]) == len(runs["scratch", 2]) == 1
    assert all("same" not in plan.jobs[key].about for key in runs["best-single", 2])
    assert plan.jobs[runs["mashup", 2][0]].about["same"] == {runs["scratch", 2][0]: None}
