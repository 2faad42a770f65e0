"""Choosing among really trained adapters: each strategy beside the exhaustive choice.

    python benchmarks/choosing/real.py choose DATA LIBRARY [TASK ...]   # goes on where it was
    python benchmarks/choosing/real.py count DATA LIBRARY               # what a race of 64 costs
    python benchmarks/choosing/real.py report DATA LIBRARY              # real.json, real.md

Each task of ``DATA`` is the target once; the checkpoints that were trained on it are left out.
The exhaustive choice is made as all of them on all 256 examples would make it, save that no time
is lost on those that are far behind: all are measured on 24 examples, the best 24 of these on 80,
the best 12 of these on all. All losses are kept in the library's index: nothing is repeated.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import mashup
from mashup import load_base, load_task
from mashup._score.candidates import find_candidates
from mashup._score.scorer import Scorer
from mashup._score.scores import Score, Scores
from mashup._select import Selection, select
from mashup.delta import Delta, read_delta
from mashup.demo.base import demo_base
from mashup.evaluate.evaluate import batches_for, evaluate, sample_tokens
from mashup.library import Index, Library, scan
from mashup.model import Base, applied
from mashup.progress import SILENT
from mashup.results.statistics import paired_error
from mashup.task import Task, tokenize

HERE = Path(__file__).parent
SAMPLES, SEED = 256, 42
LOOKS = ((24, 24), (80, 12), (SAMPLES, 2))  # examples, and how many checkpoints go on
HELD_OUT = 128  # test rows on which the merge of a choice is judged
STRATEGIES = ("exhaustive", "racing", "auto")


def target(data: Path, name: str) -> Task:
    folder = data / name
    return load_task(
        folder / "train.jsonl", test=folder / "validation.jsonl", name=name,
        train_rows=384, dev_rows=64, test_rows=HELD_OUT,
    )  # fmt: skip


def others(library: Library, task: str) -> Library:
    """The checkpoints that were trained on other tasks."""
    root = library.root
    kept = [c for c in library.checkpoints if not _run(root, c.path).startswith(f"{task}-")]
    return Library(root, tuple(kept))


def _run(root: Path, path: Path) -> str:
    return path.relative_to(root).parts[0]


@dataclass(frozen=True)
class Truth:
    """Scores of the base and of all checkpoints, as far as the exhaustive choice needs them."""

    own: Score
    scores: list[Score]
    sketches: dict[str, np.ndarray]


def truth(base: Base, library: Library, task: Task) -> Truth:
    tokens = sample_tokens(base, task, SAMPLES, SEED, 1024)
    with Index(library.root) as index:
        used = find_candidates(
            base, library.checkpoints, index, accept_base=False, strict=True, progress=SILENT
        ).used
        scorer = Scorer(base, tokens, index)
        own = scorer.base_score(SAMPLES)
        scores: dict[Path | None, Score] = {}
        near = used
        for examples, best in LOOKS:
            looked = sorted(scorer.scores(near, examples), key=lambda score: score.loss)
            scores |= {score.path: score for score in looked}
            kept = {score.path for score in looked[:best]}
            near = [one for one in near if one.checkpoint.path in kept]
    return Truth(own, list(scores.values()), {one.digest: one.sketch for one in used})


def exhaustive(base: Base, library: Library, task: Task) -> tuple[Scores, float]:
    """The exhaustive choice, and the seconds that all checkpoints on all examples would take."""
    found = truth(base, library, task)
    ranking = sorted(found.scores, key=lambda score: (-score.examples, score.loss))
    scores = Scores(
        found.own, tuple(ranking), "loss", base.name, base.digest, str(base.dtype), "",
        sketches=found.sketches,
    )  # fmt: skip
    seconds = sum(s.seconds / s.examples * SAMPLES for s in (found.own, *ranking))
    return scores, seconds


def judge(base: Base, task: Task, selection: Selection) -> np.ndarray:
    """``(test rows, 2)``: losses and answer tokens of the merge of a choice; base when empty."""
    tokens = tokenize(base.tokenizer, task.test, max_length=1024)
    delta = Delta({})
    with tempfile.TemporaryDirectory() as folder:
        if not selection.is_empty:
            merged = mashup.merge(selection, output=Path(folder) / "merge", base=base)
            delta = read_delta(merged.path)
        with applied(base.model, delta):
            result = evaluate(base.model, batches_for(base, tokens))
    return np.stack([result.losses, result.tokens], axis=1)


def row(
    base: Base, task: Task, scores: Scores, best: Selection, judged: dict[str, Any]
) -> dict[str, Any]:
    """What a strategy chose and what it cost."""
    chosen = select(scores, k=2)
    wanted = {score.digest for score in best.chosen}
    return {
        "chosen": [_name(score) for score in chosen.chosen],
        "overlap": len(wanted & {score.digest for score in chosen.chosen}),
        "of": len(wanted),
        "forwards": scores.cost.forwards,
        "evaluations": scores.cost.forwards / SAMPLES,
        "seconds": scores.cost.seconds,
        "regret": _regret(base, task, chosen, best, judged),
    }


def _name(score: Score) -> str:
    assert score.path is not None
    return "/".join(
        score.path.parts[-2:] if "checkpoint-" in score.path.name else score.path.parts[-1:]
    )


def _regret(
    base: Base, task: Task, chosen: Selection, best: Selection, judged: dict[str, Any]
) -> dict[str, float]:
    """Held-out loss of the merge of a choice over that of the exhaustive one, and its error."""
    mine, theirs = (_judged(base, task, one, judged) for one in (chosen, best))
    difference, error = paired_error(mine[:, 0] - theirs[:, 0], theirs[:, 1])
    return {
        "difference": difference,
        "error": error,
        "loss": float(mine[:, 0].sum() / mine[:, 1].sum()),
    }


def _judged(base: Base, task: Task, selection: Selection, judged: dict[str, Any]) -> np.ndarray:
    key = "+".join(sorted(score.digest for score in selection.chosen))
    if key not in judged:
        judged[key] = judge(base, task, selection)
    return judged[key]


def choose(base: Base, library: Library, task: Task) -> dict[str, Any]:
    """All strategies on one target."""
    start = time.perf_counter()
    field = others(library, task.name)
    whole, seconds = exhaustive(base, field, task)
    best = select(whole, k=2)
    judged: dict[str, Any] = {}
    rows = {"exhaustive": row(base, task, whole, best, judged)}
    models = 1 + len(whole.ranking)
    rows["exhaustive"] |= {"forwards": models * SAMPLES, "evaluations": models, "seconds": seconds}
    for strategy in STRATEGIES[1:]:
        scores = mashup.score(field, base, task, samples=SAMPLES, seed=SEED, strategy=strategy)
        rows[strategy] = row(base, task, scores, best, judged)
    rows["random"] = _random(base, task, whole, best, judged)
    return {
        "strategies": rows,
        "base": _base_regret(base, task, best, judged),
        "took": time.perf_counter() - start,
    }


def _random(
    base: Base, task: Task, whole: Scores, best: Selection, judged: dict[str, Any]
) -> dict[str, Any]:
    """Two drawn blindly, three times: the mean."""
    draws = []
    for seed in range(3):
        drawn = np.random.default_rng(seed).choice(len(whole.ranking), 2, replace=False)
        selection = Selection(tuple(whole.ranking[n] for n in drawn), whole)
        draws.append(_regret(base, task, selection, best, judged))
    mean = {key: float(np.mean([draw[key] for draw in draws])) for key in draws[0]}
    return {
        "chosen": [],
        "overlap": 0,
        "of": len(best.chosen),
        "forwards": 0,
        "evaluations": 0.0,
        "seconds": 0.0,
        "regret": mean,
    }


def count(base: Base, library: Library, task: Task) -> list[float]:
    """Evaluations that a race among 64 of a target's checkpoints takes, drawn three times."""
    field = others(library, task.name)
    costs = []
    for seed in range(3):
        some = random.Random(seed).sample(list(field.checkpoints), 64)
        scores = mashup.score(
            Library(field.root, tuple(some)), base, task, samples=SAMPLES, seed=SEED,
            strategy="racing",
        )  # fmt: skip
        costs.append(scores.cost.forwards / SAMPLES)
    return costs


