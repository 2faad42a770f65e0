"""Models in pieces: which trainer left them, and a command that mends them as they lie."""

import shlex

import pytest

import trees
from helpers import write_json
from mashup import read_checkpoint


def fix_of(folder):
    problem = read_checkpoint(folder).problem
    assert problem.what == "checkpoint in pieces"
    return problem.fix


def test_without_its_script_deepspeed_is_asked_itself(tmp_path):
    folder = trees.deepspeed(tmp_path / "checkpoint-10")
    (folder / "zero_to_fp32.py").unlink()
    expected = "python -m deepspeed.utils.zero_to_fp32 . consolidated --safe_serialization"
    assert expected in fix_of(folder)


def test_the_folder_of_fsdp_is_named_as_it_is_called(tmp_path):
    folder = trees.fsdp(tmp_path / "checkpoint-10")
    (folder / "pytorch_model_fsdp_0").rename(folder / "pytorch_model_fsdp_1")
    assert "merge-weights pytorch_model_fsdp_1 consolidated" in fix_of(folder)


def test_the_inner_folder_of_fsdp_can_be_given_itself(tmp_path):
    folder = trees.fsdp(tmp_path / "checkpoint-10")
    assert "merge-weights . consolidated" in fix_of(folder / "pytorch_model_fsdp_0")


def test_one_whole_file_of_fsdp_only_has_to_be_renamed(tmp_path):
    write_json(tmp_path / "config.json", {})
    (tmp_path / "pytorch_model_fsdp.bin").write_bytes(b"x")
    fix = fix_of(tmp_path)
    assert "rename pytorch_model_fsdp.bin to pytorch_model.bin" in fix
    assert "mashup convert" in fix


@pytest.mark.parametrize("folder", ["pytorch_model_fsdp_0", "."])
def test_accelerate_takes_the_command(folder):
    from accelerate.commands.merge import merge_command_parser

    command = f"accelerate merge-weights {folder} consolidated"
    given = merge_command_parser().parse_args(shlex.split(command)[2:])
    assert (given.checkpoint_directory, given.output_path) == (folder, "consolidated")
    assert not given.unsafe_serialization
