"""How it was measured: the facts under a report, as pairs of a word and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from mashup._report import numbers
from mashup._report.study import ArmRow, Study

_FAIR_RULE = (
    "for each arm, the first evaluation with a dev loss at or below scratch's final dev loss; "
    "scratch is measured by the same rule, so two identical curves save nothing"
)
_PAPER_RULE = (
    "the first evaluation with a test accuracy at or above scratch's final one, against the whole "
    "of scratch's run (arXiv 2603.10156); curves are noisy, so even identical arms seem to save a "
    "lot by this rule: it flatters"
)
_SECONDS = (
    "a run is charged its training steps; evaluations are not counted for any arm. Before its "
    "first step an arm is charged for scoring the whole library (as if nothing were cached), for "
    "the merge with its checks, and for the learning-rate search"
)
_UNCERTAINTY = (
    "95 % intervals of a paired bootstrap over test examples, plus the standard error over seeds "
    "where there are several; a difference whose interval includes zero is called within noise"
)
_TESTS = (
    "the 95 % interval of a mean over targets adds the targets' standard errors in squares, since "
    "their test examples are disjoint; Wilcoxon's signed-rank test is two-sided, over targets, "
    "exact up to 14 targets; Holm's correction covers all comparisons of the table, separately "
    "for accuracy and for loss"
)
_MORE = (
    "how many more test examples would put a difference of the observed size outside its "
    "interval, which shrinks with the square root of the examples; this is an estimate from an "
    "estimate, and it does not make up for few seeds or few targets"
)
_SCORED_BY = {
    "knowledge": "knowledge (bits above the label prior)",
    "loss": "loss",
    "accuracy": "accuracy",
}


def make_facts(study: Study) -> tuple[tuple[str, str], ...]:
    """Word and sentence of everything that a referee would ask for; unknown facts are skipped."""
    return tuple((word, text) for word, text in _facts(study) if text)


def _facts(study: Study) -> Iterator[tuple[str, str]]:
    about, several = study.about, len(study.targets) > 1
    made = about.get("made") or {}
    yield "Made", _text(made.get("date"))
    yield "Command", _text(made.get("command"))
    yield "Hardware", _text(made.get("hardware"))
    yield "Versions", pairs(made.get("versions") or {})
    yield "Experiment", study.name
    yield "Note", str(about.get("note") or "").strip().removesuffix(".")
    yield "Task" if not several else "Targets", _tasks(study)
    yield "Rows", _rows(study)
    yield "Base", _base(study)
    yield "Sample", _sample(study)
    yield "Choice", about.get("sentence") or pairs(about.get("choose", {}))
    yield "Merge", pairs(about.get("merge", {}))
    yield "Training", _training(about)
    yield "Size", _size(study)
    yield "Seeds", _seeds(study)
    yield "Learning rates", _rates(study)
    yield "Evaluations", _evaluations(study)
    yield "Fair rule", _FAIR_RULE
    yield "Paper's rule", _PAPER_RULE
    yield "Seconds", _SECONDS
    yield "Uncertainty", _UNCERTAINTY
    yield "Tests", _TESTS if several else ""
    yield "More examples", _MORE
    unchanged = about.get("unchanged", [])
    skipped = f"{numbers.listed(unchanged)}: loaded, but changed nothing, and skipped"
    yield "Training data of sources", "; ".join(about.get("leaks") or ())
    yield "Change nothing", skipped if unchanged else ""


def _text(value: object) -> str:
    return str(value or "").strip().removesuffix(".")


def pairs(values: Mapping[str, Any]) -> str:
    """``name value`` of every setting that is set, with commas."""
    return ", ".join(
        f"{name} {_value(value)}" for name, value in values.items() if value is not None
    )


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _tasks(study: Study) -> str:
    digest = str(study.about.get("task", {}).get("digest", ""))[:12]
    names = numbers.listed([target.task for target in study.targets])
    return f"{names} (digest {digest})" if digest else names


def _base(study: Study) -> str:
    about = study.about.get("base")
    details = about if isinstance(about, Mapping) else {}
    digest = f"digest {str(details['digest'])[:12]}" if "digest" in details else ""
    more = ", ".join(filter(None, (digest, str(details.get("dtype") or ""))))
    name = PurePath(study.base).name if study.base.startswith("/") else study.base
    return name + (f" ({more})" if more else "")


def _rows(study: Study) -> str:
    splits = study.about.get("splits", {})
    if splits:
        sizes = numbers.listed([f"{rows} {name}" for name, rows in splits.items()])
        return f"{sizes}; disjoint. Decisions are made on dev; test is only reported"
    known = [(name, study.about.get(f"{name}_rows")) for name in ("train", "dev", "test")]
    given = [f"{size} {name}" for name, size in known if size]
    tests = sorted({target.examples for target in study.targets if target.examples})
    text = f"at most {numbers.listed(given)} per task; " if given else ""
    return f"{text}tested on {numbers.listed(tests)} examples per target" if tests else ""


def _sample(study: Study) -> str:
    sample = study.about.get("sample", {})
    if not sample:
        return ""
    digest = f" (digest {str(sample.get('digest', ''))[:12]})"
    return (
        f"checkpoints are ranked by {_SCORED_BY[study.targets[0].criterion]} on "
        f"{sample.get('examples')} of the training rows{digest}, never on dev or test"
    )


def _training(about: Mapping[str, Any]) -> str:
    own = {"learning_rate", "seed", "lora_r", "lora_alpha", "lora_target_modules"}
    settings = {k: v for k, v in about.get("settings", {}).items() if k not in own}
    return pairs(settings or about.get("train", {}))


def _size(study: Study) -> str:
    """Trainable parameters by arm; the rank that arms of a comparison share."""
    sizes: dict[str, set[int]] = {}
    for arm in study.arms:
        for row in study.rows(arm):
            found = {int(run.values.get("trainable_parameters") or 0) for run in row.runs}
            sizes.setdefault(arm, set()).update(found - {0})
    counts = [
        f"{arm} {numbers.listed([f'{n:,}' for n in sorted(s)])}" for arm, s in sizes.items() if s
    ]
    rank = study.about.get("rank")
    shared = (
        f"scratch trains the same modules at the same rank as the merge ({rank}), and smaller "
        "merges are padded"
    )
    parameters = f"trainable parameters: {'; '.join(counts)}" if counts else ""
    return "; ".join(filter(None, (shared if rank else "", parameters)))


def _by_arm(study: Study, value: Callable[[ArmRow], str]) -> dict[str, list[str]]:
    """Arms by what they have in common, in the order of the arms."""
    groups: dict[str, list[str]] = {}
    for arm in study.arms:
        found = dict.fromkeys(filter(None, map(value, study.rows(arm))))
        if found:
            groups.setdefault(" or ".join(found), []).append(arm)
    return groups


def _seeds(study: Study) -> str:
    seeds = {arm: max(len(row.seeds) for row in study.rows(arm)) for arm in study.arms}
    if len(set(seeds.values())) == 1:
        return numbers.listed(study.seeds)
    groups: dict[int, list[str]] = {}
    for arm, count in seeds.items():
        groups.setdefault(count, []).append(arm)
    return "; ".join(
        f"{numbers.plural(n, 'seed')} for {numbers.listed(arms)}" for n, arms in groups.items()
    )


def _rates(study: Study) -> str:
    about = study.about
    grid = about.get("learning_rates") or [about.get("settings", {}).get("learning_rate")]
    if grid == [None]:
        return ""
    if len(grid) == 1:
        return f"{grid[0]:g} for every arm"
    shown = numbers.listed([f"{rate:g}" for rate in grid])
    text = f"{shown}; each arm, target and seed takes the best by dev loss and pays for the others"
    if study.only is None:
        return text

    def taken(arm: ArmRow) -> str:
        rates = [run.values.get("learning_rate") for run in arm.runs]
        return " and ".join(f"{rate:g}" for rate in dict.fromkeys(rates) if rate)

    groups = _by_arm(study, taken)
    grids = [f"{rates} by {numbers.listed(arms)}" for rates, arms in groups.items()]
    return f"{text}. Taken: {'; '.join(grids)}" if grids else text


def _evaluations(study: Study) -> str:
    """At which steps; scratch's, on the first target."""
    scratch = study.targets[0].arm("scratch")
    if scratch is None:
        return ""
    steps = [point.step for point in scratch.runs[0].points]
    shown = (
        numbers.listed(steps) if len(steps) <= 12 else f"{len(steps)} steps from 0 to {steps[-1]}"
    )
    return f"at steps {shown}; parity cannot be measured more finely"
