"""A race: several starts and learning rates under one budget; the best one is the trained run."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mashup._init import Sample
from mashup._race.plan import NOISE, SCRATCH, DevPoint, Lane, Plan, Verdict, fits, judge, make_plan
from mashup._race.record import RACE, WORK, Book, Race, drop_cut_line, read_points, write_point
from mashup._race.starts import LEAST_LOSS, Choosing, choose, expected_starts, make_start
from mashup._train.record import FINISHED, RUN, read_started
from mashup._train.resume import RESUME
from mashup._train.run import train_until
from mashup._train.trainer import curve_steps, steps_of
from mashup._train.work import RunTokens, Ways, run_tokens
from mashup.checkpoint import check_base, open_checkpoint
from mashup.checkpoint.read import check_start
from mashup.errors import DivergedError, InputError, Problem, UsageError, gather, raise_all
from mashup.evaluate.evaluate import Evaluation
from mashup.faults import given_of, resolved
from mashup.hub import snapshot_of
from mashup.library import Library, checkpoint_digest, scan
from mashup.library.leakage import usable_sources
from mashup.library.sources import fetch_fitting, folder_of
from mashup.model import AnyBase, Base, base_shapes, fit_loaded, load_base
from mashup.outputs import disk_errors, make_folder, move, only_one, refuse_existing
from mashup.processes import process_count
from mashup.progress import SILENT, Progress
from mashup.results.curve import CURVE, Point, read_curve
from mashup.settings import (
    MergeSettings,
    RaceSettings,
    ScoreSettings,
    SelectSettings,
    TrainSettings,
)
from mashup.task import Task, load_task


def race(
    base: AnyBase,
    task: Any,
    *,
    output: str | Path,
    library: Library | str | Path | None = None,
    starts: Mapping[str, str | Path] | Sequence[str | Path] = (),
    learning_rates: Sequence[float] | None = None,
    budget: int | None = None,
    scales: Sequence[float] | None = None,
    score: ScoreSettings | None = None,
    select: SelectSettings | None = None,
    merge_options: MergeSettings | Mapping[str, Any] | None = None,
    settings: TrainSettings | None = None,
    split_seed: int = 42,
    accept_base: bool = False,
    strict: bool = False,
    progress: Progress = SILENT,
) -> Race:
    """Train from several starts at several learning rates, and keep the best by dev loss.

    Scratch is always in the race. Lanes (a start at a rate) are compared at half and three quarters
    of a run, and given up when another is ahead; see :mod:`mashup._race.plan`. The same call again
    continues a race that was killed. A race with one start and one rate is :func:`mashup.train`.

    Args:
        base: a loaded base or its name, or a transformers model in memory.
        task: a loaded task, or its dataset as :func:`mashup.load_task` takes it.
        output: the folder of the trained run.
        library: past checkpoints, from which starts are made: the merge of the best ``k``, the
            merge at each of ``scales``, the mean of all that know the task, the best single one.
        starts: more starts, with names or without: folders, or ``hub:OWNER/NAME``.
        learning_rates: peak rates for every start; by default that of ``settings`` where it is
            given there, else a third, one and three times the rate that most checkpoints of the
            library were trained with.
        budget: most optimizer steps of all lanes together. Starts of the library for which it has
            no room are left out, the last of them first.
        scales: more factors on the merge; 0.5 by default.
        score: how checkpoints are scored.
        select: how they are chosen.
        merge_options: settings of :func:`mashup.merge`, as an object or a mapping.
        settings: of every lane. ``keep`` is ``best`` and ``test_points`` ``end`` unless given.
        split_seed: of the scoring sample.
        accept_base: take starts and checkpoints that name no base or another one.
        strict: stop at a broken checkpoint instead of skipping it.
        progress: where to show bars.

    Raises:
        InputError: bad input, an output of something else, or no lane whose loss is a number.
        UsageError: impossible settings.
    """
    start = time.perf_counter()
    output, settings = Path(output).absolute(), race_settings(settings)
    asked = {"learning_rates": learning_rates or None, "budget": budget, "scales": scales}
    ours = resolved(RaceSettings, None, asked, "race")
    score, select = score or ScoreSettings(), select or SelectSettings()
    sample = Sample(score.samples, split_seed, settings.max_length)
    merging = given_of(merge_options)
    how = Choosing(score, select, ours.scales, merging, sample, accept_base, strict)
    taken = [*expected_starts(select.k, ours.scales), LEAST_LOSS] if library else []
    given = named_starts(starts, taken)
    task, sources = _read_inputs(base, task, library, given, output, settings)
    base = load_base(base)
    _check_fit(given.values(), base, accept_base)
    tokens = run_tokens(base, task, settings)
    rates = ours.learning_rates or default_rates(sources, settings)
    config = {
        "base": base.about,
        "tokens": tokens.digest,
        "starts": {name: checkpoint_digest(folder) for name, folder in given.items()},
        "sources": sorted(checkpoint_digest(one.path) for one in sources.usable) if sources else [],
        "choosing": how.to_json() if sources else {},
        "rates": list(rates),
        "budget": ours.budget,
        "settings": settings.model_dump(),
    }
    points = rung_points(len(tokens.train), settings)
    make_plan(list(given), rates, points, ours.budget)  # refuses a budget before it writes
    with only_one(output), disk_errors(output):
        book = Book.open(output, config, start)
        track = _Track(base, task, tokens, output, settings, how, progress, book)
        if book.values["status"] == "finished":
            progress.say(FINISHED)
        elif "winner" in book.values:  # stopped while its files got their place
            track.finish(book.values["winner"])
        else:
            folders = given | (track.make_starts(sources) if sources else {})
            names = list(folders)
            while len(names) > len(given) and not fits(names, rates, points, ours.budget):
                progress.say(f"{names.pop()}: left out, the `budget` has no room for it")
            track.run(make_plan(names, rates, points, ours.budget), folders)
        shutil.rmtree(output / WORK, ignore_errors=True)
    return Race.open(output)


def _read_inputs(
    base: Any, task: Any, library: Any, starts: Mapping[str, Path], output: Path,
    settings: TrainSettings,
) -> tuple[Task, Library | None]:  # fmt: skip
    """Task and library, once everything that needs no torch has been checked.

    Raises:
        MashupError: with all problems at once.
    """

    def start(folder: Path) -> Callable[[], None]:
        return lambda: check_start(folder, full=settings.is_full)

    def read_task() -> Task:
        read = task if isinstance(task, Task) else load_task(task)
        if not read.dev:
            fix = "give `dev_rows`, or a dataset with more rows"
            problem = Problem("nothing to decide a race by", read.name, "no dev rows", "some", fix)
            raise InputError(problem)
        return read

    named = isinstance(base, str | Path)
    *_, read, sources = gather(
        _refuse_processes,
        lambda: refuse_existing(output, RACE),
        lambda: check_base(base) if named else None,
        *map(start, starts.values()),
        read_task,
        lambda: scan(library) if isinstance(library, str | Path) else library,
    )
    return read, sources


def _check_fit(folders: Iterable[Path], base: Base, accept_base: bool) -> None:
    """Refuse starts that do not fit the base, before any of them is trained.

    Raises:
        InputError: with all problems at once.
    """
    shapes = base_shapes(base)
    raise_all(
        problem
        for folder in folders
        for problem in fit_loaded(
            open_checkpoint(folder), shapes, base.model, accept_base=accept_base
        ).problems
    )


def planned(
    task: Task,
    settings: TrainSettings,
    ours: RaceSettings,
    library: Library | None,
    starts: Sequence[str | Path],
    k: int,
) -> Plan:
    """The plan of a race with every start that its library may give.

    Rows that turn out to be too long are still counted.
    """
    given = expected_starts(min(k, len(library.usable)), ours.scales) if library else []
    names = [*named_starts(starts, given), *given]
    settings = race_settings(settings)
    points = rung_points(len(task.train), settings)
    rates = ours.learning_rates or default_rates(library, settings)
    return make_plan(names, rates, points, ours.budget)


def rung_points(examples: int, settings: TrainSettings) -> list[int]:
    """Steps of the curve at which lanes can be compared: after warm-up, when all have learnt."""
    steps = steps_of(examples, settings)
    points = curve_steps(steps, settings)
    return [one for one in points if one > math.ceil(steps * settings.warmup)] or [steps]


def race_settings(settings: TrainSettings | None) -> TrainSettings:
    """Training settings of a race: the best point is kept, test rows are read at the end."""
    settings = settings or TrainSettings()
    values = {"keep": "best", "test_points": "end"}
    new = {name: one for name, one in values.items() if name not in settings.model_fields_set}
    return settings.model_copy(update=new) if new else settings


def named_starts(
    starts: Mapping[str, str | Path] | Sequence[str | Path], taken: Sequence[str] = ()
) -> dict[str, Path]:
    """Folders by name; without names, by the shortest ends of their paths that differ.

    Args:
        starts: folders, or single checkpoints of the Hub, which are fetched.
        taken: names of other starts.

    Raises:
        UsageError: a name that is taken or cannot be part of a file name.
        InputError: as :func:`mashup.library.sources.folder_of`; all at once.
    """
    given = starts.values() if isinstance(starts, Mapping) else starts
    folders = gather(*(partial(folder_of, one) for one in given))
    if isinstance(starts, Mapping):
        named = dict(zip(map(str, starts), folders, strict=True))
    else:
        paths = {folder.absolute() for folder in folders}
        named, depth = {}, 0
        while len(named) < len(paths):
            depth += 1
            named = {"-".join(_parts(path)[-depth:]).replace("/", ""): path for path in paths}
        named = {name: named[name] for name in sorted(named)}
    used = {SCRATCH, *taken}
    problems = [
        Problem("bad name of a start", "`starts`", name, f"a file name, none of {', '.join(used)}")
        for name in named
        if name in used or not name.strip(".") or "/" in name or "\0" in name or len(name) > 100
    ]
    if problems:
        raise UsageError(*problems)
    return named


def _parts(folder: Path) -> tuple[str, ...]:
    """The parts of a start's name; of a copy of the Hub the commit is the last to be used."""
    at = snapshot_of(folder)
    return (at.commit, *Path(at.repo, at.inner).parts) if at else folder.parts


