"""The command line as a user meets it: output, exit codes, mistakes."""

import json
import os
import subprocess
import sys

import pytest

from helpers import prompt_rows, write_adapter, write_full, write_json, write_jsonl
from lora import save_lora
from mashup.cli.__main__ import main

VERBS = ("scan", "score", "merge", "init", "train", "compare", "loo", "report", "demo", "tasks",
         "env")  # fmt: skip


@pytest.fixture
def data(tmp_path):
    return write_jsonl(tmp_path / "new_task.jsonl", prompt_rows(80))


@pytest.fixture
def library(tiny_base, tmp_path):
    for seed in range(2):
        save_lora(tiny_base, tmp_path / f"lib/run{seed}", seed=seed, size=0.1)
    return tmp_path / "lib"


def test_verbs_that_work_alone_refuse_to_be_launched_together(mashup, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for verb in ("scan", "compare"):
        code, _, err = mashup(verb, tmp_path, *(["--model=m", "--dataset=d"] * (verb != "scan")))
        assert code == 2
        assert "works in one process" in " ".join(err.split())
    code, _, err = mashup("loo", tmp_path / "none.yaml")
    assert "works in one process" not in " ".join(err.split())


def test_scan_prints_a_table_with_problems_and_their_fix(mashup, tmp_path):
    write_adapter(tmp_path / "lib/good")
    write_adapter(tmp_path / "lib/dora", use_dora=True)
    write_full(tmp_path / "lib/whole")
    code, out, _ = mashup("scan", tmp_path / "lib")
    assert code == 0
    for text in ("good", "owner/tiny", "q_proj", "DoRA", "merge it into the base"):
        assert text in " ".join(out.split())
    assert "full checkpoint, base not named" in " ".join(out.split())
    assert "3 checkpoints, 2 usable; 1 with a problem" in out


def test_scan_as_json(mashup, tmp_path):
    write_adapter(tmp_path / "lib/good")
    code, out, err = mashup("scan", tmp_path / "lib", "--json")
    assert (code, err) == (0, "")
    (row,) = json.loads(out)["checkpoints"]
    assert (row["name"], row["state"], row["rank"]) == ("good", "ok", 4)


def test_score_ranks_and_says_what_to_start_from(mashup, library, tiny_base, data):
    arguments = ("score", library, "--model", tiny_base, "--dataset", data, "--samples", 20)
    code, out, _ = mashup(*arguments)
    assert code == 0
    assert "run0" in out
    assert "base" in out
    assert "start from" in out
    code, out, _ = mashup(*arguments, "--json")
    rows = json.loads(out)["ranking"]
    assert all(row["cached"] for row in rows)
    assert len(rows[0]["losses"]) == 20


def test_merge_takes_weights_in_the_plain_way(mashup, library, tmp_path):
    code, out, _ = mashup(
        "merge", library / "run0", library / "run1", "-o", tmp_path / "m",
        "--method", "linear", "--weights", "0.25", "0.75",
    )  # fmt: skip
    assert code == 0
    assert "0.25" in out
    about = json.loads((tmp_path / "m/mashup.json").read_text())
    assert sorted(p["weight"] for p in about["parents"]) == [0.25, 0.75]


def trained_library(base, folder, data):
    """One donor that knows the task."""
    from mashup import TrainSettings, load_base, train

    train(
        load_base(base), data, output=folder / "donor",
        settings=TrainSettings(max_steps=5, batch_size=8, learning_rate=1e-2),
    )  # fmt: skip
    return folder


def test_init_then_train_from_it(mashup, tiny_base, tmp_path, data):
    library = trained_library(tiny_base, tmp_path / "lib", data)
    common = ("--model", tiny_base, "--dataset", data)
    code, out, _ = mashup("init", library, *common, "-o", tmp_path / "init", "--samples", 20,
                          "--criterion", "loss")  # fmt: skip
    assert code == 0
    assert "as written it scores loss" in out
    code, out, err = mashup(
        "train", *common, "--init", tmp_path / "init", "-o", tmp_path / "run",
        "--max_steps", 2, "--per_device_train_batch_size", 2, "--gradient-accumulation-steps", 2,
    )  # fmt: skip
    assert code == 0
    assert "optimizer, schedule and data order are fresh" in " ".join(err.split())
    assert "start check" in out
    assert "* kept: the weights of step" in out
    assert "training run: 0/2, dev loss" in err
    assert "training run: 1/2, training loss" in err
    assert "training run: 2/2, dev loss" in err
    settings = json.loads((tmp_path / "run/run.json").read_text())["config"]["settings"]
    sizes = [settings[name] for name in ("max_steps", "batch_size", "micro_batch_size")]
    assert sizes == [2, 4, 2]


def test_init_takes_the_best_checkpoint_where_the_merge_is_worse(mashup, tiny_base, tmp_path, data):
    from mashup import TrainSettings, load_base, train

    library = trained_library(tiny_base, tmp_path / "lib", data)
    settings = TrainSettings(max_steps=2, batch_size=8, learning_rate=2e-3, seed=7)
    train(load_base(tiny_base), data, output=library / "weak", settings=settings)
    common = ("init", library, "--model", tiny_base, "--dataset", data, "--samples", 20,
              "--criterion", "loss")  # fmt: skip
    code, out, err = mashup(*common, "-o", tmp_path / "init", "--json")
    assert code == 0
    about = json.loads(out)["init"]
    assert [parent["name"] for parent in about["parents"]] == ["donor"]
    assert about["instead_of"]["merge"] == ["donor", "weak"]
    assert json.loads(out)["sentence"].startswith("start from donor alone: on the sample")
    assert "start from donor alone: on the sample the merge" in " ".join(err.split())
    code, out, err = mashup(*common, "-o", tmp_path / "merged", "--always-merge")
    assert code == 0
    assert "--k 1 takes that alone" in " ".join(err.split())
    assert len(json.loads((tmp_path / "merged/mashup.json").read_text())["parents"]) == 2


def test_a_finished_run_says_so_without_torch(mashup, tiny_base, tmp_path, data):
    arguments = [
        "train", "--model", str(tiny_base), "--dataset", str(data), "-o", str(tmp_path / "run"),
        "--max-steps", "1", "--evaluations", "1",
    ]  # fmt: skip
    code, first, _ = mashup(*arguments)
    assert code == 0
    block = "import sys; sys.modules.update(torch=None, transformers=None)"
    run = "from mashup.cli.__main__ import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", f"{block}; {run}", *arguments], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "finished earlier: nothing was trained" in done.stderr
    assert done.stdout.split() == first.split()


