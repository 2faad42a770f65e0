"""The three kinds of work: rank the donors and choose, make what an arm starts from, train."""

from __future__ import annotations

import contextlib
import math
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mashup._init import Sample, make_init
from mashup._merge.algebra import generator_for
from mashup._merge.merge import Init
from mashup._merge.methods import METHODS
from mashup._race.plan import SCRATCH
from mashup._race.race import race
from mashup._race.record import RACE
from mashup._race.starts import LEAST_LOSS, MERGE
from mashup._score.scores import Score, Scores
from mashup._select import Selection, least_loss
from mashup._train.record import RUN, Run
from mashup._train.run import train
from mashup._train.trainer import steps_of
from mashup.checkpoint import Checkpoint
from mashup.checkpoint.adapter import CONFIG, WEIGHTS
from mashup.checkpoint.history import MANIFEST
from mashup.checkpoint.read import is_full_checkpoint
from mashup.delta import read_delta
from mashup.errors import DivergedError, InputError, Problem
from mashup.experiment.arms import FROM_BASE, role_of
from mashup.experiment.jobs import Job, Kind
from mashup.experiment.settings import folder_of, resized
from mashup.experiment.worker import Worker, task_of
from mashup.files import digest_of, read_json
from mashup.model import Base
from mashup.model.apply import find
from mashup.model.change import full_tensors
from mashup.outputs import only_one
from mashup.processes import is_first
from mashup.results.curve import CURVE, START_TEST, TEST
from mashup.results.records import data_of
from mashup.settings import TrainSettings
from mashup.task import Example, Task
from mashup.weights import read_finite

#: What stays of a run whose weights no later job reads.
_KEPT = (RUN, CURVE, TEST, START_TEST, RACE)
_NOTHING = {"path": "", "parents": [], "seconds": 0.0}  # to merge: the arm starts from the base
_SEED = 42  # of noise


def do(worker: Worker, job: Job) -> None:
    """Do ``job`` unless it is done. The jobs that it needs are done.

    Raises:
        InputError: as the steps do.
    """
    if worker.store.is_done(job):
        return
    folder = worker.store.folder(job.key)
    with only_one(folder) if is_first() else contextlib.nullcontext():
        begin = time.time()
        worker.store.begin(job, begin)
        facts = WORK[job.kind](worker, job)
        worker.store.finish(job, facts | {"took": time.time() - begin})


# -- score


def rank(worker: Worker, job: Job) -> dict[str, Any]:
    """Score and select; the seconds are those of all losses as if none had been known."""
    if "score" in job.needs:
        return _probed(worker, job)
    selection = worker.selection(job)
    scores = selection.scores
    return {
        "chosen": [score.digest for score in selection.chosen],
        "sentence": selection.sentence,
        "base_loss": scores.base.loss,
        "base_accuracy": scores.base.accuracy,
        **{f"base_{name}": value for name, value in _known(scores.base).items()},
        "ranking": [
            {
                "name": worker.name_of(score),
                "digest": score.digest,
                "loss": score.loss,
                "accuracy": score.accuracy,
                "examples": score.examples,
                **_known(score),
            }
            for score in scores.ranking
        ],
        "strategy": scores.strategy,
        "forwards": scores.cost.forwards,
        "exhaustive_forwards": scores.cost.exhaustive,
        "seconds": scores.cost.seconds,
    }


