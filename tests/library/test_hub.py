"""Libraries on the Hub: listed from headers, fetched when needed, against a small HTTP server."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import mashup
from helpers import assert_problem, refused, write_adapter, write_full, write_json
from hubserver import Server, serving
from mashup.checkpoint.read import read_checkpoint
from mashup.errors import InputError, MashupError, UsageError
from mashup.hub import snapshot_of
from mashup.library.compatible import fitting
from mashup.library.fetch import fetch, parse_size
from mashup.library.hub import home
from mashup.library.scan import name_bases
from mashup.library.sources import fetched

GONE = "http://127.0.0.1:1"  # nothing listens there


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "cache") as server:
        server.add("org/a", write_adapter(tmp_path / "a"))
        server.add("org/b", write_adapter(tmp_path / "b", rank=2, seed=1), "base_model:owner/tiny")
        yield server


def cut_off(monkeypatch):
    """No server any more."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", GONE)
    template = GONE + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def test_an_owner_is_listed_from_headers_and_json_alone(hub, tmp_path):
    hub.add("org/c", write_full(tmp_path / "c"))
    library = mashup.scan("hub:org")
    assert [(c.name, c.kind, c.rank) for c in library.checkpoints] == [
        ("org/a", "lora", 4), ("org/b", "lora", 2), ("org/c", "full", None),
    ]  # fmt: skip
    one = library.checkpoints[0]
    assert one.base == "owner/tiny"
    assert one.bytes == (tmp_path / "a/adapter_model.safetensors").stat().st_size
    assert snapshot_of(one.path).commit == hub.repos["org/a"].commit
    assert not (one.path / "adapter_model.safetensors").exists()
    ranges = [h["Range"] for _, path, h in hub.requests if "safetensors" in path]
    assert set(ranges) == {"bytes=0-65535"}


def test_a_second_scan_asks_for_the_list_alone(hub):
    mashup.scan("hub:org")
    hub.requests.clear()
    assert len(mashup.scan("hub:org").checkpoints) == 2
    assert all(path.startswith("/api/models?") for _, path, _ in hub.requests)


def test_a_long_header_takes_a_second_range(hub, tmp_path):
    modules = {f"model.layers.{n}.self_attn.q_proj": (16, 16) for n in range(500)}
    hub.add("org/c", write_adapter(tmp_path / "c", modules=modules))
    assert mashup.scan("hub:org/c").checkpoints[0].modules == 500
    assert len(hub.asked("org/c/resolve/" + hub.repos["org/c"].commit + "/adapter_model")) == 2


def test_a_server_without_ranges_is_read_no_further_than_needed(hub):
    hub.ranges = False
    assert len(mashup.scan("hub:org").usable) == 2


def test_collections_searches_and_single_repositories(hub):
    slug = "org/best-0123456789abcdef01234567"
    hub.collections[slug] = ["org/b"]
    for source in (f"hub:{slug}", "hub:search?base_model=owner/tiny&limit=5", "hub:org/b"):
        library = mashup.scan(source)
        assert [c.name for c in library.checkpoints] == ["org/b"]
        assert str(library).startswith(f"Library {source}: 1 checkpoints")
    commit = hub.repos["org/a"].commit
    assert mashup.scan(f"hub:org/a@{commit}").checkpoints[0].name == "org/a"


def test_folders_of_a_repository_are_checkpoints_of_one_run(hub, tmp_path):
    for step in (10, 20):
        write_adapter(tmp_path / f"run/checkpoint-{step}", seed=step)
    (tmp_path / "run/train_prompts.txt").write_text("abc\n")
    write_json(tmp_path / "run/.cache/config.json", {})
    hub.add("org/run", tmp_path / "run")
    library = mashup.scan("hub:org/run")
    assert [c.step for c in library.checkpoints] == [20]
    assert [c.step for c in library.siblings] == [10]
    prompts = library.checkpoints[0].run / "train_prompts.txt"
    assert prompts.read_text() == "abc\n"


def test_weights_are_fetched_for_what_fits_alone(hub, tmp_path):
    hub.add("org/other", write_adapter(tmp_path / "other", base="owner/else"))
    library = mashup.scan("hub:org")
    fit = fitting(library.checkpoints, "owner/tiny", accept_base=False, strict=False)
    hub.requests.clear()
    fit = fetched(library, fit, strict=True)
    assert [one.name for one in fit.used] == ["org/a", "org/b"]
    assert not hub.asked("org/other")
    for one, folder in zip(fit.used, (tmp_path / "a", tmp_path / "b"), strict=True):
        weights = "adapter_model.safetensors"
        assert (one.path / weights).read_bytes() == (folder / weights).read_bytes()
        assert read_checkpoint(one.path) == one
    hub.requests.clear()
    fetched(library, fit, strict=True)
    assert not hub.requests


