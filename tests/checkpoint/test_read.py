import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trees
from helpers import assert_problem, refused, write_adapter, write_full, write_json
from mashup.checkpoint import Checkpoint, read_checkpoint
from mashup.checkpoint.read import kind_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
NUMBERS = dict.fromkeys(("r", "lora_alpha"), JSON)
NAMES = dict.fromkeys(("rank_pattern", "alpha_pattern", "base_model_name_or_path"), JSON)
SETTINGS = st.fixed_dictionaries({"peft_type": st.just("LORA")}, optional=NUMBERS | NAMES)
KEYS = ("task", "metrics", "log_history", "best_model_checkpoint", "best_global_step")
HISTORY = st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, JSON | st.lists(JSON, max_size=2)))


def test_an_adapter_is_described_from_header_and_json(tmp_path):
    shapes = {"layers.0.q_proj": (16, 16), "layers.1.q_proj": (16, 16), "layers.0.up_proj": (16, 8)}
    folder = write_adapter(tmp_path / "a", modules=shapes, rank=4, rank_pattern={"up_proj": 6})
    write_json(folder / "mashup.json", {"task": {"name": "trec"}, "metrics": {"test_loss": 0.5}})
    assert read_checkpoint(folder) == Checkpoint(
        folder,
        "lora",
        base="owner/tiny",
        rank=6,
        targets=("q_proj", "up_proj"),
        modules=3,
        task="trec",
        metric=("test_loss", 0.5),
        bytes=(folder / "adapter_model.safetensors").stat().st_size,
    )


def test_a_whole_model_is_read_from_its_headers(tmp_path):
    checkpoint = read_checkpoint(write_full(tmp_path / "full"))
    assert checkpoint.state == "full checkpoint, base not named"
    assert checkpoint.usable
    assert checkpoint.bytes == 64


def test_names_runs_and_steps():
    step = Checkpoint(Path("lib/run/checkpoint-20"), "lora")
    final = Checkpoint(Path("lib/run"), "lora")
    assert (step.name, step.run, step.step) == ("run/checkpoint-20", Path("lib/run"), 20)
    assert (final.name, final.run, final.step) == ("run", Path("lib/run"), None)


def test_a_checkpoint_in_the_current_folder_has_that_folders_name(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    assert Checkpoint(Path("."), "lora").name == "run"
    assert Checkpoint(Path("checkpoint-3"), "lora").name == "run/checkpoint-3"


def test_states_say_what_is_to_know(tmp_path):
    write_adapter(tmp_path / "ok")
    write_adapter(tmp_path / "blank", base="")
    write_adapter(tmp_path / "dora", use_dora=True)
    states = {name: read_checkpoint(tmp_path / name).state for name in ("ok", "blank", "dora")}
    assert states == {"ok": "ok", "blank": "base not named", "dora": "not a plain LoRA"}


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["adapter_config.json"], "lora"),
        (["adapter_model.safetensors"], "lora"),
        (["adapter_model.bin", "config.json"], "lora"),
        (["config.json", "model.safetensors.index.json"], "full"),
        (["config.json", "pytorch_model.bin"], "full"),
        (["config.json"], None),
        (["model.safetensors"], None),
        ([], None),
    ],
)
def test_a_folder_is_known_by_its_files(names, kind):
    assert kind_of(names) == kind


def truncate(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def make_pointer(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\n"
    )


def make_pickle(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (truncate, "truncated safetensors"),
        (make_pointer, "git-lfs pointer"),
        (make_pickle, "pickle refused"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "no adapter weights"),
        (lambda folder: (folder / "adapter_config.json").unlink(), "cannot read file"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), "bad adapter settings"),
    ],
)
def test_a_broken_adapter_is_a_checkpoint_with_a_problem(tmp_path, harm, what):
    harm(write_adapter(tmp_path / "a"))
    checkpoint = read_checkpoint(tmp_path / "a")
    assert_problem(checkpoint.problem, what, where=str(tmp_path / "a"))
    assert checkpoint.state == what
    assert not checkpoint.usable


def test_what_is_known_of_a_broken_adapter_is_kept(tmp_path):
    truncate(write_adapter(tmp_path / "a"))
    write_json(tmp_path / "a" / "mashup.json", {"task": "trec"})
    checkpoint = read_checkpoint(tmp_path / "a")
    assert (checkpoint.base, checkpoint.rank, checkpoint.task) == ("owner/tiny", 4, "trec")


def test_a_refused_kind_of_adapter_still_has_its_base(tmp_path):
    assert read_checkpoint(write_adapter(tmp_path / "dora", use_dora=True)).base == "owner/tiny"


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with refused("no checkpoint here", where=str(tmp_path)):
        read_checkpoint(tmp_path)
    with refused("no such folder", where="none"):
        read_checkpoint(tmp_path / "none")


@pytest.fixture(scope="session")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("odd") / "checkpoint-1")


@given(settings=JSON | SETTINGS, manifest=JSON | HISTORY, state=JSON | HISTORY, results=JSON)
def test_no_json_is_so_odd_that_it_stops_a_scan(odd, settings, manifest, state, results):
    for name, value in (
        ("adapter_config.json", settings),
        ("mashup.json", manifest),
        ("trainer_state.json", state),
        ("all_results.json", results),
    ):
        write_json(odd / name, value)
    checkpoint = read_checkpoint(odd)
    assert checkpoint.usable is (checkpoint.problem is None)
    json.dumps(checkpoint.metric, allow_nan=False)


# Models in pieces: which trainer left them, and a command that mends them as they lie.


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
