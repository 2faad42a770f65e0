import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import assert_problem, refused, settle, write_adapter, write_full, write_json
from mashup.checkpoint import Checkpoint
from mashup.checkpoint.read import describe
from mashup.errors import Problem
from mashup.library import scan
from mashup.library.scan import dump_record, keep_one_per_run, load_record, to_record


def names(root: Path, **options: bool) -> list[str]:
    return [checkpoint.name for checkpoint in scan(root, **options).checkpoints]


@pytest.fixture
def read_again(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that scans read, instead of remembering them, from now on."""
    read: list[Path] = []

    def noted(folder: Path) -> Checkpoint:
        read.append(folder)
        return describe(folder)

    module = importlib.import_module("mashup.library.scan")
    monkeypatch.setattr(module, "describe", noted)
    return read


@pytest.fixture
def library(tmp_path: Path) -> Path:
    root = tmp_path / "library"
    write_adapter(root / "a")
    write_adapter(root / "deep" / "b")
    settle()
    return root


def test_adapters_are_found_in_nested_folders(library):
    found = scan(library)
    assert [c.path for c in found.checkpoints] == [library / "a", library / "deep" / "b"]
    assert found.usable == found.checkpoints
    assert found.problems == ()


def test_one_checkpoint_of_a_run_is_kept_and_all_are_on_demand(library):
    for step in (10, 20, 30):
        write_adapter(library / "run" / f"checkpoint-{step}")
    assert names(library) == ["a", "b", "run/checkpoint-30"]
    state = {"best_model_checkpoint": "elsewhere/run/checkpoint-20"}
    write_json(library / "run" / "checkpoint-30" / "trainer_state.json", state)
    assert names(library) == ["a", "b", "run/checkpoint-20"]
    assert [c.step for c in scan(library).siblings] == [10, 30]
    steps = ["run/checkpoint-10", "run/checkpoint-20", "run/checkpoint-30"]
    assert names(library, all_checkpoints=True) == ["a", "b", *steps]


def test_a_broken_sibling_stays_visible(library):
    for step in (10, 20):
        write_adapter(library / "run" / f"checkpoint-{step}")
    (library / "run" / "checkpoint-20" / "adapter_model.safetensors").write_bytes(b"")
    found = scan(library)
    assert names(library) == ["a", "b", "run/checkpoint-10", "run/checkpoint-20"]
    assert [c.name for c in found.usable] == ["a", "b", "run/checkpoint-10"]
    assert_problem(*found.problems, "truncated safetensors", where="checkpoint-20")


def test_whole_models_are_listed(library):
    write_full(library / "full")
    found = scan(library)
    assert {c.name: c.state for c in found.checkpoints}["full"] == "full checkpoint, base not named"


def test_a_second_scan_reads_nothing_again(library, read_again):
    first = scan(library)
    assert len(read_again) == 2
    assert scan(library) == first
    assert len(read_again) == 2


def test_a_library_that_was_moved_is_still_remembered(library, tmp_path, read_again):
    scan(library)
    moved = library.rename(tmp_path / "moved")
    assert [c.path for c in scan(moved).usable] == [moved / "a", moved / "deep" / "b"]
    assert len(read_again) == 2


def test_another_base_of_a_name_of_the_same_length_is_seen(library):
    path = library / "a" / "adapter_config.json"
    scan(library)
    status = path.stat()
    path.write_text(path.read_text().replace("owner/tiny", "other/tiny"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert scan(library).checkpoints[0].base == "other/tiny"


def test_a_changed_file_is_read_again(library):
    scan(library)
    write_adapter(library / "a", rank=6)
    assert [c.rank for c in scan(library).checkpoints] == [6, 4]


def test_a_broken_adapter_is_seen_to_be_mended_and_a_mended_one_to_break(library):
    weights = library / "a" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    for content, usable in ((whole[:-1], ["b"]), (whole, ["a", "b"]), (b"", ["b"])):
        weights.write_bytes(content)
        assert [c.name for c in scan(library).usable] == usable


def test_new_ones_appear_and_deleted_ones_disappear(library):
    scan(library)
    shutil.rmtree(library / "a")
    write_adapter(library / "c")
    assert names(library) == ["c", "b"]


def test_a_library_that_cannot_be_written_is_remembered_in_the_cache(
    library, tmp_path, monkeypatch, read_again
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (library / ".mashup").touch()  # a file where the folder should be: nobody can write there
    first = scan(library)
    assert len(list((tmp_path / "cache" / "mashup").rglob("*.sqlite"))) == 1
    assert scan(library) == first
    assert len(read_again) == 2


def test_the_current_folder_can_be_scanned(library, monkeypatch):
    monkeypatch.chdir(library / "a")
    assert names(Path(".")) == ["a"]
    assert (library / "a" / ".mashup" / "index.sqlite").exists()


def test_a_folder_without_checkpoints_is_refused_and_left_clean(tmp_path):
    (tmp_path / "empty").mkdir()
    with refused("no checkpoint in the folder", where=str(tmp_path)):
        scan(tmp_path)
    assert not (tmp_path / ".mashup").exists()


def test_a_missing_folder_is_refused(tmp_path):
    with refused("no such folder", where="none"):
        scan(tmp_path / "none")


def test_scanning_imports_neither_torch_nor_transformers(library):
    code = (
        "import sys, mashup\n"
        "assert len(mashup.scan(sys.argv[1]).usable) == 2\n"
        "print({'torch', 'transformers', 'peft', 'numpy'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", code, str(library)]
    assert subprocess.check_output(command, text=True) == "set()\n"


def test_a_folder_of_shards_alone_is_scanned_as_any_other(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/__0_0.distcp").write_bytes(b"x")
    (found,) = scan(tmp_path).checkpoints
    assert_problem(found.problem, "checkpoint in pieces", found="FSDP")


BROKEN = Problem("truncated safetensors", "somewhere")


def step(n, *, best=None, run="run", **fields):
    return Checkpoint(Path(run, f"checkpoint-{n}"), "lora", best_step=best, **fields)


def kept(*checkpoints):
    return [checkpoint.name for checkpoint in keep_one_per_run(checkpoints)[0]]


def test_the_last_step_is_kept_by_number_not_by_name():
    assert kept(step(9), step(100), step(20)) == ["run/checkpoint-100"]


def test_the_best_step_is_kept_when_the_trainer_noted_one():
    assert kept(step(10), step(20), step(30, best=20)) == ["run/checkpoint-20"]


def test_the_latest_note_of_a_best_step_counts():
    assert kept(step(10, best=10), step(20, best=20), step(30, best=20)) == ["run/checkpoint-20"]


def test_a_best_step_that_was_deleted_leaves_the_last():
    assert kept(step(20, best=10), step(30, best=10)) == ["run/checkpoint-30"]


def test_the_final_result_of_a_run_comes_after_all_its_steps():
    final = Checkpoint(Path("run"), "lora")
    assert kept(final, step(10), step(20)) == ["run"]


def test_runs_and_kinds_are_apart():
    full = Checkpoint(Path("run", "checkpoint-30"), "full")
    assert kept(step(10), step(20), full, step(5, run="other")) == [
        "other/checkpoint-5",
        "run/checkpoint-20",
        "run/checkpoint-30",
    ]


@pytest.mark.parametrize("best", [None, 30])
def test_a_broken_sibling_is_seen_and_a_usable_one_is_kept_beside_it(best):
    siblings = (step(10), step(20), step(30, best=best, problem=BROKEN))
    assert kept(*siblings) == ["run/checkpoint-20", "run/checkpoint-30"]


def test_every_checkpoint_is_in_one_of_the_two_groups():
    all_of_them = {step(10), step(20, problem=BROKEN), step(30), step(1, run="other")}
    shown, hidden = keep_one_per_run(all_of_them)
    assert len(shown) + len(hidden) == 4
    assert {*shown, *hidden} == all_of_them
    assert hidden == (step(10),)


WORDS = st.text(max_size=8)
CHECKPOINTS = st.builds(
    Checkpoint,
    path=st.sampled_from([Path("a/run"), Path("a/run/checkpoint-7"), Path(".")]),
    kind=st.sampled_from(["lora", "full"]),
    base=WORDS,
    rank=st.none() | st.integers(1, 512),
    targets=st.lists(WORDS, max_size=3).map(tuple),
    modules=st.integers(0, 1000),
    task=WORDS,
    metric=st.none() | st.tuples(WORDS, st.floats(allow_nan=False)),
    bytes=st.integers(0),
    best_step=st.none() | st.integers(0),
    problem=st.none() | st.builds(Problem, WORDS, WORDS, WORDS, WORDS, WORDS),
)


@given(checkpoint=CHECKPOINTS)
def test_a_checkpoint_comes_back_from_the_index_as_it_was(checkpoint):
    assert load_record(dump_record(checkpoint), checkpoint.path) == checkpoint


def test_a_record_is_json_with_name_and_state():
    problem = Problem("not JSON", "adapter_config.json")
    record = to_record(Checkpoint(Path("run/checkpoint-7"), "lora", problem=problem))
    assert record == json.loads(json.dumps(record)) | {"targets": (), "unmatched": ()}
    assert (record["path"], record["name"]) == ("run/checkpoint-7", "run/checkpoint-7")
    assert (record["state"], record["problem"]["what"]) == ("not JSON", "not JSON")
