"""Flags, YAML and JSON as people write them: all become the same settings, or one clear word."""

import json

import pytest
import typer
import yaml
from pydantic_core import PydanticUndefined

from helpers import write_adapter
from mashup import UsageError
from mashup.cli.__main__ import main
from mashup.cli.options import ALIASES, HINTS, add_command, as_typed
from verbs import VERBS, flags_of, is_positional, options_of


def parse(options, *arguments):
    """What the settings are after a command line."""
    app, seen = typer.Typer(), []
    add_command(app, "verb", options, lambda made: seen.append(made))
    app.callback()(lambda: None)
    with pytest.raises(SystemExit):
        app(args=["verb", *map(str, arguments)])
    return seen[0]


def defaults(options):
    """Every default of a verb by name, and something where there is none."""
    made = {}
    for key, field in options.model_fields.items():
        value = field.default
        if value is PydanticUndefined:
            value = ("a", "b") if "tuple" in str(field.annotation) else "a"
        if value is not None:
            made[field.alias or key] = value
    return made


def as_arguments(options, values):
    """The same values as a person types them."""
    fields = {field.alias or key: field for key, field in options.model_fields.items()}
    for name, value in sorted(values.items(), key=lambda item: not is_positional(fields[item[0]])):
        shown = list(map(str, value if isinstance(value, tuple) else (value,)))
        if not is_positional(fields[name]):
            if value in (False, ()):
                continue
            yield f"--{name.replace('_', '-')}"
        yield from [] if value is True else shown


@pytest.mark.parametrize("verb", VERBS)
def test_every_default_of_a_verb_comes_back_from_yaml_json_and_flags(verb, tmp_path):
    options = options_of(verb)
    values = defaults(options)
    expected = options(**values)
    plain = json.loads(json.dumps(values))
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(plain))
    (tmp_path / "c.json").write_text(json.dumps(plain, indent="\t"))
    (tmp_path / "words.yml").write_text(
        "".join(f"{name}: {as_text(value)}\n" for name, value in plain.items())
    )
    for name in ("c.yaml", "c.json", "words.yml"):
        assert parse(options, "--config", tmp_path / name) == expected, name
    assert parse(options, *as_arguments(options, values)) == expected


def as_text(value):
    """A value of YAML without quotes or brackets where a person needs none."""
    if isinstance(value, list) and len(value) == 1:
        return json.dumps(value[0])
    return str(value).lower() if isinstance(value, bool) else json.dumps(value)


def test_a_config_in_json_may_have_small_numbers_and_no_names_twice(tmp_path, mashup):
    path = tmp_path / "c.json"
    path.write_text('{"model": "m", "dataset": "d", "output": "o", "learning_rate": 1e-05}')
    assert parse(options_of("train"), "--config", path).learning_rate == 1e-5
    path.write_text('{"model": "m", "model": "n"}')
    code, _, err = mashup("train", "--config", path)
    assert code == 2
    assert "twice" in err


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("weights: [0.5, 0.5]", "weights", (0.5, 0.5)),
        ('weights: ["0.5", "0.5"]', "weights", (0.5, 0.5)),
        ("weights: 0.5, 0.5", "weights", (0.5, 0.5)),
        ("weights: 1", "weights", (1.0,)),
        ("weights: uniform", "weights", "uniform"),
        ("weights: [loss]", "weights", "loss"),
        ("rank: 8", "rank", "8"),
        ("rank: max", "rank", "max"),
        ("scale: search", "scale", "search"),
        ("scale: 1e-1", "scale", 0.1),
        ("seeds: 1", "seeds", (1,)),
        ("seeds: 1 2 3", "seeds", (1, 2, 3)),
        ("seeds: [1, 2]", "seeds", (1, 2)),
        ("arms: scratch, mashup", "arms", ("scratch", "mashup")),
        ("arms: [scratch]", "arms", ("scratch",)),
        ("learning_rates: [5e-4, 1e-3]", "learning_rates", (5e-4, 1e-3)),
        ("max_steps: null", "max_steps", None),
        ("seed: null", "seed", 42),
        ("lora_target_modules: [q_proj, v_proj]", "lora_target_modules", "q_proj,v_proj"),
        ("max_seq_length: 99", "max_length", 99),
    ],
)
def test_yaml_as_people_write_it(tmp_path, text, name, value):
    path = tmp_path / "c.yaml"
    path.write_text(f"library: l\nmodel: m\ndataset: d\noutput: o\n{text}\n")
    assert getattr(parse(options_of("compare"), "--config", path), name) == value