def _known(score: Score) -> dict[str, float]:
    """Form and knowledge in bits; nothing where answers are free text."""
    known = score.knowledge
    if known is None:
        return {}
    found = {"form": known.form_bits, "knowledge": known.bits, "knowledge_error": known.error}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _probed(worker: Worker, job: Job) -> dict[str, Any]:
    """The ranking, with those chosen that are best after the probes' steps; all seconds of it."""
    results = {role: worker.store.result(keys[0]) for role, keys in job.needs.items()}
    probes = {role: one for role, one in results.items() if role.startswith(FROM_BASE)}
    known = results["score"]
    names = {score.digest: task_of(score) for score in worker.scores(job).ranking}
    chosen = choose_by_probe(probes, known["ranking"], job.decides["k"], names.__getitem__)
    spent = sum(one["train_seconds"] + one.get("check_seconds", 0.0) for one in probes.values())
    spent += sum(one["seconds"] for role, one in results.items() if role.startswith("start "))
    sentence = f"the best {len(chosen)} of {len(names)} after the probes' steps"
    return known | {
        "chosen": chosen, "sentence": sentence, "seconds": known["seconds"] + spent,
    }  # fmt: skip


def choose_by_probe(
    probes: Mapping[str, Mapping[str, Any]],
    ranking: Sequence[Mapping[str, Any]],
    k: int,
    donor_of: Callable[[str], str],
) -> list[str]:
    """Digests of the ``k`` donors with the least dev loss after the steps, best first.

    Only of those that are ahead of the base after as many steps; those that diverged are out.

    Args:
        probes: role to the facts of its run.
        ranking: donors with ``digest`` and ``name``.
        k: how many at most.
        donor_of: digest to the donor's task.
    """

    def loss(role: str) -> float:
        facts = probes[role]
        return float("inf") if facts["diverged"] else float(facts["dev_loss"])

    ends = {one["digest"]: loss(role_of(donor_of(one["digest"]))) for one in ranking}
    ahead = [digest for digest, end in ends.items() if end < loss(FROM_BASE)]
    return sorted(ahead, key=ends.__getitem__)[:k]


# -- init


def initialise(worker: Worker, job: Job) -> dict[str, Any]:
    """Merge; nothing to merge is a result too, and the arm then starts from the base."""
    if job.decides["arm"] == "random-init":
        return _noise(worker, job)
    scores = worker.scores(job)
    parents = _parents(worker, job, scores)
    note = _note(job, scores, parents)
    if not parents:
        return _NOTHING | {"note": note}
    of = worker.settings(job)
    sample = Sample(of.choose.samples, of.split_seed, of.train.max_length)
    full = of.train.is_full or of.merge.fold
    options = options_for(of.merge.options(), parents, rank=_rank(worker, job), full=full)
    output = worker.place(job, _init_name(worker, job, parents, options))
    if (output / MANIFEST).exists():  # it was written as a whole
        init = Init.open(output)
    else:
        shutil.rmtree(output, ignore_errors=True)
        init = make_init(
            Selection(tuple(parents), scores), worker.base, worker.task(job.about["task"]), sample,
            output, accept_base=True, progress=worker.progress, **options,
        )  # fmt: skip
    about = init.manifest
    facts = {
        "path": worker.store.relative(init.path),
        "parents": [worker.name_of(score) for score in parents],
        "note": note,
        "loss": about["sample"]["loss"],
        "seconds": about.get("merge_seconds", 0.0) + about.get("measure_seconds", 0.0),
        "folded": of.merge.fold and not of.train.is_full,
    }
    if not full:
        config = read_json(init.path / CONFIG)
        facts |= {"rank": about["resolved_rank"], "modules": config["target_modules"]}
    return facts


def _parents(worker: Worker, job: Job, scores: Scores) -> list[Score]:
    """The checkpoints that an arm merges."""
    arm, k, draw = job.decides["arm"], job.decides["k"], job.decides["draw"]
    if arm == "best-single":
        return list(scores.ranking[:1])
    if arm == "average-all":
        return list(scores.ranking)
    if arm == "least-loss":
        return list(least_loss(scores, k))
    if arm == "each-single":
        return [s for s in scores.ranking if worker.name_of(s) == job.decides["donor"]]
    if arm == "random":
        return drawn(scores.ranking, k, f"{draw} {data_of(job.about['task'])}")
    if arm == "blind":
        strangers = _strangers(worker, job, scores)
        return drawn(strangers, k, f"{draw} {data_of(job.about['task'])}")
    if arm == "random-two":
        return drawn(scores.ranking, 2, draw)
    (key,) = job.needs["score"]
    known = {score.digest: score for score in scores.ranking}
    chosen = [known[digest] for digest in worker.store.result(key)["chosen"]]
    if arm == "format-only":
        return [_shuffled(worker, job, score) for score in chosen]
    return chosen


