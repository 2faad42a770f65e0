"""Was it worth it, in words: the sentence that comes first, and what must be said with it."""

from __future__ import annotations

from dataclasses import dataclass

from mashup._report import numbers
from mashup._report.summary import BEST_SINGLE, MASHUP, ArmRow, Summary

CHARGED = "all scoring and merging charged"


@dataclass(frozen=True)
class Verdict:
    """The answer.

    Attributes:
        tone: ``better``, ``worse``, ``within noise`` or ``none`` (nothing to start from).
        lead: the answer in a few words; ``clauses`` the numbers behind it.
        notes: caveats, whole sentences.
    """

    tone: str
    lead: str
    clauses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """All of it as one sentence."""
        return self.lead + (": " if self.clauses else "") + "; ".join(self.clauses) + "."


def make_verdict(summary: Summary) -> Verdict:
    """The verdict on mashup (or on the first other arm) against scratch."""
    arm = summary.subject
    if arm is None:
        return Verdict("none", f"only scratch was trained on {summary.task}")
    if arm.name == MASHUP and summary.about.get("chosen") == []:
        return _abstained(arm, summary)
    if arm.accuracy_gain is None:
        return Verdict("none", f"{arm.name} was not compared with scratch on {summary.task}")
    tone = arm.accuracy_gain.verdict(higher_is_better=True)
    clauses = (_accuracy(arm, summary.scratch), _parity(arm))
    return Verdict(tone, _lead(tone, arm, summary), tuple(filter(None, clauses)), _notes(summary))


def _abstained(arm: ArmRow, summary: Summary) -> Verdict:
    lead = f"nothing beat the base on {summary.task}; start from the base"
    spent = numbers.seconds(arm.costs["score"])
    clause = f"{arm.name} is scratch here, and finding out took {spent} s"
    return Verdict("none", lead, (clause,), _better_all_the_same(summary))


def _better_all_the_same(summary: Summary) -> tuple[str, ...]:
    """Controls that gained although no checkpoint beat the base on the sample."""
    gains = [(arm.name, gain) for arm in summary.arms if (gain := arm.accuracy_gain)]
    better = [
        f"{name} ({numbers.points(gain.value)} points)"
        for name, gain in gains
        if gain.verdict(higher_is_better=True) == "better"
    ]
    return (f"Better than scratch all the same: {numbers.listed(better)}.",) if better else ()


def _lead(tone: str, arm: ArmRow, summary: Summary) -> str:
    if tone != "within noise":
        return f"{arm.name} is {tone} than scratch on {summary.task}"
    tests = summary.about.get("splits", {}).get("test")
    size = f" ({tests} test examples)" if tests else ""
    return f"{arm.name} and scratch are within noise of each other on {summary.task}{size}"


def _accuracy(arm: ArmRow, scratch: ArmRow) -> str:
    gain = arm.accuracy_gain
    assert gain is not None
    return (
        f"test accuracy {numbers.percent(arm.accuracy)} vs {numbers.percent(scratch.accuracy)}, "
        f"{numbers.points(gain.value)} points [95 % interval {numbers.interval(gain)[1:]}"
    )


def _parity(arm: ArmRow) -> str:
    if (reach := arm.fair) is None:
        return ""
    if reach.never:
        where = f" in {reach.never} of {reach.seeds} seeds" if reach.seeds > 1 else ""
        return (
            f"it never reached scratch's final dev loss{where} ({numbers.count(arm.steps)} steps)"
        )
    return (
        f"it reached scratch's final dev loss after {_of(arm, 'steps')} "
        f"and {_of(arm, 'seconds')}, {CHARGED}"
    )


def _of(arm: ArmRow, unit: str) -> str:
    assert arm.fair is not None
    mine, theirs = numbers.reached(arm.fair, unit).split(" / ")
    return f"{mine} {unit} against scratch's {theirs} ({numbers.saving(arm.fair, unit)})"


def _notes(summary: Summary) -> tuple[str, ...]:
    notes = (
        *(_loss_note(summary), _rival_note(summary), _control_note(summary)),
        *(_blind_note(summary), seed_note(summary)),
    )
    return tuple(note for note in notes if note)


def _loss_note(summary: Summary) -> str:
    """Where test loss says something else than test accuracy."""
    arm = summary.subject
    if arm is None or arm.loss_gain is None or arm.accuracy_gain is None:
        return ""
    verdict = arm.loss_gain.verdict(higher_is_better=False)
    if verdict == arm.accuracy_gain.verdict(higher_is_better=True):
        return ""
    gain = arm.loss_gain
    ends = f"[{numbers.signed(gain.low)}, {numbers.signed(gain.high)}]"
    values = f"{numbers.loss(arm.loss)} vs {numbers.loss(summary.scratch.loss)}"
    return f"By test loss it is {verdict}: {values}, {numbers.signed(gain.value)} {ends}."


def _rival_note(summary: Summary) -> str:
    """Whether merging did better than starting from the best checkpoint alone."""
    over = summary.over.get(BEST_SINGLE)
    if over is None:
        return ""
    word = over.verdict(higher_is_better=True)
    told = word if word == "within noise" else f"{word} than it"
    gain = f"{numbers.points(over.value)} points {numbers.interval(over)}"
    return f"Against {BEST_SINGLE}, {MASHUP} is {told}: {gain}."


def _blind_note(summary: Summary) -> str:
    """Whether any arm beats an answer that never looks at the prompt."""
    if not summary.is_blind or summary.commonest is None:
        return ""
    level = numbers.percent(summary.commonest)
    return f"No arm beats the commonest answer ({level}): accuracy tells nothing here."


def _control_note(summary: Summary) -> str:
    """Controls that gained at least as much: then choosing and merging is not what helped."""
    arm = summary.subject
    if arm is None or arm.name != MASHUP or arm.accuracy_gain is None:
        return ""
    own = arm.accuracy_gain
    gains = [(a.name, a.accuracy_gain.value) for a in summary.arms if a.accuracy_gain]
    equal = [(name, gain) for name, gain in gains if name != MASHUP and gain >= own.value]
    if own.verdict(higher_is_better=True) != "better" or not equal:
        return ""
    names = numbers.listed([f"{name} ({numbers.points(gain)})" for name, gain in equal])
    return f"At least as much was gained by {names}."


def seed_note(summary: Summary) -> str:
    """What the intervals do and do not cover."""
    if len(summary.seeds) > 1:
        return f"Means over {len(summary.seeds)} seeds; intervals cover test examples and seeds."
    return "One seed: intervals cover the choice of test examples, not how runs differ by seed."