@pytest.mark.parametrize(
    ("verb", "typed", "name", "value"),
    [
        ("merge", "--weights 0.5 0.5", "weights", (0.5, 0.5)),
        ("merge", "--weights 0.5,-0.5", "weights", (0.5, -0.5)),
        ("merge", "--weights 0.5, 0.5", "weights", (0.5, 0.5)),
        ("merge", "--weights=0.5 -1", "weights", (0.5, -1.0)),
        ("merge", "--weights loss", "weights", "loss"),
        ("compare", "--seeds 1 2 3", "seeds", (1, 2, 3)),
        ("compare", "--seeds 1,2,3", "seeds", (1, 2, 3)),
        ("compare", "--seeds 1 --seeds 2", "seeds", (1, 2)),
        ("compare", "--arms scratch mashup", "arms", ("scratch", "mashup")),
        ("compare", "--arms scratch,mashup", "arms", ("scratch", "mashup")),
        ("compare", "--budgets 0.25, 1", "budgets", (0.25, 1.0)),
        ("compare", "--learning_rates 1e-4 5e-4", "learning_rates", (1e-4, 5e-4)),
        ("train", "--lora-target-modules q_proj v_proj", "lora_target_modules", "q_proj,v_proj"),
        ("train", "--lora-target-modules q_proj,v_proj", "lora_target_modules", "q_proj,v_proj"),
        ("train", "--lora-target-modules .*(q|v)", "lora_target_modules", ".*(q|v)"),
        ("loo", "--arms scratch k1", "arms", ("scratch", "k1")),
        ("loo", "--arms scratch,k1", "arms", ("scratch", "k1")),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_lists_are_typed_with_spaces_or_commas(tmp_path, verb, typed, name, value, first):
    options, folder = options_of(verb), str(tmp_path)
    given = [] if verb == "train" else [folder]
    needed = [] if verb == "loo" else ["-o", "o"]
    needed += ["-m", "m", "-d", "d"] if verb not in ("loo", "merge") else []
    arguments = [*given, *typed.split(" ")] if first else [*typed.split(" "), *given]
    assert getattr(parse(options, *arguments, *needed), name) == value


def test_a_flag_with_one_value_takes_one():
    arguments = [
        "--seed",
        "1",
        "2",
        "--shard_size=8",
        "a_b",
        "--output",
        "--strange",
        "--",
        "--x_y",
    ]
    assert as_typed(options_of("merge"), arguments) == [
        "--seed", "1", "2", "--shard-size=8", "a_b", "--output", "--strange", "--", "--x_y",
    ]  # fmt: skip


@pytest.mark.parametrize("verb", ["scan", "check", "convert", "merge"])
def test_a_file_is_no_folder_and_a_near_name_is_suggested(mashup, tmp_path, verb):
    (tmp_path / "runs").mkdir()
    (tmp_path / "c.yaml").write_text("method: ties\n")
    more = ("-o", tmp_path / "out") if verb == "merge" else ()
    code, out, err = mashup(verb, tmp_path / "c.yaml", *more)
    assert (code, out) == (3, "")
    assert "not a folder" in err
    assert "--config" in err
    code, out, err = mashup(verb, tmp_path / "run", *more)
    assert (code, out) == (3, "")
    assert f"did you mean {tmp_path / 'runs'}?" in " ".join(err.split())


def told(mashup, tmp_path, verb, text):
    """What is said to a config file."""
    (tmp_path / "c.yaml").write_text(text)
    code, out, err = mashup(verb, "--config", tmp_path / "c.yaml")
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    for raw in ("Input should", "Value error", "valid string", "unable to parse"):
        assert raw not in err
    return " ".join(err.split())


@pytest.mark.parametrize(
    ("verb", "text", "what"),
    [
        ("merge", "weights: [a, 1]", "uniform or loss, or a list; each a number"),
        ("merge", "scale: big", "a number, or search"),
        ("merge", "shard_size: 0", "a number above 0"),
        ("merge", "density: 1.5", "a number above 0 and of at most 1"),
        ("score", "strategy: gradient", "racing, ledger; gradient was removed"),
        ("train", "batch_size: 0", "a whole number of at least 1"),
        ("train", "lora_dropout: 1.5", "a number of at least 0 and below 1"),
        ("train", "scheduler: cosin", "cosine, linear or constant"),
        ("train", "max_steps: many", "a whole number of at least 1"),
        ("train", "trust_remote_code: perhaps", "true or false"),
        ("train", "model: [a]", "text"),
        ("compare", "seeds: [1, x]", "a whole number"),
        ("compare", "arms: scratch, mash", "best-single, least-loss, random, random-two"),
        ("train", "{batch_size: 16, micro_batch_size: 5, model: m, dataset: d, output: o}",
         "batch_size 16 is no multiple of 5"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_are_told_in_plain_words(mashup, tmp_path, verb, text, what):
    assert what in told(mashup, tmp_path, verb, text)


def test_a_value_of_several_kinds_is_told_once(mashup, tmp_path):
    assert told(mashup, tmp_path, "merge", "weights: [a, 1]").count("--weights") == 1


def test_two_names_of_one_setting_are_an_error(mashup, tmp_path):
    text = "model: m\nmodel_name_or_path: n\ndataset: d\noutput: o\n"
    assert "model and model_name_or_path" in told(mashup, tmp_path, "train", text)
    text = "output: o\noutput-dir: o\n"
    assert "output and output-dir" in told(mashup, tmp_path, "merge", text)
    assert "seed" in told(mashup, tmp_path, "train", "seed: 1\nseed: 2\n")


def test_a_flag_says_more_than_the_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("model: m\ndataset: d\noutput: o\nseed: 1\n")
    made = parse(options_of("train"), "--config", path, "--output_dir", "p", "--seed", 2)
    assert (made.output, made.seed) == ("p", 2)


def test_a_value_is_blamed_on_where_it_is_from(mashup, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("model: m\ndataset: d\noutput: o\nseed: -1\n")
    code, _, err = mashup("train", "--config", path, "--lora-r", "x", "--epochs", 0)
    assert code == 2
    told = " ".join(err.split())
    assert "--lora-r (the command line)" in told
    assert "--epochs (the command line)" in told
    assert f"--seed ({path})" in told


def test_unknown_names_are_listed_once_with_all_that_are_known(mashup, tmp_path):
    err = told(mashup, tmp_path, "train", "wibble: 1\nwobble: 2\nlearning_rat: 3\nbf16: true\n")
    assert "wibble, wobble" in err
    assert err.count("known are") == 1
    assert "did you mean learning_rate?" in err
    assert "--dtype bfloat16" in err


@pytest.mark.parametrize(
    ("flag", "fix"),
    [
        ("--bf16", "--dtype bfloat16"),
        ("--eval_strategy", "--eval-steps"),
        ("--push_to_hub", "mashup push"),
        ("--resume_from_checkpoint", "continues where it stopped"),
        ("--lr", "--learning-rate"),
        ("--learning-rat", "did you mean --learning-rate?"),
        ("--wibble", "--help"),
    ],
)
def test_unknown_flags_come_with_what_replaces_them(mashup, flag, fix):
    code, out, err = mashup("train", flag, 1, "--wobble")
    assert (code, out) == (2, "")
    assert flag.replace("_", "-") in err
    assert "--wobble" in err
    assert fix in " ".join(err.split())


@pytest.mark.parametrize(
    ("arguments", "where", "fix"),
    [
        (("compare", "lib", "--seeds", 1, "x"), "x", "--seeds"),
        (("compare", "--seeds", 1, "x", "lib"), "x", "--seeds"),
        (("train", "lib", "-m", "m"), "lib", "leave it out"),
        (("scan", "a", "b"), "b", "leave it out"),
    ],
)
def test_an_argument_too_many_is_named(mashup, arguments, where, fix):
    code, out, err = mashup(*arguments)
    assert (code, out) == (2, "")
    assert f"unexpected argument where {where} " in " ".join(err.split()) + " "
    assert fix in " ".join(err.split())


def test_hints_are_for_names_that_train_does_not_have():
    fields = options_of("train").model_fields
    assert not HINTS.keys() & {
        *fields,
        *(other for key in fields for other in ALIASES.get(key, ())),
    }


def test_a_hint_names_flags_of_the_same_verb_only(mashup):
    _, _, err = mashup("scan", "--bf16")
    assert "--dtype" not in err


def test_what_has_no_flag_is_called_as_the_help_calls_it(mashup):
    code, _, err = mashup("score", "-m", "m", "-d", "d")
    assert code == 2
    assert "give LIBRARY, or library in YAML" in " ".join(err.split())
    assert "--library" not in err


@pytest.mark.parametrize("rank", ["²", "0", "-1", "energy=2", "x"])
def test_a_rank_that_cannot_be(mashup, tmp_path, rank):
    for name in "ab":
        write_adapter(tmp_path / name)
    code, out, err = mashup("merge", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "m",
                            f"--rank={rank}")  # fmt: skip
    assert (code, out) == (2, "")
    assert "--rank" in err
    assert "energy=X with 0 < X <= 1" in " ".join(err.split())


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_80_columns_and_breaks_no_name(monkeypatch, capsys, verb):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    words = {word.strip(",;():│") for word in out.split()}
    for name, field in flags_of(verb).items():
        if is_positional(field):
            assert name.upper() in words
            assert (f"[{name.upper()}]" in out) is not field.is_required()
        else:
            assert f"--{name.replace('_', '-')}" in words
    assert out.count("[required]") == sum(f.is_required() for f in flags_of(verb).values())


def test_help_is_grouped_and_names_every_choice_and_alias(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    out = capsys.readouterr().out
    for panel in ("Base model", "Data", "Choosing checkpoints", "Merging", "Training"):
        assert f"╭─ {panel} ─" in out
    words = {word.strip(",;():│") for word in out.split()}
    assert {"task_arithmetic", "factor_average", "racing", "--model-name-or-path",
            "--per-device-train-batch-size"} <= words  # fmt: skip


def test_a_missing_command_or_verb_is_a_word_of_help(mashup):
    code, out, _ = mashup()
    assert "scan" in out
    code, _, err = mashup("trian")
    assert code == 2
    assert "train" in err


def test_completion_knows_verbs_flags_and_choices(monkeypatch, capsys):
    def completed(words):
        monkeypatch.setenv("_MASHUP_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        with pytest.raises(SystemExit):
            main([])
        return capsys.readouterr().out.split()

    assert "compare" in completed("mashup com")
    assert "--micro-batch-size" in completed("mashup train --mic")
    assert completed("mashup merge --method dare_") == ["dare_linear", "dare_ties"]
    monkeypatch.delenv("_MASHUP_COMPLETE")
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--install-completion" in capsys.readouterr().out


def test_the_settings_of_init_and_compare_are_those_of_their_steps():
    for name in options_of("score").model_fields:
        assert name in options_of("init").model_fields
        assert name in options_of("compare").model_fields
    with pytest.raises(UsageError):
        as_typed(options_of("score"), ["--no-such-flag"])