def _strangers(worker: Worker, job: Job, scores: Scores) -> list[Score]:
    """Sources that are no relatives of the target.

    Raises:
        InputError: there is none.
    """
    patterns = job.decides["relatives"]
    found = [
        score
        for score in scores.ranking
        if not any(fnmatchcase(worker.name_of(score), pattern) for pattern in patterns)
    ]
    if not found:
        where, names = f"arm blind, for {job.about['task']}", ", ".join(patterns)
        fix = "give fewer `relatives`, or leave blind out"
        raise InputError(Problem("no source", where, f"all are relatives ({names})", fix=fix))
    return found


def drawn(ranking: Sequence[Score], count: int, seed: int | str) -> list[Score]:
    """Some checkpoints (or all of fewer), drawn by their names without looking at their scores.

    Donors that another processor trained are other bytes with the same names: the same ones are
    drawn. The seed of the arm ``random`` has the target's name in it: targets of an experiment
    share nearly all donors, and with one seed for all they would share nearly the same draw.
    """
    by_name = sorted(ranking, key=lambda score: (score.name, score.digest))
    return random.Random(seed).sample(by_name, min(count, len(by_name)))


def _shuffled(worker: Worker, job: Job, score: Score) -> Score:
    """A chosen donor's twin that was trained on the same prompts with shuffled answers.

    Raises:
        InputError: there is none in the folder of twins.
    """
    if worker.experiment.twins:
        name = worker.name_of(score)
        twin = worker.twin_of(name)
        if twin is None:
            fix = f"train it, and put it into {worker.experiment.twins}"
            raise InputError(Problem("no twin", name, expected="the same name in `twins`", fix=fix))
        return Score(twin, score.evaluation, score.digest, score.seconds)
    (twin,) = worker.runs(job, [f"shuffled {task_of(score)}"])
    assert isinstance(twin, Checkpoint)
    return Score(twin, score.evaluation, score.digest, score.seconds)


def _note(job: Job, scores: Scores, parents: Sequence[Score]) -> str:
    """What a reader must know of an arm's start; empty where the parents say it all."""
    if not parents:
        return "nothing beat the base: same as scratch"
    if job.decides["arm"] in ("random", "random-two", "blind") and scores.expected:
        known = len(scores.ranking)  # a strategy may have passed over the unpromising
        return f"drawn among the {known} that were measured, of {known + len(scores.expected)}"
    return ""


def _rank(worker: Worker, job: Job) -> int:
    """Rank that smaller merges are padded to; 0 for a merge whose own rank counts."""
    of = worker.settings(job)
    if not of.is_sized:
        return of.rank
    sizes = [worker.store.result(key) for key in job.needs.get("size", ())]
    return next((one.get("rank", of.train.lora_r) for one in sizes), 0)


def options_for(
    asked: Mapping[str, Any], parents: Sequence[Score], *, rank: int, full: bool
) -> dict[str, Any]:
    """Options of the merge of an arm's parents.

    Args:
        asked: options of :func:`mashup.merge` for all arms.
        parents: of this arm; a method that cannot take so many gives way to ``linear``.
        rank: that smaller merges are padded to.
        full: whether all weights are trained.
    """
    options = dict(asked)
    least, most = METHODS[options.get("method", "linear")].parents
    if not least <= len(parents) <= most:
        options["method"] = "linear"  # one parent has no angle, three have no arc
    exact = sum(score.checkpoint.rank or 0 for score in parents if score.checkpoint)
    if full:
        options["output_kind"] = "full"
    elif exact <= rank and options.get("method") != "factor_average":
        options["rank"] = rank
    return options


