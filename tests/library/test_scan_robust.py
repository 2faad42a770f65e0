"""One checkpoint never stops the scan of all the others."""

import errno
import json
import os
import random
import shutil
import threading
from pathlib import Path

import pytest

from helpers import (
    assert_problem,
    prompt_rows,
    refused,
    write_adapter,
    write_full,
    write_json,
    write_jsonl,
)
from lora import save_lora
from mashup import load_base, load_task, merge, scan, score, train
from mashup.files import read_json
from mashup.outputs import to_json, write_text

LATIN = os.fsdecode(b"caf\xe9")


def problems(library):
    return {c.path.name: c.problem for c in library.checkpoints if c.problem}


def test_a_folder_that_goes_away_while_it_is_scanned_is_a_row(tmp_path, monkeypatch):
    for name in "abcd":
        write_adapter(tmp_path / name)
    for name, left in (("b", ()), ("c", ("adapter_model.safetensors",))):
        delete_when_listed(monkeypatch, tmp_path / name, left)
    library = scan(tmp_path)
    assert [c.name for c in library.usable] == ["a", "d"]
    assert_problem(problems(library)["b"], "no such folder", where="b")
    assert_problem(problems(library)["c"], "cannot read file", where="c")


def delete_when_listed(monkeypatch, folder, left):
    """Delete a folder's files, but for some, once it was listed."""
    is_dir = Path.is_dir

    def listed(path):
        if path == folder:
            for file in list(folder.iterdir()):
                if file.name not in left:
                    file.unlink()
            if not left:
                folder.rmdir()
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", listed)


