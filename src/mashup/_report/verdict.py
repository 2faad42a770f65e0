"""Was it worth it, in words: the sentence that comes first, and the notes that belong to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from mashup._report import numbers
from mashup._report.study import BEST_SINGLE, MASHUP, SCRATCH, ArmRow, Contrast, Study, Target
from mashup.results.significance import examples_needed, least_p
from mashup.results.statistics import Difference

_HOPELESS = 100  # times the test examples: beyond that no number is useful
_LEVEL = 0.05


@dataclass(frozen=True)
class Verdict:
    """The answer.

    Attributes:
        tone: ``better``, ``worse``, ``within noise`` or ``none`` (nothing was compared).
        lead: the answer in a few words.
        clauses: the numbers behind it.
        notes: caveats, whole sentences.
    """

    tone: str
    lead: str
    clauses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def numbers(self) -> str:
        return "; ".join(self.clauses)

    @property
    def sentence(self) -> str:
        """All of it as one sentence, without the notes."""
        return f"{self.lead}: {self.numbers}." if self.clauses else f"{self.lead}."


def make_verdict(study: Study) -> Verdict:
    """The verdict on mashup, or on the first other arm, against scratch."""
    name, only = study.subject, study.only
    where = f" on {only.task}" if only else ""
    if not name:
        return Verdict("none", f"only {SCRATCH} was trained on {only.task if only else study.name}")
    arm = only.arm(name) if only else None
    if only and arm and name == MASHUP and study.about.get("chosen") == []:
        return _abstained(arm, only)
    subject = study.contrast(name)
    if subject is None:
        return Verdict("none", f"{name} was not compared with {SCRATCH}{where}")
    if only and arm:
        clauses = [_accuracy(arm, only, subject), _parity(arm)]
    else:
        clauses = [_over_targets(subject)]
    tone = subject.tone
    if tone == "within noise":
        clauses += [contrast_verdict(subject).partition(": ")[2]]
        size = f" ({subject.examples} test examples)" if only else ""
        lead = f"{name} and {SCRATCH} are within noise of each other{where}{size}"
    else:
        lead = f"{name} is {tone} than {SCRATCH}{where}"
    return Verdict(tone, lead, tuple(filter(None, clauses)), tuple(_notes(study, subject)))


def _abstained(arm: ArmRow, target: Target) -> Verdict:
    """Nothing was chosen, so mashup is scratch."""
    lead = f"nothing beat the base on {target.task}; start from the base"
    spent = numbers.seconds(arm.costs["score"])
    clause = f"{arm.name} is {SCRATCH} here, and scoring took {spent} s"
    better = [
        f"{one.name} ({numbers.points(gain.value)} points)"
        for one in target.arms
        if (gain := one.accuracy_gain) and gain.verdict(higher_is_better=True) == "better"
    ]
    notes = (f"Better than {SCRATCH} nevertheless: {numbers.listed(better)}.",) if better else ()
    return Verdict("none", lead, (clause,), notes)


def _accuracy(arm: ArmRow, target: Target, subject: Contrast) -> str:
    scratch = numbers.percent(target.scratch.accuracy)
    gain = subject.gain
    return (
        f"test accuracy {numbers.percent(arm.accuracy)} vs {scratch}, "
        f"{numbers.points(gain.value)} points [95 % interval {numbers.interval(gain)[1:]}"
    )


def _parity(arm: ArmRow) -> str:
    reach = arm.fair
    if reach is None:
        return ""
    if reach.never:
        where = f" in {reach.never} of {reach.seeds} seeds" if reach.seeds > 1 else ""
        steps = numbers.count(arm.steps)
        return f"it never reached {SCRATCH}'s final dev loss{where} ({steps} steps)"
    reached = []
    for unit in ("steps", "seconds"):
        mine, theirs = numbers.reached(reach, unit).split(" / ")
        reached += [f"{mine} {unit} against {theirs} ({numbers.saving(reach, unit)})"]
    return (
        f"it reached {SCRATCH}'s final dev loss after {reached[0]} and {reached[1]}, "
        "with all scoring and merging charged"
    )


def _over_targets(one: Contrast) -> str:
    """The numbers behind a verdict: mean gain, how many targets agree, Wilcoxon's test."""
    text = f"{numbers.points(one.gain.value)} points {numbers.interval(one.gain)}"
    tasks = len(one.gains)
    if tasks == 1:
        return text
    counted = ((word, one.count(word)) for word in ("better", "within noise", "worse"))
    counts = numbers.listed([f"{word} on {n}" for word, n in counted if n])
    text += f" on average of {tasks} targets ({counts})"
    if one.holm is None:
        return text
    text += f"; Wilcoxon over targets p = {one.p:.3f}, {one.holm:.3f} after Holm"
    if least_p(tasks) > _LEVEL:
        text += f" (with {tasks} targets it cannot be below {least_p(tasks):.2g})"
    return text


def verdict(gain: Difference, examples: int, *, seeds: int = 1, is_lone: bool = False) -> str:
    """``better``, ``worse``, or ``within noise at this size: needs about N more examples``.

    Args:
        gain: of test accuracy.
        examples, seeds: test examples and seeds that its interval is from. With several seeds
            both are in the interval, so more of both are needed.
        is_lone: on one seed, where other arms show that seeds differ.
    """
    word = gain.verdict(higher_is_better=True)
    if word != "within noise":
        return word
    missing = "needs more than one seed" if is_lone else _missing(gain, examples, seeds)
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
        shown = f"{math.ceil(10 * times) / 10:.1f}" if times < 10 else numbers.rounded(times)
        return f"needs about {shown} times the {both}"
    return f"needs about {numbers.rounded(more):,} more examples"


