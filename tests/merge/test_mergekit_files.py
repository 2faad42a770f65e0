"""mergekit's YAML is read where it means the same, and refused by name where it does not."""

import pytest
import yaml

from lora import save_lora
from mashup import MergeSettings, UsageError
from mashup._merge.mergekit import is_mergekit, read_mergekit, to_mergekit
from mashup.cli.__main__ import main
from wholes import relative_of, tensors_of

TIES = """
merge_method: ties
base_model: base
models:
  - model: base
  - {model: a, parameters: {weight: 1, density: [{filter: mlp, value: [0.2, 0.8]}, {value: 0.5}]}}
  - {model: base+lora, parameters: {weight: 0.5}}
parameters: {density: 0.5, normalize: true, int8_mask: true, lambda: 0.7}
dtype: bfloat16
tokenizer_source: base
"""


def read(text, **more):
    return read_mergekit(yaml.safe_load(text) | more, "merge.yml")


def test_a_file_becomes_our_settings():
    found = read(TIES)
    assert (found.models, found.base, found.notes) == (("a", "lora"), "base", ())
    settings = MergeSettings(**found.settings)
    assert settings.model_dump(exclude_unset=True, exclude={"per_module"}) == {
        "output_kind": "full", "dtype": "bfloat16", "tokenizer": "base", "method": "ties",
        "weights": (1.0, 0.5), "scale": 0.7, "density": 1.0,
    }  # fmt: skip
    assert [text for rule in settings.per_module for text in rule.texts()] == [
        "mlp:density[1]=0.2..0.8",
        "*:density[1]=0.5",
        "*:density[2]=0.5",
    ]


def test_models_of_the_hub_are_those_of_the_hub(tmp_path, monkeypatch):
    (tmp_path / "models/here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    names = ["models/here", "owner/name", "owner/name@v1", "base/model+owner/lora"]
    models = [{"model": name, "parameters": {"weight": 1}} for name in names]
    found = read("merge_method: task_arithmetic", base_model="base/model", models=models)
    hub = ("hub:owner/name", "hub:owner/name@v1", "hub:owner/lora")
    assert (found.base, found.models) == ("base/model", ("models/here", *hub))
    assert set(problems("merge_method: ties", base_model="owner/name@v1", models=models[:1])) == {
        "base_model"
    }


def test_files_are_told_apart_by_their_keys():
    assert is_mergekit({"merge_method": "ties"})
    assert is_mergekit({"models": []})
    assert not is_mergekit({"method": "ties", "dtype": "float32", "tokenizer": "a"})


def test_random_drops_are_said_to_differ():
    text = TIES.replace("ties", "dare_ties")
    (note,) = read(text).notes
    assert "drops other numbers" in note
    assert (
        read(text.replace("0.5}", "1}").replace("[0.2, 0.8]", "1").replace("0.5,", "1,")).notes
        == ()
    )


def problems(text, **more):
    with pytest.raises(UsageError) as caught:
        read_mergekit(yaml.safe_load(text) | more, "merge.yml", ("output", "checkpoints"))
    return {p.where.removeprefix("merge.yml, "): p for p in caught.value.problems}


def test_everything_that_is_wrong_with_a_file_is_said_at_once():
    found = problems("""
merge_method: ties
models:
  - {model: a@main, parameters: {weight: heavy, gamma: 0.1, normalize: true}}
  - {model: b+lora, parameters: {density: 2, weight: 1}}
  - {parameters: {weight: 1}, wight: 2}
  - just a name
parameters: {normalize: false, rescale: true, density: 0.5, lambda: 0}
dtype: int8
tokenizer: {source: base, tokens: {x: 1}}
chat_template: chatml
out: there
rank: 8
output: here
""")
    assert set(found) == {
        "models.0.model", "models.0.parameters.weight", "models.0.parameters.gamma",
        "models.0.parameters.normalize", "models.1.model", "models.1.parameters.density",
        "models.2", "models.2.model", "models.3", "base_model", "parameters.normalize",
        "parameters.rescale", "parameters.lambda", "dtype", "tokenizer.tokens", "chat_template",
        "out", "rank", "output",
    }  # fmt: skip
    mixed = "settings of mashup and of mergekit in one file"
    assert (found["rank"].what, found["output"].what) == (mixed, mixed)
    assert found["out"].what == "unknown setting"


@pytest.mark.parametrize(
    ("method", "reason"),
    [("slerp", "turns whole weights"), ("sce", "no such method"), ("passthrough", "no such")],
)
def test_a_method_that_is_not_the_same_is_refused_by_name(method, reason):
    found = problems(TIES, merge_method=method)["merge_method"]
    assert found.found == method
    assert reason in found.fix
    assert "breadcrumbs" in found.expected


def test_layers_that_are_stacked_anew_are_refused():
    assert set(problems("merge_method: ties", slices=[{"sources": []}])) == {"slices"}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("{models: [{model: a}]}", "merge_method"),
        ("{merge_method: linear, models: [{model: a}]}", "models.0.parameters.weight"),
        ("{merge_method: linear, models: a}", "models"),
        ("{merge_method: ties, base_model: b, models: [{model: b}]}", "models"),
        ("{merge_method: ties, models: [{model: b, parameters: {weight: 1}}]}", "base_model"),
        (
            "{merge_method: linear, base_model: b, models: [{model: a, parameters: {weight: 1}}]}",
            "base_model",
        ),
        (
            "{merge_method: linear, models: [{model: a, parameters: {weight: 2}}],"
            " parameters: {normalize: false}}",
            "parameters.normalize",
        ),
        ("{merge_method: model_stock, base_model: b, models: [{model: a}], parameters: "
         "{filter_wise: true}}", "parameters.filter_wise"),
    ],
)  # fmt: skip
def test_what_is_missing_or_means_something_else(text, where):
    assert where in problems(text)


