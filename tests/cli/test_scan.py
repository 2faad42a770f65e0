"""``mashup scan``: a line for each checkpoint, what is wrong below, a line for each base."""

import json
import os

import pytest

from helpers import write_adapter, write_full

LAYERS = {f"model.layers.0.self_attn.{name}_proj": (16, 16) for name in "qkvo"} | {
    f"model.layers.0.mlp.{name}_proj": (16, 16) for name in ("gate", "up", "down")
}


@pytest.fixture
def library(tmp_path):
    folder = tmp_path / "lib"
    for n in range(3):
        where = folder / f"run-{n}-with-a-name-that-says-much/checkpoint-{n + 1}000"
        write_adapter(where, modules=LAYERS, rank=4 * (n + 1), seed=n, base="/a/long/path/to/llama")
    write_adapter(folder / "small", rank=8)
    for name in ("one", "two", "three", "four"):
        write_adapter(folder / name, use_dora=True)
    write_full(folder / "whole")
    return folder


def test_80_columns_hold_a_line_for_each_checkpoint(mashup, library, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = mashup("scan", library)
    assert code == 0
    table = [line.rstrip() for line in out.splitlines()]
    table = table[: next(n for n, line in enumerate(table) if n > 2 and not line)]
    assert max(map(len, table)) <= 80
    assert len([line for line in table if line]) == 2 + 9
    assert sum("all-linear" in line for line in table) == 3
    assert table[1].split()[:2] == ["state", "name"]
    assert "metric" not in out


def test_in_a_pipe_nothing_is_cut(mashup, library):
    _, out, _ = mashup("scan", library)
    assert "run-0-with-a-name-that-says-much/checkpoint-1000" in out
    assert "…/llama" in out
    assert "base /a/long/path/to/llama" in out


def test_problems_and_bases_are_told_once(mashup, library):
    _, out, _ = mashup("scan", library)
    (line,) = [line for line in out.splitlines() if line.startswith("not a plain LoRA (")]
    assert line.startswith("not a plain LoRA (4 times): ")
    assert "and 1 more" in line
    assert "merge it into the base" in line
    assert "base /a/long/path/to/llama: 3 LoRAs of ranks 4, 8, 12; 3 usable" in out
    assert "base owner/tiny: 5 LoRAs of rank 8; 1 usable" in out
    assert out.rstrip().endswith("9 checkpoints, 5 usable; 4 with a problem")


@pytest.mark.parametrize(
    ("flags", "count"),
    [
        (("--only-base", "llama"), 3),
        (("--only-base", "/a/long/*"), 3),
        (("--only-base", "owner/tiny,llama"), 8),
        (("--only-rank", 8), 2),
        (("--only-rank", 4, 8), 3),
        (("--only-base", "llama", "--only-rank", "8"), 1),
        (("--only-task", "none"), 0),
    ],
)
def test_filters(mashup, library, flags, count):
    code, out, _ = mashup("scan", library, *flags, "--json")
    assert code == 0
    assert len(json.loads(out)["checkpoints"]) == count
    code, out, _ = mashup("scan", *flags, library)
    assert code == 0
    assert f"{count} checkpoint{'s' * (count != 1)} of 9" in out


def test_a_task_is_matched_by_pattern(mashup, tmp_path):
    for task in ("sst2", "trec"):
        folder = write_adapter(tmp_path / "lib" / task)
        (folder / "mashup.json").write_text(json.dumps({"task": task}))
    _, out, _ = mashup("scan", tmp_path / "lib", "--only-task", "sst*", "--json")
    assert [c["task"] for c in json.loads(out)["checkpoints"]] == ["sst2"]


def test_what_was_not_searched_is_said_on_stderr(mashup, tmp_path):
    write_adapter(tmp_path / "lib/a")
    (tmp_path / "lib/gone").symlink_to("nothing")
    (tmp_path / "lib/up").symlink_to("..")
    for arguments in ((), ("--json",)):
        code, out, err = mashup("scan", tmp_path / "lib", *arguments)
        assert code == 0
        assert err == (
            f"1 dangling link: {tmp_path}/lib/gone\n"
            f"1 link to a folder above not followed: {tmp_path}/lib/up\n"
        )
        assert "dangling" not in out


def test_an_index_that_cannot_be_kept_is_said_once_and_stops_nothing(mashup, tmp_path, monkeypatch):
    write_adapter(tmp_path / "lib/a")
    (tmp_path / "lib/.mashup").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    code, out, err = mashup("scan", tmp_path / "lib")
    assert code == 0
    assert "1 checkpoint, 1 usable" in out
    assert err.count("cannot remember results") == 1


def test_names_that_are_not_utf_8_are_printed_escaped(mashup, tmp_path):
    folder = tmp_path / "lib" / os.fsdecode(b"caf\xe9")
    write_adapter(folder / "a")
    write_adapter(tmp_path / "lib" / os.fsdecode(b"b\xe9"), use_dora=True)
    code, out, _ = mashup("scan", tmp_path / "lib")
    assert code == 0
    assert r"b\xe9" in out
    code, out, _ = mashup("scan", tmp_path / "lib", "--json")
    rows = json.loads(out)["checkpoints"]
    assert code == 0
    assert [row["name"] for row in rows] == [r"b\xe9", "a"]
    assert rows[1]["path"] == str(folder / "a")  # what opens it again


def test_links_to_runs_are_a_library(mashup, tmp_path):
    for name in ("one", "two"):
        write_adapter(tmp_path / "runs" / name / "final")
        (tmp_path / "chosen").mkdir(exist_ok=True)
        (tmp_path / "chosen" / name).symlink_to(tmp_path / "runs" / name)
    code, out, err = mashup("scan", tmp_path / "chosen")
    assert (code, err) == (0, "")
    assert "one/final" in out
    assert "two/final" in out


def test_a_name_of_several_is_an_error_of_usage(mashup, tmp_path):
    for name in ("one", "two"):
        write_adapter(tmp_path / "lib" / name / "merged", base="")
    code, _, err = mashup("scan", tmp_path / "lib", "--base", "merged:owner/tiny")
    assert code == 2
    assert "name of several checkpoints" in err
    assert "one/merged, two/merged" in err
