"""The ridge probe of benchmarks/probe.py."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from helpers import prompt_rows, write_jsonl
from mashup import load_base, load_task
from mashup.task import tokenize

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "probe.py"


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("probe", SCRIPT)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_leave_one_out_in_closed_form_is_the_regression_on_the_others(module):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(12, 5))
    features -= features.mean(0)
    targets = np.eye(3)[np.arange(12) % 3]
    strength = 0.3 * np.trace(features @ features.T) / 12
    found = module.leave_one_out(features, targets, 0.3)
    for row in range(12):
        kept = np.arange(12) != row
        # The intercept has no penalty, so it is fitted with the weights.
        design = np.column_stack([np.ones(11), features[kept]])
        penalty = strength * np.diag([0.0, *np.ones(5)])
        weights = np.linalg.solve(design.T @ design + penalty, design.T @ targets[kept])
        np.testing.assert_allclose(found[row], np.r_[1.0, features[row]] @ weights, atol=1e-8)


def test_states_that_tell_the_answer_have_bits_and_noise_has_none(module):
    generator = np.random.default_rng(1)
    labels = generator.permutation(np.arange(64) % 2)
    noise = generator.normal(size=(64, 200))
    prompts = np.arange(64)
    assert module.probe_bits(noise, labels, prompts) < 0.05
    telling = noise.copy()
    telling[:, :4] += 4.0 * (2 * labels[:, None] - 1)
    assert module.probe_bits(telling, labels, prompts) > 0.5


def test_hidden_states_are_those_of_the_prompt_alone(module, tiny_base, tmp_path):
    base = load_base(tiny_base, dtype="float32")
    task = load_task(write_jsonl(tmp_path / "d.jsonl", prompt_rows(40)))
    examples = task.sample(12, 42)
    tokens = tokenize(base.tokenizer, examples, max_length=512)
    found = module.hidden_states(base, tokens)
    import torch

    for row in (0, 11):
        prompt = tokens[row].ids[: tokens[row].answer.index(True)]
        with torch.no_grad():
            alone = base.model.base_model(torch.tensor([prompt])).last_hidden_state[0, -1]
        np.testing.assert_allclose(found[row], alone.numpy(), rtol=1e-3, atol=1e-4)
    assert np.isfinite(module.probe(base, None, examples))