RULES = ["mlp:density[2]=0.3..0.9", "attn:weight[1]=0.0..2.0", "*:scale=1.0..0.5"]


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "ties", "density": 0.4, "per_module": RULES},
        {"method": "breadcrumbs", "density": 0.4, "gamma": 0.2, "normalize": True},
        {"method": "task_arithmetic", "scale": 0.5},
        {"method": "linear", "normalize": True, "per_module": RULES[1:2]},
        {"method": "model_stock"},
    ],
)
def test_what_we_write_we_read_again(settings):
    ours = MergeSettings(**settings)
    base = None if ours.method == "linear" else "base"
    text = to_mergekit(["a", "base+b"], [0.5, 0.25], "base", ours, "float16")
    if base is None:
        text = text.replace("base+b", "b")
    found = read_mergekit(yaml.safe_load(text), "merge.yml")
    again = MergeSettings(**found.settings)
    assert (found.models, found.base) == (("a", "b"), base)
    assert (again.method, again.scale, again.dtype) == (ours.method, ours.scale, "float16")
    assert again.normalize == (ours.normalize and ours.method != "ties")
    if ours.method != "model_stock":
        assert again.weights == (0.5, 0.25)
    for place in (0, 1):
        for name in ("mlp.weight", "attn.weight"):
            for number in ("weight", "density", "scale"):
                plain = getattr(ours, number, None)
                if number in ("weight", "scale", *(["density"] if "density" in settings else [])):
                    assert effective(again, number, name, place, plain) == effective(
                        ours, number, name, place, plain
                    )


def effective(settings, number, name, place, plain):
    at = None if number == "scale" else place
    for rule in settings.per_module:
        if getattr(rule, number) and rule.fits(name, at):
            return getattr(rule, number)
    return plain if number != "density" else (settings.density,)


def test_what_mergekit_cannot_do_is_not_written():
    with pytest.raises(UsageError) as caught:
        to_mergekit(["a"], [1.0], None, MergeSettings(method="slerp", untie=True), "float32")
    assert [problem.where for problem in caught.value.problems] == [
        "`method` slerp", "`untie`", "`base`",
    ]  # fmt: skip


@pytest.fixture
def run(capsys):
    def one(*arguments):
        with pytest.raises(SystemExit) as done:
            main(["merge", *map(str, arguments)])
        return int(done.value.code or 0), *capsys.readouterr()

    return one


def test_the_command_line_reads_and_writes_files_of_mergekit(tiny_base, tmp_path, run):
    whole = relative_of(tiny_base, tmp_path / "whole", seed=1)
    lora = save_lora(tiny_base, tmp_path / "lora", seed=2)
    given = (whole, lora, "-m", tiny_base, "--method", "ties", "--accept-base")
    assert run(*given, "-o", tmp_path / "merge.yml", "--export", "mergekit")[0] == 0
    assert run(*given, "-o", tmp_path / "one")[0] == 0
    config = ("--config", tmp_path / "merge.yml", "--accept-base")
    assert run(*config, "-o", tmp_path / "two")[0] == 0
    one, other = tensors_of(tmp_path / "one"), tensors_of(tmp_path / "two")
    assert all(one[name].equal(other[name]) for name in one)
    code, _, err = run(lora, "-o", tmp_path / "x.yml", "--export", "mergekit")
    assert code == 2
    assert "mergekit writes models" in err
    (tmp_path / "bad.yml").write_text("merge_method: sce\nmodels: []\nmethod: ties\n")
    code, _, err = run("--config", tmp_path / "bad.yml", "-o", tmp_path / "three")
    assert code == 2
    assert err.count("error") == 3