def _base_regret(
    base: Base, task: Task, best: Selection, judged: dict[str, Any]
) -> dict[str, float]:
    return _regret(base, task, replace(best, chosen=()), best, judged)


def page(results: dict[str, Any]) -> str:
    """A table a strategy: each target, and the means."""
    lines = [
        "# Choosing among really trained adapters",
        "",
        (HERE / "real_note.md").read_text(),
    ]
    for strategy in ("exhaustive", *STRATEGIES[1:], "random"):
        lines += [
            f"## {strategy}",
            "",
            "| target | chosen | of the best two | evaluations | of the seconds | held-out loss "
            "| over exhaustive's |",
            "|---|---|---:|---:|---:|---:|---:|",
        ]
        lines += [_line(name, result, strategy) for name, result in results.items()]
        lines += [_mean(results, strategy), ""]
    return "\n".join(lines)


def _line(name: str, result: dict[str, Any], strategy: str) -> str:
    one, whole = result["strategies"][strategy], result["strategies"]["exhaustive"]
    regret, share = one["regret"], one["seconds"] / whole["seconds"]
    chosen = ", ".join(one["chosen"])
    base = result["base"]["loss"]
    return (
        f"| {name} (base {base:.3f}) | {chosen} | {one['overlap']} of {one['of']} "
        f"| {one['evaluations']:.1f} | {share:.1%} | {regret['loss']:.3f} "
        f"| {regret['difference']:+.4f} ± {regret['error']:.4f} |"
    )


