"""Mashup with other settings, as arms of one experiment."""

import pytest

from experiments import write_experiment, write_tasks
from mashup import UsageError
from mashup._train.record import Run
from mashup.experiment.run import prepare, run_jobs
from mashup.experiment.settings import Experiment

VARIANTS = {
    "k1": {"choose": {"k": 1}},
    "folded": {"merge": {"fold": True}},
    "all": {"choose": {"k": 2}, "merge": {"scale": 0.5}},
}


@pytest.fixture(scope="module")
def done(tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("variants")
    experiment = write_experiment(
        folder / "variants.yaml", tiny_base, write_tasks(folder), learning_rates=[0.02],
        choose={"samples": 8, "criterion": "loss", "k": 2}, arms=["scratch", "mashup"],
        variants=VARIANTS,
    )  # fmt: skip
    prepared = prepare(experiment, folder / "out")
    return prepared, run_jobs(prepared)


def of_arm(prepared, arm):
    (cell,) = (one for one in prepared.plan.cells if one.arm == arm and one.seed == 1)
    (facts,) = (prepared.store.result(key) for key in cell.runs)
    return Run.open(prepared.store.root / facts["path"]), prepared.store.result(cell.init)


def test_each_variant_starts_from_a_merge_with_its_own_settings(done):
    prepared, _ = done
    run, init = of_arm(prepared, "k1")
    assert len(init["parents"]) == 1
    assert run.record["config"]["settings"]["lora_r"] == 8
    _, init = of_arm(prepared, "folded")
    assert init["folded"]
    run, plain = of_arm(prepared, "mashup")
    assert plain["parents"] == init["parents"]
    assert not plain["folded"]
    assert run.record["config"]["settings"]["lora_r"] == 16


def test_variants_are_arms_of_the_first_control_seed(done):
    _, records = done
    seeds = {}
    for record in records:
        if record.metric == "test_accuracy" and record.seed > 0:
            seeds.setdefault(record.arm, set()).add(record.seed)
    assert seeds == {"scratch": {1, 2}, "mashup": {1, 2}, "k1": {1}, "folded": {1}, "all": {1}}
    against = {record.metric for record in records if record.arm == "mashup"}
    assert {f"test_accuracy_gain_over_{name}" for name in VARIANTS} <= against


def test_a_variant_is_the_jobs_of_an_experiment_with_these_settings(done, tmp_path):
    prepared, _ = done
    values = prepared.experiment.model_dump() | {"variants": {}}
    values["merge"] = values["merge"] | {"scale": 0.5}
    outright = prepare(Experiment(**values), tmp_path / "out")
    cells = {cell.arm: cell for cell in outright.plan.cells if cell.seed == 1}
    (variant,) = (cell for cell in prepared.plan.cells if cell.arm == "all")
    assert (variant.runs, variant.init) == (cells["mashup"].runs, cells["mashup"].init)


def test_what_was_run_can_be_read_again(done):
    experiment = done[0].experiment
    again = Experiment.model_validate_json(experiment.model_dump_json())
    for name in VARIANTS:
        assert again.varied(name) == experiment.varied(name)
    assert again.varied("k1").choose.samples == 8


@pytest.mark.parametrize(
    ("variants", "told"),
    [
        ({"mashup": {}}, "arms of these names are there already"),
        ({"random-1": {}}, "arms of these names are there already"),
        ({"k 1": {}}, "names that match"),
        ({"k1": {"chose": {"k": 1}}}, "did you mean choose"),
        ({"k1": {"choose": {"k": 0}}}, "variants.k1.choose.k"),
        ({"k1": {"merge": {"method": "mean"}}}, "variants.k1.merge.method"),
    ],
)
def test_variants_that_cannot_be(tiny_base, tmp_path, variants, told):
    with pytest.raises(UsageError, match=told):
        write_experiment(tmp_path / "v.yaml", tiny_base, write_tasks(tmp_path), variants=variants)
