"""``greedy_soup`` and ``--weights loss``: measured on the task, and they do what they say."""

import json
import math

import pytest

from helpers import write_jsonl
from lora import save_lora
from mashup import TrainSettings, load_base, load_task, merge, train
from mashup._init import Sample, measure
from mashup.cli.__main__ import main
from wholes import materialised

SAMPLES = 24


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rows = ({"prompt": f"Is {n} even?", "completion": "no" if n % 2 else "yes"} for n in range(80))
    return write_jsonl(tmp_path_factory.mktemp("data") / "task.jsonl", rows)


@pytest.fixture(scope="module")
def donors(tiny_base, data, tmp_path_factory):
    """Two runs that know the task, and one that was shaken."""
    root = tmp_path_factory.mktemp("donors")
    for seed in (1, 2):
        settings = TrainSettings(max_steps=6, batch_size=8, learning_rate=1e-2, seed=seed)
        train(load_base(tiny_base), data, output=root / f"good{seed}", settings=settings)
    save_lora(tiny_base, root / "bad", size=0.4)
    return {name: root / name for name in ("good1", "good2", "bad")}


@pytest.fixture(scope="module")
def losses(tiny_base, donors, data):
    base, task = load_base(tiny_base), load_task(str(data))
    return {n: measure(p, base, task, Sample(SAMPLES)).loss for n, p in donors.items()}


def weights_of(folder):
    about = json.loads((folder / "mashup.json").read_text())
    return {parent["name"]: parent["weight"] for parent in about["parents"]}


def run(*arguments):
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in arguments])
    return int(done.value.code or 0)


@pytest.fixture
def merged(tiny_base, data, tmp_path):
    """Merge on the command line, measured on the task."""

    def made(parents, *arguments):
        output = tmp_path / "m"
        given = ("--model", tiny_base, "--dataset", data, "--samples", SAMPLES, "--accept-base")
        assert run("merge", *parents, "-o", output, *given, *arguments) == 0
        return output

    return made


def test_a_parent_that_hurts_gets_no_part_of_the_soup(tiny_base, donors, data, losses, merged):
    assert losses["good1"] < losses["bad"]
    output = merged([donors["bad"], donors["good1"]], "--method", "greedy_soup")
    assert weights_of(output) == {"bad": 0.0, "good1": 1.0}
    found = measure(output, load_base(tiny_base), load_task(str(data)), Sample(SAMPLES)).loss
    assert found == pytest.approx(losses["good1"], rel=1e-4)


def test_the_soup_is_never_worse_than_its_best_parent(tiny_base, donors, data, losses, merged):
    output = merged(donors.values(), "--method", "greedy_soup")
    found = measure(output, load_base(tiny_base), load_task(str(data)), Sample(SAMPLES)).loss
    assert found <= min(losses.values()) * (1 + 1e-4)
    weights = [weight for weight in weights_of(output).values() if weight]
    assert weights == [1 / len(weights)] * len(weights)


def test_whole_models_are_measured_as_well(tiny_base, donors, merged, tmp_path):
    whole = [materialised(tiny_base, donors[n], tmp_path / n) for n in ("good1", "bad")]
    assert weights_of(merged(whole, "--method", "greedy_soup")) == {"bad": 0.0, "good1": 1.0}


def test_weights_from_losses_are_their_softmax(donors, losses, merged):
    output = merged(donors.values(), "--weights", "loss")
    parts = {name: math.exp(-loss) for name, loss in losses.items()}
    expected = {name: part / sum(parts.values()) for name, part in parts.items()}
    assert weights_of(output) == pytest.approx(expected, rel=1e-4)


def test_init_makes_a_soup_of_what_helps(tiny_base, donors, data, losses, tmp_path):
    library = donors["bad"].parent
    for path in library.glob("good*/train_prompts.txt"):
        path.unlink()
    given = ("--model", tiny_base, "--dataset", data, "--samples", SAMPLES, "--k", 3,
             "--criterion", "loss")  # fmt: skip
    assert (
        run(
            "init",
            library,
            *given,
            "-o",
            tmp_path / "m",
            "--method",
            "greedy_soup",
            "--always-merge",
        )
        == 0
    )
    about = json.loads((tmp_path / "m/mashup.json").read_text())
    assert about["method"] == "greedy_soup"
    assert about["sample"]["loss"] <= min(losses.values()) * (1 + 1e-4)


@pytest.mark.parametrize("how", [{"method": "greedy_soup"}, {"weights": "loss"}])
def test_without_a_task_there_is_nothing_to_measure_on(donors, tmp_path, how):
    with pytest.raises(ValueError, match="`dataset`"):
        merge(list(donors.values()), output=tmp_path / "m", accept_base=True, **how)