def _mean(results: dict[str, Any], strategy: str) -> str:
    ones = [result["strategies"][strategy] for result in results.values()]
    shares = [
        one["seconds"] / result["strategies"]["exhaustive"]["seconds"]
        for one, result in zip(ones, results.values(), strict=True)
    ]
    overlap, of = (sum(one[key] for one in ones) for key in ("overlap", "of"))
    regrets = [one["regret"]["difference"] for one in ones]
    evaluations = np.mean([one["evaluations"] for one in ones])
    return (
        f"| mean | | {overlap} of {of} | {evaluations:.1f} | {np.mean(shares):.1%} | "
        f"| {np.mean(regrets):+.4f} |"
    )


def main(step: str, data: Path, folder: Path, *tasks: str) -> None:
    names = tasks or sorted(one.name for one in data.iterdir() if one.is_dir())
    if step == "report":
        made = {name: _result(folder, name) for name in names}
        results = {name: json.loads(p.read_text()) for name, p in made.items() if p.exists()}
        (HERE / "real.json").write_text(json.dumps(results, indent=1) + "\n")
        (HERE / "real.md").write_text(page(results))
        return
    base = load_base(demo_base())
    library = scan(folder, all_checkpoints=True)
    if step == "count":
        costs = {name: count(base, library, target(data, name)) for name in names}
        print(json.dumps(costs), np.mean(list(costs.values())))
        return
    for name in names:
        if not _result(folder, name).exists():
            made = choose(base, library, target(data, name))
            _result(folder, name).write_text(json.dumps(made))
            print(name, json.dumps(made, indent=1), flush=True)


def _result(folder: Path, name: str) -> Path:
    """Where the result of one target is kept until all are there."""
    return folder / ".mashup" / f"real-{name}.json"


if __name__ == "__main__":
    step, data, folder, *tasks = sys.argv[1:]
    main(step, Path(data), Path(folder), *tasks)
