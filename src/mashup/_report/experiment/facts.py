"""How an experiment was measured, as pairs of a word and a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from mashup._report import numbers
from mashup._report.experiment.summary import Study
from mashup._report.facts import FAIR_RULE, PAPER_RULE, SECONDS, UNCERTAINTY, pairs

_TESTS = (
    "95 % intervals of a mean over targets add the targets' standard errors in squares (their test "
    "examples are disjoint); Wilcoxon's signed-rank test is two-sided, over targets, exact up to "
    "14; Holm's correction covers all comparisons of the table, for accuracy and loss apart"
)
_MORE = (
    "how many more test examples would put a difference of the size that was seen outside its "
    "interval, which shrinks with the square root of the examples; it is an estimate from an "
    "estimate, and does not make up for few seeds or few targets"
)


def make_facts(study: Study) -> tuple[tuple[str, str], ...]:
    """Word and sentence of everything that a referee would ask for."""
    return tuple((word, text) for word, text in _facts(study) if text)


def _facts(study: Study) -> Iterator[tuple[str, str]]:
    about = study.about
    yield "Experiment", study.name
    yield "Note", str(about.get("note", "")).strip().removesuffix(".")
    yield "Base", PurePath(study.base).name if study.base.startswith("/") else study.base
    yield "Targets", numbers.listed([target.task for target in study.targets])
    yield "Rows", _rows(study)
    yield "Learning rates", _rates(about)
    yield "Seeds", _seeds(study)
    yield "Choice", pairs(about.get("choose", {}))
    yield "Merge", pairs(about.get("merge", {}))
    yield "Training", pairs({k: v for k, v in about.get("train", {}).items() if v is not None})
    yield "Size", _size(study)
    yield "Fair rule", FAIR_RULE
    yield "Paper's rule", PAPER_RULE
    yield "Seconds", SECONDS
    yield "Uncertainty", UNCERTAINTY
    yield "Tests", _TESTS
    yield "More examples", _MORE


def _rows(study: Study) -> str:
    sizes = [(name, study.about.get(f"{name}_rows")) for name in ("train", "dev", "test")]
    told = [f"{size} {name}" for name, size in sizes if size]
    tests = sorted({target.examples for target in study.targets if target.examples})
    text = f"at most {numbers.listed(told)} a task; " if told else ""
    return f"{text}tested on {numbers.listed(tests)} examples a target" if tests else ""


def _rates(about: Mapping[str, Any]) -> str:
    rates = about.get("learning_rates", ())
    if not rates:
        return ""
    grid = numbers.listed([f"{rate:g}" for rate in rates])
    return f"{grid}; the best by dev loss for each arm, target and seed, the others charged"


def _seeds(study: Study) -> str:
    by_count: dict[int, list[str]] = {}
    for arm in study.arms:
        count = max(len(row.seeds) for row in study.rows(arm))
        by_count.setdefault(count, []).append(arm)
    told = [f"{numbers.plural(n, 'seed')} for {numbers.listed(a)}" for n, a in by_count.items()]
    return "; ".join(told)


def _size(study: Study) -> str:
    sizes: dict[str, set[int]] = {}
    for arm in study.arms:
        for row in study.rows(arm):
            found = {int(run.values.get("trainable_parameters") or 0) for run in row.runs}
            sizes.setdefault(arm, set()).update(found)
    told = [f"{arm} {numbers.listed([f'{n:,}' for n in sorted(s)])}" for arm, s in sizes.items()]
    return f"trainable parameters: {'; '.join(told)}"