def test_a_folder_that_may_not_be_entered_is_a_row(tmp_path, monkeypatch):
    """As ``drwxr--r--`` for others: it may be listed, but what is in it cannot be reached."""
    write_adapter(tmp_path / "a")
    shut = write_adapter(tmp_path / "shut")
    real = os.stat

    def stat(path, *args, **kwargs):
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(f"{shut}/"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", stat)
    library = scan(tmp_path)
    assert [c.name for c in library.usable] == ["a"]
    assert_problem(problems(library)["shut"], "cannot read file", found="Permission denied")


def in_place_of_a_file(make):
    def harm(folder: Path) -> None:
        (folder / "adapter_model.safetensors").unlink()
        make(folder / "adapter_model.safetensors")

    return harm


@pytest.mark.parametrize(
    "harm",
    [
        in_place_of_a_file(os.mkfifo),
        in_place_of_a_file(os.mkdir),
        in_place_of_a_file(lambda path: path.symlink_to("/dev/zero")),
        in_place_of_a_file(lambda path: path.symlink_to(path.name)),
        lambda folder: (
            (folder / "adapter_config.json").unlink() or os.mkfifo(folder / "adapter_config.json")
        ),
    ],
)
def test_what_is_no_file_is_a_row(tmp_path, harm):
    write_adapter(tmp_path / "a")
    harm(write_adapter(tmp_path / "odd"))
    library = scan(tmp_path)
    assert [c.name for c in library.usable] == ["a"]
    assert problems(library).keys() == {"odd"}


def test_notes_that_are_no_files_are_not_read(tmp_path):
    folder = write_adapter(tmp_path / "a")
    for name in ("mashup.json", "trainer_state.json", "all_results.json", "README.md"):
        os.mkfifo(folder / name)
    assert [c.name for c in scan(tmp_path).usable] == ["a"]


def test_names_that_are_not_utf_8_are_shown_escaped(tmp_path, capsys):
    for _ in range(2):
        write_adapter(tmp_path / LATIN / LATIN)
        (checkpoint,) = scan(tmp_path).usable
        assert checkpoint.name == r"caf\xe9"
        assert checkpoint.path == tmp_path / LATIN / LATIN


def test_a_checkpoint_whose_name_is_not_utf_8_goes_all_the_way(tiny_base, tmp_path):
    library = tmp_path / LATIN
    paths = [save_lora(tiny_base, library / f"{LATIN}{seed}", seed=seed) for seed in range(2)]
    data = write_jsonl(tmp_path / "new.jsonl", prompt_rows(40))
    base, task = load_base(tiny_base, dtype="float32"), load_task(data)
    scores = score(library, base, task, samples=5)
    assert {one.name for one in scores.ranking} == {r"caf\xe90", r"caf\xe91"}
    init = merge(paths, output=tmp_path / "init")
    manifest = json.loads((init.path / "mashup.json").read_text())
    assert {one["name"] for one in manifest["parents"]} == {r"caf\xe90", r"caf\xe91"}
    assert [c.task for c in scan(init.path).usable] == [""]
    assert r"caf\xe90" in (init.path / "README.md").read_text()


def test_json_of_ours_with_such_a_path_can_be_read_again(tmp_path):
    path = tmp_path / "about.json"
    about = {"path": Path(LATIN), LATIN: [LATIN, "\U0001f480", "\\udc80"]}
    write_text(path, to_json(about))
    escaped = r"caf\xe9"
    assert read_json(path) == {"path": escaped, escaped: [escaped, "\U0001f480", "\\udc80"]}


@pytest.mark.parametrize("verb", ["merge", "train"])
def test_an_output_whose_name_is_not_utf_8_is_refused(tiny_base, tmp_path, verb):
    folder = save_lora(tiny_base, tmp_path / "a")
    with refused("path is not UTF-8", where=r"caf\xe9"):
        if verb == "merge":
            merge([folder], output=tmp_path / LATIN)
        else:
            train(tiny_base, "none", output=tmp_path / "run", init=tmp_path / LATIN)


def test_a_base_can_be_named_for_a_path_that_is_not_utf_8(tmp_path):
    from mashup.library import name_bases

    write_adapter(tmp_path / LATIN, base="")
    write_adapter(tmp_path / "other", base="")
    name_bases(tmp_path, scan(tmp_path).checkpoints, [r"caf\xe9:owner/tiny", "other:owner/two"])
    bases = {c.path.name: c.base for c in scan(tmp_path).checkpoints}
    assert bases == {LATIN: "owner/tiny", "other": "owner/two"}


@pytest.mark.parametrize("about", [{"sample": "text"}, {"sample": 7}, [], {"base_digest": [1]}])
def test_a_manifest_that_is_none_of_ours_is_no_matter(tiny_base, tmp_path, about):
    write_json(save_lora(tiny_base, tmp_path / "lib/a", size=0.1) / "mashup.json", about)
    data = write_jsonl(tmp_path / "new.jsonl", prompt_rows(40))
    base = load_base(tiny_base, dtype="float32")
    assert len(score(tmp_path / "lib", base, load_task(data), samples=5).ranking) == 1


def test_scanners_end_while_checkpoints_come_move_and_go(tmp_path):
    root, draw = tmp_path / "lib", random.Random(0)
    for number in range(6):
        write_adapter(root / f"run{number}" / "checkpoint-1")
    ended, failed = threading.Event(), []

    def scanner() -> None:
        try:
            while not ended.is_set():
                for one in scan(root, all_checkpoints=True).checkpoints:
                    assert one.problem is None or one.problem.where
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=scanner) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        for step in range(40):
            churn(root, draw, step)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not failed
    shutil.rmtree(root / ".mashup")
    last = scan(root, all_checkpoints=True).checkpoints
    assert scan(root, all_checkpoints=True).checkpoints == last


def churn(root: Path, draw: random.Random, step: int) -> None:
    """One change that a trainer, or who tidies up, may make."""
    run = draw.choice([path for path in root.iterdir() if path.name != ".mashup"])
    kind = draw.choice(["new", "rotate", "move", "cut", "whole"])
    weights = next(run.glob("*/adapter_model.safetensors"), None)
    if kind == "new" or (kind == "cut" and not weights):
        write_adapter(run / f"checkpoint-{step}", seed=step)
    elif kind == "rotate":
        shutil.rmtree(next(run.glob("checkpoint-*"), run))
    elif kind == "move":
        run.rename(root / f"moved{step}")
    elif kind == "cut":
        weights.write_bytes(weights.read_bytes()[:100])
    else:
        write_full(root / f"whole{step}")
    write_adapter(root / f"kept{step % 3}")