def test_what_is_in_the_cache_of_the_hub_is_used_from_there(hub):
    from huggingface_hub import constants, snapshot_download

    snapshot_download("org/a", cache_dir=constants.HF_HUB_CACHE)
    assert [c.name for c in mashup.scan("cache:").checkpoints] == ["org/a"]
    assert not (Path(constants.HF_HUB_CACHE) / ".mashup").exists()
    hub.requests.clear()
    one = mashup.scan("hub:org/a").checkpoints[0]
    assert one.path.is_relative_to(constants.HF_HUB_CACHE)
    assert not hub.asked("resolve")
    assert fetch([one]) == {}


def test_without_a_connection_what_was_fetched_is_there(hub, monkeypatch):
    library = mashup.scan("hub:org")
    fetch(library.checkpoints[:1])
    cut_off(monkeypatch)
    start = time.monotonic()
    library = mashup.scan("hub:org")
    assert time.monotonic() - start < 3
    assert [c.name for c in library.checkpoints] == ["org/a"]
    assert "the Hub cannot be reached" in library.notes[0]
    assert "1 of the 2 checkpoints" in library.notes[0]
    assert fetch(library.checkpoints) == {}
    with refused("the Hub cannot be reached", where="hub:other"):
        mashup.scan("hub:other")


def test_an_interrupted_scan_goes_on(hub):
    whole = hub.fault
    hub.fault = lambda ask: "org/b/resolve" in ask.path and not ask.send({}, 503)
    with refused("the Hub cannot be used", found="status 503"):
        mashup.scan("hub:org")
    hub.fault = whole
    hub.requests.clear()
    assert len(mashup.scan("hub:org").usable) == 2
    assert not hub.asked("org/a/resolve")


def test_a_busy_server_is_waited_for(hub):
    asked = []

    def busy(ask):
        asked.append(time.monotonic())
        if len(asked) == 1:
            ask.refuse(429, **{"Retry-After": "1"})
        return len(asked) == 1

    hub.fault = busy
    assert len(mashup.scan("hub:org").usable) == 2
    assert asked[1] - asked[0] >= 1


def test_a_server_that_asks_for_too_long_a_wait(hub):
    hub.fault = lambda ask: not ask.refuse(429, **{"Retry-After": "3600"})
    with refused("the Hub limits requests", found="wait 3600 s"):
        mashup.scan("hub:org")


def test_a_connection_that_is_cut_is_tried_again(hub):
    cut = []

    def once(ask):
        if "adapter_model" in ask.path and ask.path not in cut:
            cut.append(ask.path)
            ask.send_response(206)
            ask.send_header("Content-Length", "1000")
            ask.send_header("Content-Range", "bytes 0-999/1000")
            ask.end_headers()
            ask.wfile.write(b"x" * 10)
            ask.close_connection = True
            return True
        return False

    hub.fault = once
    assert len(mashup.scan("hub:org").usable) == 2
    assert len(cut) == 2


def test_an_expired_token_is_named_and_never_shown(hub, capfd):
    def expired(ask):
        ask.refuse(401, message="Invalid credentials in Authorization header")
        return True

    hub.fault = expired
    with pytest.raises(InputError) as error:
        mashup.scan("hub:org")
    assert_problem(error.value.problems[0], "the Hub refuses the token", where="hub:org")
    assert hub.requests[0][2]["authorization"] == "Bearer hf_secret"
    assert "hf_secret" not in str(error.value) + "".join(capfd.readouterr())


def test_the_token_is_not_sent_to_where_large_files_are(hub):
    library = mashup.scan("hub:org")
    fetch(library.checkpoints)
    elsewhere = [headers for _, path, headers in hub.requests if path.startswith("/lfs/")]
    assert elsewhere
    assert not any("authorization" in {name.lower() for name in h} for h in elsewhere)


def test_gated_and_broken_repositories_are_listed_with_their_problem(hub, tmp_path):
    hub.repos["org/a"].gated = True
    hub.repos["org/b"].files["adapter_model.safetensors"] = b"\x08\x00\x00\x00\x00\x00\x00\x00 {}"
    (tmp_path / "d").mkdir()
    (tmp_path / "d/README.md").write_text("nothing")
    hub.add("org/d", tmp_path / "d")
    library = mashup.scan("hub:org")
    assert [c.problem.what for c in library.checkpoints] == [
        "gated repository", "truncated safetensors",
    ]  # fmt: skip
    assert library.problems[1].where.startswith("hub:org/b@")
    assert library.notes == ("1 repositories without a checkpoint: org/d",)