def _init_name(
    worker: Worker, job: Job, parents: Sequence[Score], options: Mapping[str, Any]
) -> str:
    """Arms of a comparison that merge the same share the folder: its name tells what is merged."""
    if not worker.given:
        return job.decides["arm"]
    key = digest_of([score.digest for score in parents], options)[:8]
    return f"{joined([score.name for score in parents])}-{key}"


def joined(names: Sequence[str]) -> str:
    """Names of parents as a part of a file name: 100 bytes at most, whole characters."""
    whole = "+".join(name.replace("/", "-")[:40] for name in names)
    return whole.encode()[:100].decode(errors="ignore")


def _noise(worker: Worker, job: Job) -> dict[str, Any]:
    (key,) = job.needs["mashup"]
    mashup = worker.store.result(key)
    if not mashup["path"]:
        return _NOTHING | {"note": mashup.get("note", "")}
    output = worker.place(job, "random-init" + f"-{job.key[:8]}" * bool(worker.given))
    shutil.rmtree(output, ignore_errors=True)  # of a job that was cut short
    noise_like(worker.base.model, worker.store.place(mashup["path"]), output)
    return _NOTHING | {"path": worker.store.relative(output)}


def noise_like(model: Any, init: Path, output: Path) -> None:
    """Write a start of the same kind and shapes as ``init`` whose change of the base is random.

    Of a LoRA the product ``s·B·A`` of each module has the Frobenius norm of the merge's, with
    normal A and B; of a full checkpoint each tensor is the base's and normal noise of that norm.
    """
    shutil.copytree(init, output, ignore=shutil.ignore_patterns("*.safetensors*", "mashup.json"))
    if is_full_checkpoint(init):
        _noisy_model(model, init, output)
    else:
        _noisy_adapter(init, output)


def _noisy_adapter(init: Path, output: Path) -> None:
    delta, stored = read_delta(init), load_file(init / WEIGHTS)
    made: dict[str, Tensor] = dict(stored)
    for name, factors in delta.modules.items():
        left, right = (f"base_model.model.{name}.lora_{half}.weight" for half in "BA")
        for half in (left, right):
            made[half] = torch.randn(stored[half].shape, generator=generator_for(_SEED, half))
        size = factors.scale * float((made[left] @ made[right]).norm())
        made[left] = made[left] * (float(factors.dense().norm()) / size)
    save_file({n: t.to(stored[n].dtype).contiguous() for n, t in made.items()}, output / WEIGHTS)


def _noisy_model(model: Any, init: Path, output: Path) -> None:
    made = {}
    for name, stored in full_tensors(model, init).items():
        value, own = read_finite(stored), find(model, name).detach().float().cpu()
        noise = torch.randn(own.shape, generator=generator_for(_SEED, name))
        size = float((value.float() - own).norm()) / max(float(noise.norm()), 1e-30)
        made[name if stored.pieces else stored.name] = (own + size * noise).to(value.dtype)
    save_file(made, output / "model.safetensors", metadata={"format": "pt"})


# -- train


