"""Publishing on the Hub: what is staged, what the card says, and what the Hub may refuse."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

import mashup
from helpers import refused, write_adapter, write_full, write_json
from hubserver import serving
from mashup.errors import UsageError
from mashup.library.fetch import fetch
from mashup.library.hub import home

CARD = "---\nlicense: {license}\nbase_model: owner/tiny\ntags: [x]\n---\n# one\n"


@pytest.fixture
def hub(tmp_path):
    with serving(tmp_path / "cache") as server:
        yield server


def adapter(folder, license="", **more):
    write_adapter(folder, **more)
    if license:
        (folder / "README.md").write_text(CARD.format(license=license))
    return folder


@pytest.fixture
def init(hub, tmp_path):
    """A merge of a parent from the Hub and of one on this machine."""
    hub.add("org/a", adapter(tmp_path / "src/a", "mit"))
    (one,) = mashup.scan("hub:org/a").checkpoints
    assert fetch([one]) == {}
    other = adapter(tmp_path / "src/private-run", "apache-2.0", seed=1)
    output = tmp_path / "init"
    mashup.merge([one.path, other], output=output)
    (output / "optimizer.pt").write_bytes(b"x")
    write_json(output / "tokenizer_config.json", {"name_or_path": str(other)})
    return output


def head_of(card):
    return yaml.safe_load(card.split("---")[1])


def test_a_dry_run_shows_the_folder_and_asks_nobody(hub, init, tmp_path):
    hub.requests.clear()
    done = mashup.push(init, "me/start", dry_run=tmp_path / "out")
    assert not hub.requests
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == set(done.files)
    assert {"README.md", "mashup.json", "adapter_config.json"} <= names
    assert "optimizer.pt" not in names
    weights = "adapter_model.safetensors"
    assert (tmp_path / "out" / weights).read_bytes() == (init / weights).read_bytes()
    assert mashup.read_checkpoint(tmp_path / "out").usable
    head = head_of(done.card)
    assert head["base_model"] == "owner/tiny"
    assert head["base_model_relation"] == "adapter"
    assert "mashup-learning" in head["tags"]


def test_sources_have_their_weight_commit_and_license(hub, init, tmp_path):
    card = mashup.push(init, "me/start", dry_run=tmp_path / "out").card
    commit = hub.repos["org/a"].commit
    assert f"| [org/a](https://huggingface.co/org/a/tree/{commit}) | 0.5 | mit |" in card
    assert "| private-run | 0.5 | apache-2.0 |" in card
    assert "mashup merge" in card
    assert f"hub:org/a@{commit}" in card


def test_nothing_names_this_machine(init, tmp_path):
    mashup.push(init, "me/start", dry_run=tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name
    told = json.loads((tmp_path / "out/mashup.json").read_text())
    assert [p["path"].partition("@")[0] for p in told["parents"]] == ["hub:org/a", "private-run"]


def test_licenses_that_disagree_are_said_and_none_is_claimed(init, tmp_path):
    done = mashup.push(init, "me/start", dry_run=tmp_path / "out")
    assert "license" not in head_of(done.card)
    assert done.warnings[0].startswith("the licenses disagree")
    assert "org/a" in done.warnings[0]
    assert "no license is known of the base owner/tiny" in done.warnings[1]
    assert "> **Licenses.** The licenses disagree" in done.card


def test_the_comparison_is_on_the_card(init, tmp_path):
    folder = tmp_path / "compare"
    (folder / "figures").mkdir(parents=True)
    (folder / "table.md").write_text("# task\n\n![gain](figures/gains.png)\n\n| arm | x |\n")
    (folder / "figures/gains.png").write_bytes(b"png")
    done = mashup.push(init, "me/start", dry_run=tmp_path / "out", comparison=folder)
    assert "figures/gains.png" in done.files
    assert "## Comparison\n\n### task" in done.card
    with refused("no comparison here"):
        mashup.push(init, "me/start", dry_run=tmp_path / "o", comparison=tmp_path)
    assert not (tmp_path / "o").exists()


def test_it_is_published_in_one_commit(hub, init, tmp_path):
    staged = mashup.push(init, "me/start", dry_run=tmp_path / "out")
    done = mashup.push(init, "me/start")
    assert done.url == f"{hub.url}/me/start"
    assert done.files == staged.files
    expected = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    assert hub.pushed == expected
    assert len(hub.asked("/commit/", "POST")) == 1


def test_a_full_merge_is_a_merge_and_a_full_model_a_finetune(tmp_path):
    one = write_full(tmp_path / "one")
    manifest = {"base": "owner/tiny", "parents": [{"path": "/x/a", "weight": 1.0}]}
    for told, relation in ((manifest, "merge"), ({"base": "owner/tiny"}, "finetune")):
        write_json(one / "mashup.json", told)
        done = mashup.push(one, "me/x", dry_run=tmp_path / relation)
        assert head_of(done.card)["base_model_relation"] == relation


def test_what_cannot_be_published(hub, tmp_path, monkeypatch):
    one = adapter(tmp_path / "one")
    with pytest.raises(UsageError, match="no name of a repository"):
        mashup.push(one, "no-name")
    with refused("no checkpoint here"):
        mashup.push(tmp_path, "me/x")
    write_json(one / "run.json", {"status": "running"})
    with refused("run is not finished"):
        mashup.push(one, "me/x")
    (one / "run.json").unlink()
    hub.fault = lambda ask: (
        not ask.refuse(401, message="Invalid credentials in Authorization header")
    )
    with refused("the Hub refuses the token") as caught:
        mashup.push(one, "me/x")
    assert "hf_secret" not in str(caught.value)
    hub.fault = lambda ask: ask.command == "POST" and not ask.refuse(403)
    with refused("the Hub refuses the token"):
        mashup.push(one, "me/x")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with refused("no login to the Hub"):
        mashup.push(one, "me/x")
    assert not hub.pushed


def test_a_run_names_no_path_of_its_init(tmp_path):
    run = adapter(tmp_path / "run")
    start = tmp_path / "secret-place/init"
    write_json(run / "mashup.json", {"base": "owner/tiny", "init": str(start), "kind": "run"})
    (run / "README.md").write_text(f"# run\n\nTrained from `{start}`.\n")
    done = mashup.push(run, "me/x", dry_run=tmp_path / "out")
    assert "secret-place" not in done.card
    assert "Trained from `init`." in done.card
    shutil.rmtree(tmp_path / "out")
    assert Path(run / "README.md").exists()


def test_who_downloads_a_merge_can_verify_it(hub, tmp_path, monkeypatch):
    """The sources are fetched at their commits, in a place that has never seen them."""
    for name in "ab":
        hub.add(f"org/{name}", adapter(tmp_path / "src" / name, seed=ord(name)))
    mashup.merge(["hub:org/a", "hub:org/b"], output=tmp_path / "init")
    mashup.push(tmp_path / "init", "me/x", dry_run=tmp_path / "out")
    shutil.rmtree(tmp_path / "init")
    shutil.rmtree(home())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    done = mashup.verify(tmp_path / "out")
    sources = [check for check in done.checks if check.what == "source"]
    assert [check.state for check in sources] == ["agrees", "agrees"]
    assert done.agrees, str(done)
