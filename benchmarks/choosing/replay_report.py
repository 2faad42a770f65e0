"""Rows of the replay in; ``replay.json``, ``replay.md`` and two pictures out."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MEASURES = {
    "regret": "regret@1 over exhaustive's, points",
    "pair": "accuracy of the chosen two\nover exhaustive's, points",
}
TASKS = {"all": "all 27 tasks", "rest": "without the task where exhaustive fails"}
CURVES = {
    "ledger": ("#0072b2", "o"),
    "racing": ("#d55e00", "s"),
    "best on other tasks, measured": ("#009e73", "^"),
    "random": ("#6b7278", "D"),
}
LINES = ("exhaustive", "best on other tasks")
_DRAWS = 4000


def write(groups: Mapping[tuple[str, int], Mapping[str, list[Any]]], folder: Path) -> None:
    points = _points(groups)
    (folder / "replay.json").write_text(json.dumps(points, indent=1) + "\n")
    note = (folder / "replay_note.md").read_text()
    (folder / "replay.md").write_text(note + "\n" + _tables(points))
    for name, figure in (("replay", _curves(points)), ("replay_history", _history(points))):
        for kind in ("png", "svg"):
            (folder / f"{name}.{kind}").write_bytes(_render(figure, kind))


def _render(figure: Figure, kind: str) -> bytes:
    """The bytes of a picture: ``png`` or ``svg``; the same picture gives the same bytes."""
    stream = io.BytesIO()
    about = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "mashup", "svg.fonttype": "path"}):
        figure.savefig(stream, format=kind, dpi=160, metadata=about)
    return stream.getvalue()


def _points(groups: Mapping[tuple[str, int], Mapping[str, list[Any]]]) -> list[dict[str, Any]]:
    """Means over seeds, then tasks, and what they are over exhaustive's, paired by task."""
    exhaustive = next(tasks for (what, _), tasks in groups.items() if what == "exhaustive")
    rest = np.arange(len(exhaustive)) != _by_task(exhaustive, "regret").argmax()
    points = []
    for (what, budget), tasks in groups.items():
        cost = np.mean([row["cost"] for rows in tasks.values() for row in rows])
        point = {"what": what, "budget": budget, "cost": round(float(cost), 1)}
        for measure in MEASURES:
            values = _by_task(tasks, measure)
            gain = values - _by_task(exhaustive, measure)
            point[measure] = _interval(values)
            point[f"{measure}, all"] = _interval(gain)
            point[f"{measure}, rest"] = _interval(gain[rest])
        points.append(point)
    return points


def _by_task(tasks: Mapping[str, list[Any]], measure: str) -> Any:
    return np.array([np.mean([row[measure] for row in rows]) for rows in tasks.values()])


def _interval(values: Any) -> list[float]:
    """Mean, and its 95 % interval by bootstrap over tasks."""
    draws = np.random.default_rng(0).integers(len(values), size=(_DRAWS, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), (0.025, 0.975))
    return [round(float(x), 2) for x in (values.mean(), low, high)]


def _tables(points: list[dict[str, Any]]) -> str:
    head = (
        "| {} | cost | regret@1 | over exhaustive | without one task "
        "| chosen two | over exhaustive | without one task |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|\n"
    )
    known = [*CURVES, *LINES]
    first = "".join(_line(point) for point in points if point["what"] in known)
    second = "".join(_line(point) for point in points if point["what"] not in known)
    return (
        f"## Strategies\n\n{head.format('strategy')}{first}\n"
        f"## The ledger with less history\n\n{head.format('history')}{second}"
    )


def _line(point: dict[str, Any]) -> str:
    cells = [f"{point['cost']:.0f}"]
    for measure in MEASURES:
        cells.append(f"{point[measure][0]:.1f}")
        for tasks in TASKS:
            gain, low, high = point[f"{measure}, {tasks}"]
            cells.append(f"{gain:+.1f} [{low:+.1f}, {high:+.1f}]")
    return f"| {point['what']} | {' | '.join(cells)} |\n"


def _curves(points: list[dict[str, Any]]) -> Figure:
    figure, panels = _panels("cost, evaluations of a whole sample", (8, 15, 30, 60, 120, 240, 480))
    for key, axes in panels.items():
        for what, (colour, marker) in CURVES.items():
            some = [point for point in points if point["what"] == what]
            costs, values = [point["cost"] for point in some], [point[key] for point in some]
            _curve(axes, costs, values, what, colour, marker, band=what == "ledger")
        best = next(point[key][0] for point in points if point["what"] == "best on other tasks")
        axes.axhline(best, color="#b07d00", linestyle=":", label="best on other tasks")
        _zero(axes)
    _legend(figure, panels)
    return figure


def _history(points: list[dict[str, Any]]) -> Figure:
    figure, panels = _panels("past tasks that the ledger knows", (5, 10, 15, 20, 40, 67))
    for key, axes in panels.items():
        for budget, (colour, marker) in zip((15, 30, 60, 120), CURVES.values(), strict=True):
            some = [(_tasks(p["what"]), p[key]) for p in points if p["budget"] == budget]
            tasks, values = zip(*sorted(pair for pair in some if pair[0]), strict=True)
            name = f"{budget} evaluations"
            _curve(axes, tasks, values, name, colour, marker, band=budget == 60)
        _zero(axes)
    _legend(figure, panels)
    return figure


def _panels(label: str, ticks: tuple[int, ...]) -> tuple[Figure, dict[str, Axes]]:
    """A row for each measure, a column for each choice of tasks."""
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    keys = [f"{measure}, {tasks}" for measure in MEASURES for tasks in TASKS]
    panels = dict(zip(keys, figure.subplots(2, 2, sharey="row").flat, strict=True))
    for key, axes in panels.items():
        measure, tasks = key.split(", ")
        axes.set(xscale="log", title=TASKS[tasks], xlabel=label, ylabel=MEASURES[measure])
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(color="#e4e7ea")
    return figure, panels


def _zero(axes: Axes) -> None:
    axes.axhline(0, color="#1c2024", linestyle="--", label="exhaustive")


def _legend(figure: Figure, panels: dict[str, Axes]) -> None:
    handles = next(iter(panels.values())).get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=3, frameon=False)


def _tasks(what: str) -> int:
    """How many past tasks the ledger knew, 0 for what is no point of that curve."""
    count, _, rest = what.partition(" ")
    return 67 if what == "ledger" else int(count) if rest == "past tasks" else 0


def _curve(
    axes: Axes, places: Any, values: Any, label: str, colour: str, marker: str, *, band: bool
) -> None:
    mean, low, high = zip(*values, strict=True)
    axes.plot(places, mean, color=colour, marker=marker, label=label)
    if band:
        axes.fill_between(places, low, high, color=colour, alpha=0.12, linewidth=0)