def run(worker: Worker, job: Job) -> dict[str, Any]:
    """Train; a run that diverged is a result too. Weights go unless a later job reads them."""
    if job.decides.get("race"):
        return _raced(worker, job)
    if facts := _same_run(worker, job):
        return facts
    base, init = _start(worker, job)
    name = job.about["task"]
    task, settings = worker.task(name), _settings(worker, job)
    if job.decides["shuffled"]:
        task = with_shuffled_answers(task, settings.seed)
    search = 0.0
    if rates := job.decides.get("searched"):
        rate, search = _searched(worker, job.needs["search"], rates)
        settings = settings.model_copy(update={"learning_rate": rate})
    folder = _run_folder(worker, job, init)
    if not worker.given and worker.store.has(job.key):
        shutil.rmtree(folder, ignore_errors=True)  # it was done and its weights are gone
    try:
        done = train(
            base, task, output=folder, init=init, settings=settings, accept_base=True,
            progress=worker.progress,
        )  # fmt: skip
    except DivergedError as error:
        shutil.rmtree(folder, ignore_errors=True)
        problems = [problem.to_json() for problem in error.problems]
        spent = {"train_seconds": error.seconds, "problems": problems}
        return {"diverged": True, "weights": True} | spent
    return _facts(worker, job, done) | {"search_seconds": search}


def _facts(worker: Worker, job: Job, done: Run) -> dict[str, Any]:
    """What a job of a finished run gives; its weights go unless a later job reads them."""
    if not job.keeps_weights:
        for path in {*done.path.iterdir()} - {done.path / name for name in _KEPT}:
            path.unlink(missing_ok=True)  # by another process of this run
    check = done.record["start_check"]
    return {
        "diverged": False,
        "path": worker.store.relative(done.path),
        "weights": job.keeps_weights,
        "dev_loss": done.kept.dev_loss,
        "train_seconds": done.record["train_seconds"],
        "check_seconds": check["seconds"] if check else 0.0,
        "tokens": done.last.tokens,
    }


def _raced(worker: Worker, job: Job) -> dict[str, Any]:
    """The run that wins a race, charged with the steps of all others and with every merge."""
    settings, merging = _settings(worker, job), 0.0
    starts: dict[str, Path] = {}
    parents: dict[str, list[str]] = {SCRATCH: []}
    facts_of = {
        role.removeprefix("start "): worker.store.result(key)
        for role, (key,) in job.needs.items()
        if role.startswith("start ")
    }
    if facts_of[MERGE]["path"]:  # somebody knows the task
        del facts_of[LEAST_LOSS]
    for name, facts in facts_of.items():
        if facts["path"]:
            merging += facts["seconds"]
            if facts["parents"] not in parents.values():  # one alone is merged and best
                parents[name], starts[name] = facts["parents"], worker.store.place(facts["path"])
    asked = {"keep": settings.keep, "test_points": settings.test_points}  # as for all arms
    done = race(
        worker.base, worker.task(job.about["task"]), output=_run_folder(worker, job, None),
        starts=starts, learning_rates=job.decides["race"],
        settings=settings.model_copy(update=asked), accept_base=True, progress=worker.progress,
    )  # fmt: skip
    facts, spent = _facts(worker, job, done.run), done.record["train_seconds"]
    start_of = {name: lane["start"] for name, lane in done.record["lanes"].items()}
    warm = sum(start_of[name] != SCRATCH for name in spent)
    others = sum(spent.values()) - facts["train_seconds"]
    return facts | {
        "merge_seconds": merging,
        "search_seconds": others + facts["check_seconds"] * max(0, warm - 1),
        "won": {"parents": parents[start_of[done.record["winner"]]], "sentence": done.sentence},
    }


def _start(worker: Worker, job: Job) -> tuple[Base, Path | None]:
    """Base and init that it starts from; a merge that was folded in is a base of its own."""
    for key in job.needs.get("init", ()):
        facts = worker.store.result(key)
        path = worker.store.place(facts["path"]) if facts["path"] else None
        if path and facts.get("folded"):
            return worker.load(path), None
        return worker.base, path
    return worker.base, None


def _same_run(worker: Worker, job: Job) -> dict[str, Any] | None:
    """Facts of a run of another arm that has the same start: nothing, or the same parents.

    ``same`` of a job has the key of each such run, and that of its init (None for scratch's).
    """
    for key, init in job.about.get("same", {}).items():
        if not worker.store.has(key):  # nor is its init, perhaps: Ray does them in any order
            continue
        mine = worker.store.result(job.needs["init"][0])
        theirs = worker.store.result(init) if init else _NOTHING
        starts = [(bool(one["path"]), one["parents"]) for one in (mine, theirs)]
        facts = worker.store.result(key)
        if starts[0] == starts[1] and (facts["weights"] or not job.keeps_weights):
            return facts | {"same_as": key}
    return None