def default_rates(library: Library | None, settings: TrainSettings) -> tuple[float, ...]:
    """The rate of ``settings`` where it was given, else a third, one and three times a middle.

    The middle is the rate that most checkpoints of the library were trained with, where their
    ``run.json`` names one; else the default rate.
    """
    middle = settings.learning_rate
    if "learning_rate" in settings.model_fields_set:
        return (middle,)
    known = []
    for one in library.usable if library else ():
        try:
            known.append(float(read_started(one.path)["config"]["settings"]["learning_rate"]))
        except (InputError, KeyError, TypeError, ValueError):
            continue  # not a run of ours
    if known:
        middle = max(sorted(set(known)), key=known.count)
    return tuple(float(f"{middle * factor:.2g}") for factor in (1 / 3, 1, 3))


def _refuse_processes() -> None:
    if process_count() > 1:
        found, fix = f"{process_count()} processes", "start it without accelerate"
        raise UsageError(Problem("race in several processes", "race", found, "one", fix))


@dataclass
class _Track:
    """What all lanes of a race share."""

    base: Base
    task: Task
    tokens: RunTokens
    output: Path
    settings: TrainSettings
    how: Choosing
    progress: Progress
    book: Book

    def make_starts(self, library: Library) -> dict[str, Path]:
        """Score the library and make its starts; none where no checkpoint helps."""
        with self.book.charged("score"):
            fetch_fitting(
                library, self.base.name, accept_base=self.how.accept_base, progress=self.progress
            )
            sources, left_out = usable_sources(library, self.task, is_full=self.settings.is_full)
            for problem in left_out:
                self.progress.say(f"left out: {problem.where}: {problem.what} ({problem.found})")
            chosen = choose(sources, self.base, self.task, self.how, self.progress)
        if not chosen:
            self.progress.say("no checkpoint has less loss than the base: scratch alone")
        folders, about = {}, {}
        for name, (selection, scale) in chosen.items():
            folders[name] = self.output / WORK / "starts" / name
            with self.book.charged(f"start {name}"):
                init = make_start(
                    selection, scale, self.base, self.task, self.how, folders[name], self.progress
                )
            parents = [score.name for score in selection.chosen]
            rank = init.manifest.get("resolved_rank")
            about[name] = {"parents": parents, "scale": scale, "rank": rank}
        self.book.save(starts=about)
        return folders

    def run(self, plan: Plan, folders: Mapping[str, Path]) -> None:
        """All rungs; then the winner's files get their place."""
        self.progress.say(
            f"{len(plan.lanes)} lanes, compared at steps {', '.join(map(str, plan.rungs))}; "
            f"{plan.most} steps at most"
        )
        self.book.save(lanes={lane.name: lane.to_json() for lane in plan.lanes})
        rungs: list[dict[str, Any]] = []
        last: dict[Lane, Verdict] = {}
        alive = list(plan.lanes)
        for number, rung in enumerate(plan.rungs):
            is_end = rung == plan.rungs[-1]
            if len(alive) == 1 and not is_end:
                continue  # nobody to compare it with
            curves = {
                lane: self._advance(lane, folders.get(lane.start), rung, is_end) for lane in alive
            }
            verdicts = judge(curves, number, plan.rungs, self.settings.keep)
            last |= {one.lane: one for one in verdicts}
            rungs.append({"step": rung, "lanes": [_described(one) for one in verdicts]})
            for one in [] if is_end else verdicts:
                self._note_seconds(one.lane)
                if one.reason:
                    self._give_up(one, rung)
            alive = [one.lane for one in verdicts if not one.reason]
        first = last[alive[0]]
        if not math.isfinite(first.loss):
            fix, where = "give smaller `learning_rates`", str(self.output)
            raise DivergedError(
                Problem("training diverged", where, "all dev losses", "numbers", fix)
            )
        for lane in curves:
            self._note_seconds(lane)
        steps = self.book.values["steps"]
        sentence = _sentence(first, last, rungs, sum(steps.values()), plan.most, len(self.task.dev))
        name = first.lane.name
        self.book.save(rungs=rungs, most_steps=plan.most, winner=name, sentence=sentence)
        self.finish(name)

    def finish(self, winner: str) -> None:
        """Give the winner's files their place; ``run.json`` comes last, then the race is over.

        Resume points, which a kill at the end of its run may have left, stay behind.
        """
        made = [path for path in self._folder(winner).glob("*") if path.name != RESUME]
        for path in sorted(made, key=lambda one: one.name == RUN):
            move(path, self.output / path.name)
        self.book.save(status="finished")

    def _advance(self, lane: Lane, start: Path | None, rung: int, is_end: bool) -> list[DevPoint]:
        """Train a lane up to a rung unless it is there; its points up to the rung."""
        values = self.output / WORK / "dev" / f"{lane.name}.jsonl"
        spent = self.book.values["steps"]

        def count(step: int) -> None:
            spent[lane.name] = max(spent.get(lane.name, 0), step)

        points = read_points(values, rung)
        if points:
            count(points[-1].step)  # a kill may have come between the values and the book
        if points and points[-1].step == rung and not (is_end and not self._is_over(lane)):
            return points
        make_folder(values.parent)
        drop_cut_line(values)

        def note(point: Point, dev: Evaluation) -> None:
            count(point.step)
            write_point(values, point.step, dev)
            self.book.save()

        ways = Ways(
            self.how.accept_base,
            progress=self.progress,
            until=None if is_end else rung,
            on_point=note,
        )
        settings = self.settings.model_copy(update={"learning_rate": lane.rate})
        self.progress.say(f"{lane.name}: to step {rung}")
        try:
            with self.book.charged(f"lane {lane.name}"):
                train_until(
                    self.base, self.task, output=self._folder(lane.name), init=start,
                    settings=settings, ways=ways, tokens=self.tokens,
                )  # fmt: skip
        except DivergedError as error:
            self.progress.say(f"{lane.name}: {error.problems[0].found}")
            tokens = np.ones(1, dtype=np.int64)
            return [DevPoint(rung, np.array([math.inf]), tokens)]
        return read_points(values, rung)

    def _is_over(self, lane: Lane) -> bool:
        folder = self._folder(lane.name)
        return (folder / RUN).exists() and read_started(folder)["status"] == "finished"

    def _folder(self, lane: str) -> Path:
        return self.output / WORK / "lanes" / lane

    def _note_seconds(self, lane: Lane) -> None:
        """Note the seconds of the lane's training steps so far, without evaluations."""
        if points := read_curve(self._folder(lane.name) / CURVE):
            self.book.values["train_seconds"][lane.name] = points[-1].seconds

    def _give_up(self, verdict: Verdict, rung: int) -> None:
        """Say why, and remove the lane's files."""
        name = verdict.lane.name
        self.progress.say(
            f"{name}: given up at step {rung}, dev loss {verdict.loss:.4f}: {verdict.reason}"
        )
        self.book.save()
        shutil.rmtree(self._folder(name), ignore_errors=True)