def target_verdict(target: Target, arm: str) -> str:
    """The verdict on one target, against scratch; empty where it was not compared."""
    gain = target.gain(arm)
    if gain is None:
        return ""
    seeds, lone = target.seeds(arm), target.is_lone(arm)
    return verdict(gain, target.examples, seeds=seeds, is_lone=lone)


def contrast_verdict(one: Contrast) -> str:
    """The verdict on the mean over targets."""
    return verdict(one.gain, one.examples, seeds=one.seeds, is_lone=one.is_lone)


def contrast_sentence(one: Contrast) -> str:
    """The same with its numbers: ``mashup against best-single: better than it, +4.0 ...``."""
    word = contrast_verdict(one)
    than = f"{word} than {one.other}" if word in ("better", "worse") else word
    return f"{one.arm} against {one.other}: {than}, {_over_targets(one)}"


def _notes(study: Study, subject: Contrast) -> Iterator[str]:
    """What a reader must know with the answer."""
    if short := study.about.get("short"):
        longer = numbers.listed(study.about["longer"])
        only = f"; longer ones of {longer} are not shown" if longer else " only: these are shown"
        yield f"So far there are runs with {100 * short:.0f} % of the steps{only}."
    yield from _loss_note(study, subject)
    rival = study.contrast(MASHUP, BEST_SINGLE) if subject.arm == MASHUP else None
    if rival:
        yield f"{numbers.capital(contrast_sentence(rival))}."
    if subject.arm == MASHUP and subject.tone == "better":
        yield from _control_note(study, subject)
    blind = [target for target in study.targets if target.is_blind]
    if blind:
        names = numbers.listed([target.task for target in blind])
        levels = numbers.listed([numbers.percent(one.commonest or 0.0) for one in blind])
        yield (
            f"No arm beats the commonest answer on {names} ({levels}): accuracy says nothing there."
        )
    yield from _grid_note(study, subject)
    yield seed_note(study)


def _grid_note(study: Study, subject: Contrast) -> Iterator[str]:
    """Where a learning rate may exist that suits an arm better than those that were tried."""
    grid = study.about.get("learning_rates") or []
    if len(grid) == 1:
        yield f"Every arm has the learning rate {grid[0]:g}: another may suit one of them better."
    several, edges = len(study.targets) > 1, []
    for arm in (SCRATCH, subject.arm):
        for word, place in (("largest", -1), ("smallest", 0)):
            count = sum(_is_best_at(target, arm, place) for target in study.targets)
            where = f" on {count} of {len(study.targets)} targets" * several
            edges += [f"the {word} of the grid for {arm}{where}"] * (count > 0)
    if edges:
        yield (
            f"The best learning rate is {numbers.listed(edges)}: "
            "a wider grid may change the difference."
        )


def _is_best_at(target: Target, arm: str, place: int) -> bool:
    """Whether the rate at one end of a grid has the least dev loss, and others have more."""
    losses: dict[float, list[float]] = {}
    for end in target.ends:
        if end.arm == arm:
            losses.setdefault(end.rate, []).append(
                math.inf if end.dev_loss is None else end.dev_loss
            )
    rates, means = sorted(losses), {rate: fmean(found) for rate, found in losses.items()}
    return len(set(means.values())) > 1 and min(rates, key=means.__getitem__) == rates[place]


def _loss_note(study: Study, subject: Contrast) -> Iterator[str]:
    """Where the test loss has another verdict than the test accuracy."""
    gain, word = subject.loss, subject.loss.verdict(higher_is_better=False)
    if word != subject.tone:
        mine, theirs = (
            numbers.loss(fmean(row.loss for row in study.rows(arm)))
            for arm in (subject.arm, SCRATCH)
        )
        change = f"{numbers.signed(gain.value)} {numbers.loss_interval(gain)}"
        yield f"By test loss it is {word}: {mine} vs {theirs}, {change}."


def _control_note(study: Study, subject: Contrast) -> Iterator[str]:
    """Controls that gained at least as much: then choosing and merging is not what helped."""
    equal = [
        f"{one.arm} ({numbers.points(one.gain.value)})"
        for one in study.contrasts
        if one.other == SCRATCH and one.arm != MASHUP and one.gain.value >= subject.gain.value
    ]
    if equal:
        yield f"These controls gained at least as much: {numbers.listed(equal)}."


def seed_note(study: Study) -> str:
    """What the intervals do and do not cover."""
    if any(one.is_lone for one in study.contrasts):
        return (
            "Some arms have one seed: their intervals include the spread over seeds of the arms "
            "that have several."
        )
    if len(study.seeds) > 1:
        return f"Means over {len(study.seeds)} seeds; intervals cover test examples and seeds."
    return "One seed: intervals cover the choice of test examples, not how runs differ by seed."


def ladder_sentences(target: Target) -> Iterator[str]:
    """For each arm of the ladder, the budget with which it matches scratch's full run.

    Scratch itself is named only if less than its full budget was enough.
    """
    full = next((r for r in target.ladder if (r.arm, r.budget) == (SCRATCH, 1.0)), None)
    if full is None:
        return
    for arm in dict.fromkeys(rung.arm for rung in target.ladder):
        mine = [rung for rung in target.ladder if rung.arm == arm]
        enough = next((rung for rung in mine if rung.dev_loss <= full.dev_loss), None)
        if enough is None:
            yield f"{arm} never reaches the dev loss of scratch's full run, with any budget."
        elif enough != full:
            steps = f"{numbers.count(enough.steps)} against {numbers.count(full.steps)}"
            yield (
                f"{arm} reaches the dev loss of scratch's full run with "
                f"{100 * enough.budget:.0f} % of the steps ({steps})."
            )