def _settings(worker: Worker, job: Job) -> TrainSettings:
    """Of the run, with what only jobs before it know."""
    settings = TrainSettings(**job.decides["settings"])
    for key in job.needs.get("size", ()):
        size = worker.store.result(key)
        if "rank" in size:
            values = resized(settings, size["rank"])
            values |= {"lora_target_modules": ",".join(size["modules"])}
            settings = settings.model_copy(update=values)
    return _longer(worker, job, settings) if job.decides.get("longer") else settings


def _searched(worker: Worker, runs: Sequence[str], rates: Sequence[float]) -> tuple[float, float]:
    """The learning rate with the least mean dev loss, and the seconds of one search.

    Args:
        worker: knows the results.
        runs: keys of the runs of the searching seeds, for each seed in the order of ``rates``.
        rates: the grid.

    Returns:
        The rate (the first where all diverged); seconds that a searching seed spent on the others.
    """
    facts = [worker.store.result(key) for key in runs]
    of_rate = {rate: facts[place :: len(rates)] for place, rate in enumerate(rates)}

    def loss(rate: float) -> float:
        return sum(
            math.inf if one["diverged"] else one["dev_loss"] for one in of_rate[rate]
        )  # fmt: skip

    best = min(rates, key=loss)
    others = [one for rate in rates if rate != best for one in of_rate[rate]]
    spent = sum(one["train_seconds"] + one.get("check_seconds", 0.0) for one in others)
    return best, spent / (len(facts) / len(rates))


def _longer(worker: Worker, job: Job, settings: TrainSettings) -> TrainSettings:
    """Scratch's best rate, and as many more steps as fit into what mashup spends before it."""
    best = worker.best_of(job.needs["scratch"])
    if best is None:
        return settings
    known = Run.open(worker.store.place(best["path"]))
    rate = known.record["config"]["settings"]["learning_rate"]
    steps = known.record["steps"]
    (score,), (init,) = job.needs["score"], job.needs["mashup"]
    spent = worker.store.result(score)["seconds"] + worker.store.result(init)["seconds"]
    more = round(spent / max(known.record["train_seconds"] / steps, 1e-9))
    whole = steps_of(len(worker.task(job.about["task"]).train), settings)
    return settings.model_copy(update={"learning_rate": rate, "max_steps": whole + more})


def _run_folder(worker: Worker, job: Job, init: Path | None) -> Path:
    if worker.given:
        return worker.place(job, f"{init.name if init else 'scratch'}-{job.about['folder']}")
    name = folder_of(job.about["task"])
    return worker.place(job, name + "-shuffled" * job.decides["shuffled"])


def with_shuffled_answers(task: Task, seed: int) -> Task:
    """The same prompts and the same answers, one with the other's: only the format is learned."""
    order = list(task.train)
    random.Random(seed).shuffle(order)
    pairs = zip(task.train, order, strict=True)
    return replace(task, train=tuple(_answered(one, other) for one, other in pairs))


def _answered(prompt: Example, answer: Example) -> Example:
    first, other = prompt.first_answer, answer.first_answer
    turns = (*prompt.messages[:first], *answer.messages[other:])
    before = (one for one in prompt.pictures if one.turn < first)
    after = (
        replace(one, turn=one.turn - other + first) for one in answer.pictures if one.turn >= other
    )
    return replace(prompt, messages=turns, pictures=(*before, *after))


WORK: dict[Kind, Callable[[Worker, Job], dict[str, Any]]] = {
    "score": rank,
    "init": initialise,
    "train": run,
}