def test_a_pickle_is_refused_without_reading_it(hub, tmp_path):
    one = write_adapter(tmp_path / "p")
    (one / "adapter_model.safetensors").rename(one / "adapter_model.bin")
    hub.add("org/p", one)
    assert mashup.scan("hub:org/p").checkpoints[0].problem.what == "pickle refused"
    assert not hub.asked("adapter_model.bin")


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("hub:nobody/nothing", "no such repository"),
        ("hub:org/gone-0123456789abcdef01234567", "not on the Hub"),
        ("hub:nobody", "no checkpoint in the source"),
        ("hub:org/a@" + "0" * 40, "revision is gone"),
    ],
)
def test_what_is_not_there_is_named(hub, source, what):
    with refused(what, where=source):
        mashup.scan(source)


@pytest.mark.parametrize(
    "source", ["hub:", "hub:a/b/c", "hub:../x", "hub:search?bse=x", "hub:search?limit=0", "cache:x"]
)
def test_what_is_no_source(hub, source):
    with pytest.raises(UsageError):
        mashup.scan(source)
    assert not hub.requests


def test_names_never_lead_out_of_the_cache(hub, tmp_path):
    files = hub.repos["org/a"].files
    for name in ("../../evil/adapter_config.json", "/etc/adapter_config.json", "a\\b/config.json"):
        files[name] = b"{}"
    hub.repos["org/b"].commit = "../../../../evil"
    library = mashup.scan("hub:org")
    fetch(library.checkpoints)
    assert [c.name for c in library.checkpoints] == ["org/a"]
    assert library.notes[0].startswith("4 names that could lead out of the cache passed over")
    assert all(path.is_relative_to(home()) for path in tmp_path.rglob("*evil*"))
    assert not any(tmp_path.rglob("*evil*"))


def test_an_index_that_names_files_elsewhere(hub, tmp_path):
    folder = write_full(tmp_path / "f")
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "../../x.safetensors"}}
    write_json(folder / "model.safetensors.index.json", index)
    hub.add("org/f", folder)
    assert mashup.scan("hub:org/f").checkpoints[0].problem.what == "damaged index"


def test_a_file_that_changes_between_header_and_weights(hub, tmp_path):
    library = mashup.scan("hub:org")
    new = write_adapter(tmp_path / "new", rank=8)
    name = "adapter_model.safetensors"
    hub.repos["org/a"].files[name] = (new / name).read_bytes()
    failed = fetch(library.checkpoints)
    one = library.checkpoints[0]
    assert_problem(failed[one.path], "changed while it was fetched", where="hub:org/a@")
    assert not (one.path / name).exists()
    fit = fitting(library.checkpoints, "owner/tiny", accept_base=False, strict=False)
    kept = fetched(library, fit, strict=False)
    assert [c.name for c in kept.used] == ["org/b"]
    assert kept.left_out[0].what == "changed while it was fetched"
    with pytest.raises(InputError):
        fetched(library, fit, strict=True)


def test_bytes_that_are_not_those_of_their_digest(hub, tmp_path):
    """A proxy that keeps a stale or damaged copy under the right name."""
    library = mashup.scan("hub:org/a")

    def damaged(ask):
        if not ask.path.startswith("/lfs/"):
            return False
        content = bytearray(hub.repos["org/a"].files["adapter_model.safetensors"])
        content[-1] ^= 1
        ask.send_bytes(bytes(content))
        return True

    hub.fault = damaged
    failed = fetch(library.checkpoints)
    assert_problem(*failed.values(), "changed while it was fetched", found="another SHA-256")
    hub.fault = lambda ask: False
    assert fetch(library.checkpoints) == {}


def test_a_revision_that_is_gone_when_it_is_fetched(hub):
    library = mashup.scan("hub:org")
    hub.repos["org/a"].commit = "1" * 40
    failed = fetch(library.checkpoints)
    assert [problem.what for problem in failed.values()] == ["revision is gone"]


def test_the_cache_keeps_to_its_limit_and_what_was_used_last_stays(hub, tmp_path):
    for name in "cd":
        hub.add(f"org/{name}", write_adapter(tmp_path / name, seed=ord(name)))
    every = {c.name: c for c in mashup.scan("hub:org").checkpoints}
    one = every["org/a"].bytes

    def here():
        return {n for n, c in every.items() if (c.path / "adapter_model.safetensors").exists()}

    fetch([every["org/a"], every["org/c"]])
    time.sleep(0.02)
    fetch([every["org/a"]])  # used again
    fetch([every["org/d"]], limit=2 * one)
    assert here() == {"org/a", "org/d"}
    with refused("cache limit is too small", found="3 checkpoints"):
        fetch([every[f"org/{n}"] for n in "acd"], limit=2 * one)
    assert here() == {"org/a", "org/d"}
    assert mashup.scan("hub:org").checkpoints == tuple(every.values())