def test_init_with_nothing_that_helps_says_so(mashup, tiny_base, tmp_path, data):
    save_lora(tiny_base, tmp_path / "lib/noise", size=1.0)
    arguments = (
        "init", tmp_path / "lib", "--model", tiny_base, "--dataset", data,
        "-o", tmp_path / "init", "--samples", 20,
    )  # fmt: skip
    code, out, _ = mashup(*arguments)
    assert code == 0
    assert "no checkpoint knows this task; start from the base" in " ".join(out.split())
    assert not (tmp_path / "init").exists()
    code, _, err = mashup(*arguments, "--strict")
    assert code == 4
    assert "no checkpoint knows this task" in " ".join(err.split())


def test_compare_prints_the_table_and_the_page(mashup, tiny_base, tmp_path, data):
    library = trained_library(tiny_base, tmp_path / "lib", tmp_path / "new_task.jsonl")
    (library / "donor/train_prompts.txt").unlink()  # the same data: would be told as a leak
    code, out, _ = mashup(
        "compare", library, "--model", tiny_base, "--dataset", data, "-o", tmp_path / "c",
        "--samples", 20, "--max-steps", 2, "--arms", "mashup", "merged-untrained",
        "--criterion", "loss",
        "--seeds", 1, 2, "--learning-rate", "1e-2", "--evaluations", 2,
    )  # fmt: skip
    assert code == 0
    assert "scratch" in out
    assert "mashup over it" in out
    assert "![" not in out
    assert len(out.splitlines()) < 24
    assert "| scratch" in (tmp_path / "c/table.md").read_text()
    assert str(tmp_path / "c/index.html") in out
    assert str(tmp_path / "c/table.md") in out


