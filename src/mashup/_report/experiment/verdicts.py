"""One sentence a comparison: better, worse, or within noise and what would tell more."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mashup._report import numbers
from mashup._report.experiment.summary import Contrast, Study, Target
from mashup._report.summary import BEST_SINGLE, MASHUP, SCRATCH
from mashup.results.significance import examples_needed, least_p
from mashup.results.statistics import Difference

_HOPELESS = 100  # times the examples that there are: then no number helps
LEVEL = 0.05


def verdict(gain: Difference, examples: int, *, seeds: int = 1, is_lone: bool = False) -> str:
    """``better``, ``worse``, or ``within noise at this size: needs about N more examples``.

    With several seeds both are in the interval, so that it takes more of both.

    Args:
        gain: of test accuracy.
        examples, seeds: test examples and seeds that its interval is from.
        is_lone: of one seed, where others are known to differ.
    """
    word = gain.verdict(higher_is_better=True)
    if word != "within noise":
        return word
    missing = "needs more seeds than one" if is_lone else _missing(gain, examples, seeds)
    return f"within noise at this size: {missing}"


def _missing(gain: Difference, examples: int, seeds: int) -> str:
    more = examples_needed(gain, examples)
    both = "examples and seeds" if seeds > 1 else "examples"
    if not math.isfinite(more):
        return "no difference was seen"
    if more > _HOPELESS * examples:
        return f"a difference this small needs more than {_HOPELESS} times the {both}"
    if seeds > 1:
        times = 1 + more / examples
        return f"needs about {_times(times)} times the {both}"
    return f"needs about {rounded(more):,} more examples"


def _times(factor: float) -> str:
    """Two digits, upwards."""
    return f"{math.ceil(10 * factor) / 10:.1f}" if factor < 10 else str(rounded(factor))


def rounded(value: float) -> int:
    """Two digits that count: nobody should believe more of an estimate."""
    if value < 1:
        return 1
    unit = 10 ** max(0, math.floor(math.log10(value)) - 1)
    return int(math.ceil(value / unit) * unit)


def target_verdict(target: Target, arm: str) -> str:
    """The verdict on one target, against scratch; empty where it was not compared."""
    gain = target.gain(arm)
    if gain is None:
        return ""
    seeds, lone = target.seeds(arm), target.is_lone(arm)
    return verdict(gain, target.examples, seeds=seeds, is_lone=lone)


def contrast_sentence(contrast: Contrast) -> str:
    """The same over all targets, with how many of them agree and Wilcoxon's test."""
    than = _than(contrast_verdict(contrast), contrast.other)
    return f"{contrast.arm} against {contrast.other}: {than}, {_behind(contrast)}"


def contrast_verdict(contrast: Contrast) -> str:
    """The verdict on the mean over targets."""
    seeds, lone = contrast.seeds, contrast.is_lone
    return verdict(contrast.gain, contrast.examples, seeds=seeds, is_lone=lone)


def _than(word: str, other: str) -> str:
    return f"{word} than {other}" if word in ("better", "worse") else word


def _behind(contrast: Contrast) -> str:
    """The numbers behind a verdict."""
    counted = ((word, contrast.count(word)) for word in ("better", "within noise", "worse"))
    counts = numbers.listed([f"{word} on {n}" for word, n in counted if n])
    targets = numbers.plural(len(contrast.gains), "target")
    told = f"{_points(contrast.gain)} on average of {targets} ({counts})"
    return f"{told}{_significance(contrast)}"


def _significance(contrast: Contrast) -> str:
    tasks = len(contrast.gains)
    if contrast.holm is None or tasks < 2:
        return ""
    text = f"; Wilcoxon over targets p = {contrast.p:.3f}, {contrast.holm:.3f} after Holm"
    if least_p(tasks) > LEVEL:
        text += f" (with {tasks} targets it cannot be below {least_p(tasks):.2g})"
    return text


def _points(gain: Difference) -> str:
    return f"{numbers.points(gain.value)} points {numbers.interval(gain)}"


@dataclass(frozen=True)
class Lead:
    """What an experiment says first: tone, the answer, the numbers behind it."""

    tone: str
    answer: str
    numbers: str

    @property
    def sentence(self) -> str:
        return f"{self.answer}: {self.numbers}" if self.numbers else self.answer


def lead(study: Study) -> Lead:
    """The answer to what the experiment is about."""
    subject = study.subject
    if subject is None:
        return Lead("none", f"only {SCRATCH} was trained in {study.name}", "")
    tone = subject.gain.verdict(higher_is_better=True)
    if tone != "within noise":
        return Lead(tone, f"{subject.arm} is {tone} than {subject.other}", _behind(subject))
    answer = f"{subject.arm} and {subject.other} are within noise of each other"
    more = contrast_verdict(subject).partition(": ")[2]
    return Lead(tone, answer, f"{_behind(subject)}; {more}")


def in_words(study: Study) -> tuple[str, ...]:
    """What is said below the answer: mashup against its best donor, targets that tell nothing.

    All other comparisons are in the table.
    """
    rival = study.contrast(MASHUP, BEST_SINGLE)
    return tuple(filter(None, [contrast_sentence(rival) if rival else "", _blind(study)]))


def _blind(study: Study) -> str:
    """Targets on which no arm beats an answer that never looks at the prompt."""
    found = [target for target in study.targets if target.is_blind]
    names = numbers.listed([target.task for target in found])
    levels = numbers.listed([numbers.percent(target.commonest or 0.0) for target in found])
    text = f"no arm beats the commonest answer on {names} ({levels})"
    return f"{text}: accuracy tells nothing there" if found else ""