def test_sizes():
    assert [parse_size(t) for t in ("20GB", "1.5 mb", "7", "2k")] == [
        20 * 10**9, 1_500_000, 7, 2000,
    ]  # fmt: skip
    for text in ("", "GB", "-1", "0", "1 XB"):
        with pytest.raises(UsageError):
            parse_size(text)


def test_a_library_of_the_hub_is_scored(hub, tmp_path, tiny_base, tokenizer):
    """From source to scores: bases by name, weights fetched, revisions in the manifest."""
    from helpers import prompt_rows, write_jsonl

    modules = {f"model.layers.{n}.self_attn.q_proj": (32, 32) for n in (0, 1)}
    for name in "ab":
        folder = write_adapter(
            tmp_path / f"real-{name}", base=str(tiny_base), modules=modules, seed=ord(name)
        )
        hub.add(f"real/{name}", folder)
    data = write_jsonl(tmp_path / "rows.jsonl", prompt_rows(60))
    scores = mashup.score("hub:real", str(tiny_base), str(data), samples=6)
    assert {score.name for score in scores.ranking} == {"real/a", "real/b"}
    paths = [score.path for score in scores.ranking]
    init = mashup.merge(paths, output=tmp_path / "init")
    manifest = json.loads((init.path / "mashup.json").read_text())
    sources = {parent["source"] for parent in manifest["parents"]}
    assert sources == {f"hub:real/{n}@{hub.repos[f'real/{n}'].commit}" for n in "ab"}


def test_an_experiment_takes_the_checkpoints_of_its_base(hub, tmp_path):
    from mashup.experiment.inputs import library_of, named_checkpoints, read_tasks
    from mashup.experiment.settings import Experiment, TaskData

    hub.add("org/other", write_adapter(tmp_path / "other", base="owner/else"))
    tasks = {"t": TaskData(dataset="nowhere.jsonl")}
    experiment = Experiment(
        name="e", base="owner/tiny", tasks=tasks, library="hub:org", learning_rates=(1e-3,)
    )
    named = named_checkpoints(library_of(experiment))
    assert list(named) == ["org/a", "org/b"]
    assert all((one.path / "adapter_model.safetensors").exists() for one in named.values())
    wrong = experiment.model_copy(update={"library": "hub:a/b/c"})
    with pytest.raises(MashupError, match="no such source"):
        read_tasks(wrong)


def test_a_merge_takes_single_checkpoints_as_cards_name_them(hub, tmp_path):
    commit = hub.repos["org/a"].commit
    first = mashup.merge([f"hub:org/a@{commit}", "hub:org/b"], output=tmp_path / "one")
    again = [parent["source"] for parent in first.manifest["parents"]]
    mashup.merge(again, output=tmp_path / "two")
    one, two = (p / "adapter_model.safetensors" for p in (tmp_path / "one", tmp_path / "two"))
    assert one.read_bytes() == two.read_bytes()
    with pytest.raises(MashupError, match="a source of several"):
        mashup.merge(["hub:org"], output=tmp_path / "x")


def test_a_folder_of_a_repository_is_one_checkpoint(hub, tmp_path):
    from mashup.library.sources import folder_of

    for name in ("x", "y"):
        write_adapter(tmp_path / "many" / name, seed=ord(name))
    repo = hub.add("org/many", tmp_path / "many")
    place = folder_of(f"hub:org/many@{repo.commit}/y")
    assert read_checkpoint(place).usable
    assert snapshot_of(place).inner == "y"
    for wrong in ("hub:org/many", f"hub:org/many@{repo.commit}/z"):
        with refused("not one checkpoint", found="x, y"):
            folder_of(wrong)


def test_offline_asks_nothing_and_gives_what_was_fetched(hub, monkeypatch):
    library = mashup.scan("hub:org")
    fetch(library.checkpoints[:1])
    from huggingface_hub import close_session

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    close_session()
    hub.requests.clear()
    library = mashup.scan("hub:org")
    assert [c.name for c in library.checkpoints] == ["org/a"]
    assert "it is offline, so this is what was fetched before" in library.notes[0]
    with refused("the Hub cannot be used", found="HF_HUB_OFFLINE"):
        mashup.scan("hub:other")
    assert not hub.requests


def test_a_base_that_is_not_named_can_be_named(hub, tmp_path):
    hub.add("org/c", write_full(tmp_path / "c"))
    library = mashup.scan("hub:org")
    name_bases(library.root, library.checkpoints, ["org/c:owner/tiny"])
    assert [c.base for c in mashup.scan("hub:org").checkpoints] == ["owner/tiny"] * 3