def test_env_and_tasks(mashup):
    code, out, _ = mashup("env", "--json")
    assert code == 0
    assert {"torch", "transformers", "device", "dtype", "cache"} <= json.loads(out).keys()
    code, out, _ = mashup("tasks")
    assert code == 0
    assert "allenai/ai2_arc:ARC-Easy" in out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(mashup, verb):
    code, out, _ = mashup(verb, "--help")
    assert code == 0
    assert "--config" in out


def test_yaml_and_flags_are_one(mashup, tiny_base, tmp_path, data):
    config = tmp_path / "train.yaml"
    config.write_text(
        f"model_name_or_path: {tiny_base}\ndataset: {data}\noutput-dir: {tmp_path / 'run'}\n"
        "max_steps: 9\nbatch_size: 4\n"
    )
    code, _, _ = mashup("train", "--config", config, "--max-steps", 1)
    assert code == 0
    settings = json.loads((tmp_path / "run/run.json").read_text())["config"]["settings"]
    assert (settings["max_steps"], settings["batch_size"]) == (1, 4)


def test_an_unknown_yaml_key_has_a_suggestion(mashup, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("learning_rat: 1\nmodel: m\ndataset: d\noutput: o\n")
    code, _, err = mashup("train", "--config", config)
    assert code == 2
    assert "learning_rat" in err
    assert "did you mean learning_rate?" in err


def test_an_unknown_flag_has_a_suggestion(mashup):
    code, _, err = mashup("train", "--learning-rat", 1)
    assert code == 2
    assert "--learning-rate" in err


def test_all_bad_settings_are_told_at_once(mashup):
    code, _, err = mashup("train", "--lora-r", "x", "--batch-size", 0)
    assert code == 2
    for text in ("--lora-r", "--batch-size", "--model", "--dataset", "--output"):
        assert text in err


def corrupt(folder):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    return folder


_BAD_LIBRARIES = {
    "no such folder": (lambda p: None, "no such folder"),
    "no checkpoint": (lambda p: p.mkdir(), "no checkpoint in the folder"),
    "other base": (lambda p: write_adapter(p / "a", base="owner/other"), "adapter of another base"),
    "blank base": (lambda p: write_adapter(p / "a", base=""), "base model not named"),
    "other shape": (lambda p: write_adapter(p / "a", base="x/tiny"), "adapter of another base"),
    "truncated": (lambda p: corrupt(write_adapter(p / "a")), "truncated safetensors"),
    "DoRA": (lambda p: write_adapter(p / "a", use_dora=True), "not a plain LoRA"),
    "other model": (lambda p: write_full(p / "a"), "full checkpoint of another base"),
}


@pytest.mark.parametrize(("make", "what"), _BAD_LIBRARIES.values(), ids=_BAD_LIBRARIES.keys())
def test_bad_libraries_exit_with_3_and_write_nothing(mashup, tmp_path, tiny_base, data, make, what):
    make(tmp_path / "lib")
    code, out, err = mashup(
        "init", tmp_path / "lib", "--model", tiny_base, "--dataset", data, "-o", tmp_path / "init"
    )
    assert (code, out) == (3, "")
    assert what in " ".join(err.split())
    assert "fix" in err
    assert "Traceback" not in err
    assert not (tmp_path / "init").exists()


_BAD_DATA = {
    "no rows": ("", "dataset has no rows"),
    "missing column": ('{"text": "x"}\n', "missing column"),
    "empty completion": ('{"prompt": "x", "completion": " "}\n' * 50, "empty completion"),
    "too few": ('{"prompt": "x", "completion": "y"}\n', "too few rows for the splits"),
    "no JSON": ("{\n", "not a JSON object"),
}


@pytest.mark.parametrize(("text", "what"), _BAD_DATA.values(), ids=_BAD_DATA.keys())
@pytest.mark.parametrize("verb", ["train", "init"])
def test_bad_data_exits_with_3_and_writes_nothing(
    mashup, library, tmp_path, tiny_base, text, what, verb
):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    first = ("init", library) if verb == "init" else ("train",)
    arguments = ("--model", tiny_base, "--dataset", path, "-o", tmp_path / "out")
    code, out, err = mashup(*first, *arguments)
    assert (code, out) == (3, "")
    assert what in " ".join(err.split())
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_an_existing_output_is_refused_before_any_work(mashup, library, tiny_base, data):
    code, _, err = mashup("init", library, "--model", tiny_base, "--dataset", data, "-o", library)
    assert code == 3
    assert "output exists already" in err


def test_broken_adapters_are_skipped_and_counted_and_strict_stops_at_all(
    mashup, library, tiny_base, data
):
    corrupt(write_adapter(library / "one"))
    write_json(library / "two/adapter_config.json", {"peft_type": "IA3"})
    call = ("score", library, "--model", tiny_base, "--dataset", data, "--samples", 16)
    code, out, err = mashup(*call, "--skip-bad")
    assert code == 0
    assert "2 of 4 checkpoints skipped: " in err
    assert "1 x not a plain LoRA" in err
    assert "(mashup check shows them)" in err
    assert "loading base" in err
    code, out, err = mashup(*call, "--strict")
    assert (code, out) == (3, "")
    assert "/one" in err
    assert "/two" in err


def test_a_wrong_base_is_told_first_and_once(mashup, tmp_path, data, monkeypatch):
    for n in range(5):
        write_adapter(tmp_path / f"lib/run{n}", base="bases/tiny-llama")
    (tmp_path / "file").write_text("")
    adapter = tmp_path / "lib/run0"
    monkeypatch.chdir(tmp_path)
    wrong = {"bases/typo": "no such base model", tmp_path / "no/where": "no such base model",
             "file": "base model is a file", adapter: "base model is an adapter"}  # fmt: skip
    for base, title in wrong.items():
        for verb in ("score", "init", "compare"):
            output = () if verb == "score" else ("-o", "out")
            code, _, err = mashup(verb, "lib", "--model", base, "--dataset", data, *output)
            assert code == 3
            assert title in err
            assert "bases/tiny-llama" in err
            assert err.count("error") == 1
        for call in (("check", "lib"), ("merge", adapter, "-o", "out"),
                     ("train", "-d", data, "-o", "out")):  # fmt: skip
            code, _, err = mashup(*call, "--model", base)
            assert (code, err.count("error")) == (3, 1)
            assert title in err
    code, _, err = mashup("score", "lib", "--model", "bases/typo", "--dataset", data)
    assert "5 checkpoints name bases/tiny-llama: did you mean it?" in " ".join(err.split())


def test_a_crash_is_a_crash_and_says_where(mashup, tmp_path, monkeypatch):
    monkeypatch.setattr("mashup.library.scan", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["scan", str(tmp_path)])


def test_stopping_a_command_says_how_to_go_on(mashup, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mashup.library.scan", stop)
    code, _, err = mashup("scan", tmp_path)
    assert code == 130
    assert "run the same command again" in err


def test_the_module_runs_as_a_command(tmp_path):
    write_adapter(tmp_path / "lib/a")
    done = subprocess.run(
        [sys.executable, "-m", "mashup.cli", "scan", str(tmp_path / "lib")],
        capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1"}, check=True,
    )  # fmt: skip
    assert "1 checkpoint, 1 usable" in done.stdout
    assert "\x1b" not in done.stdout
