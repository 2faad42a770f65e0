"""A merged full checkpoint in transformers and TRL: a fresh process that has only the folder."""

import math
import subprocess
import sys

import pytest
from torch.testing import assert_close

from lora import mean_logits, some_ids


@pytest.fixture(scope="module")
def full_folder(base, parents, tmp_path_factory):
    """What ``mashup merge A B --output-kind full`` writes."""
    output = tmp_path_factory.mktemp("full") / "merged"
    arguments = [*parents, "--output-kind", "full", "--model", base, "-o", output]
    command = [sys.executable, "-m", "mashup.cli", "merge", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return output


@pytest.fixture(scope="module")
def used(use, full_folder):
    return use(full_folder)


def test_it_is_a_model_folder_and_no_adapter(full_folder):
    names = {path.name for path in full_folder.iterdir()}
    assert names >= {"config.json", "tokenizer.json", "mashup.json", "README.md"}
    assert "adapter_config.json" not in names
    assert any(name.endswith(".safetensors") for name in names)


@pytest.mark.parametrize("how", ["loaded", "transformers", "before"])
def test_transformers_and_trl_before_a_step_compute_the_mean_of_the_parents(
    used, how, base, parents
):
    expected = mean_logits(base, parents, some_ids())
    assert_close(used.logits[how], expected, rtol=1e-4, atol=1e-4)


def test_the_first_loss_of_training_is_the_loss_of_the_model(used):
    (loss,) = used.facts["losses"]
    assert math.isfinite(loss)
    assert loss == pytest.approx(used.facts["loss_before"], rel=1e-4)


def test_one_step_trains_the_whole_model(used):
    assert "model.embed_tokens.weight" in used.facts["trainable"]
    assert not used.logits["after"].equal(used.logits["before"])


def test_the_process_never_met_mashup(used):
    assert used.facts["mashup"] == []
