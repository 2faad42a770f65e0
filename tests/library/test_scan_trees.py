"""Trees of the trainers that people use: every checkpoint is found once, as what it is."""

import pytest

import trees
from helpers import assert_problem, write_adapter, write_full
from mashup import scan

_TREES = {
    "Trainer and TRL": (
        trees.trainer,
        {(".", "lora"), *((f"checkpoint-{n}", "lora") for n in (10, 20))},
    ),
    "Trainer, whole": (
        trees.trainer_full,
        {(".", "full"), *((f"checkpoint-{n}", "full") for n in (10, 20))},
    ),
    "axolotl": (
        trees.axolotl,
        {(".", "lora"), ("merged", "full"), *((f"checkpoint-{n}", "lora") for n in (10, 20))},
    ),
    "LLaMA-Factory": (
        trees.llama_factory,
        {(".", "lora"), *((f"checkpoint-{n}", "lora") for n in (10, 20))},
    ),
    "ms-swift": (
        trees.ms_swift,
        {(f"v0-20241125-101500/checkpoint-{n}", "lora") for n in (10, 20)},
    ),
}


@pytest.mark.parametrize(("make", "expected"), _TREES.values(), ids=_TREES.keys())
def test_every_checkpoint_of_a_tree_is_found(tmp_path, make, expected):
    make(tmp_path / "run")
    library = scan(tmp_path / "run", all_checkpoints=True)
    found = {(str(c.path.relative_to(library.root)), c.kind) for c in library.checkpoints}
    assert found == expected
    assert not library.problems


@pytest.mark.parametrize(
    ("make", "kept"),
    [
        (trees.trainer, ["."]),
        (trees.trainer_full, ["."]),
        (trees.axolotl, [".", "merged"]),
        (trees.llama_factory, ["."]),
        (trees.ms_swift, ["v0-20241125-101500/checkpoint-10"]),
    ],
)
def test_one_a_run_is_kept(tmp_path, make, kept):
    make(tmp_path / "run")
    library = scan(tmp_path / "run")
    assert [str(c.path.relative_to(library.root)) for c in library.checkpoints] == kept


def test_the_metric_that_a_trainer_tells_is_read(tmp_path):
    trees.llama_factory(tmp_path / "run")
    assert scan(tmp_path / "run").checkpoints[0].metric == ("eval_loss", 1.25)


@pytest.mark.parametrize("write", [write_adapter, write_full], ids=["lora", "full"])
def test_shards_of_an_optimizer_beside_whole_weights_are_fine(tmp_path, write):
    write(trees.deepspeed(tmp_path / "run/checkpoint-10"))
    library = scan(tmp_path / "run")
    assert [c.path.name for c in library.checkpoints] == ["checkpoint-10"]
    assert not library.problems


def test_a_model_in_pieces_is_told_how_to_be_mended(tmp_path):
    trees.deepspeed(tmp_path / "run/checkpoint-10")
    trees.fsdp(tmp_path / "other/checkpoint-10")
    (one,) = scan(tmp_path / "run").checkpoints
    assert_problem(one.problem, "checkpoint in pieces", where="checkpoint-10", found="DeepSpeed")
    assert "python zero_to_fp32.py . consolidated --safe_serialization" in one.problem.fix
    (two,) = scan(tmp_path / "other").checkpoints
    assert_problem(two.problem, "checkpoint in pieces", where="checkpoint-10", found="FSDP")
    assert "accelerate merge-weights pytorch_model_fsdp_0 consolidated" in two.problem.fix