def _described(verdict: Verdict) -> dict[str, Any]:
    loss, (behind, error) = verdict.loss, verdict.behind
    return {
        "lane": verdict.lane.name,
        "dev_loss": loss if math.isfinite(loss) else None,
        "behind": behind if math.isfinite(behind) else None,
        "standard_error": error if math.isfinite(error) else None,
        "given_up": verdict.reason or None,
    }


def _sentence(
    first: Verdict,
    last: Mapping[Lane, Verdict],
    rungs: Sequence[Mapping[str, Any]],
    steps: int,
    most: int,
    examples: int,
) -> str:
    """The winner against scratch, or scratch against the best other start."""
    won = f"{first.lane.start} at learning rate {first.lane.rate:g} won: dev loss {first.loss:.4f}"
    work = f"{steps} of at most {most} steps"
    is_scratch = first.lane.start == SCRATCH
    rivals = [one for lane, one in last.items() if (lane.start == SCRATCH) != is_scratch]
    if not rivals:
        return f"{won}; no other start; {work}"
    rival = min(rivals, key=lambda one: one.loss)
    behind, error = rival.behind
    name = f"the best other start, {rival.lane.start}" if is_scratch else SCRATCH
    sure = f"ahead by {behind:.4f} ± {error:.4f} nats a token"
    if behind <= NOISE * error:
        sure = f"within noise: {sure}"
    ends = {lane["lane"]: rung["step"] for rung in rungs for lane in rung["lanes"]}
    end = ends[rival.lane.name]
    early = f", given up at step {end}" if end < rungs[-1]["step"] else ""
    return f"{won}, {rival.loss:.4f} for {name}{early} ({sure}, {examples} dev examples); {work}"
