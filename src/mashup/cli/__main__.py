"""``mashup`` and its verbs: scan, score, merge, init, train, compare, loo and what helps them.

Exit codes: 0 fine, 1 crash, 2 usage or config, 3 bad input and nothing written, 4 a quality
gate said no under ``--strict``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from mashup.cli import (
    check,
    compare,
    convert,
    demo,
    env,
    init,
    loo,
    merge,
    methods,
    report,
    scan,
    score,
    tasks,
    train,
)
from mashup.cli.common import is_number

_SPREAD = ("--weights", "--seeds", "--learning-rates", "--budgets")
_VERBS = (
    *(scan, check, convert, score, merge, init, train, compare, loo, report),
    *(methods, demo, tasks, env),
)


def make_app() -> typer.Typer:
    """The command line with all its verbs."""
    app = typer.Typer(
        name="mashup",
        help="Start fine-tuning from the best of your past checkpoints.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for verb in _VERBS:
        verb.register(app)
    app.callback()(_root)
    return app


def _root(
    version: bool = typer.Option(False, "--version", help="print the version", is_eager=True),
) -> None:
    """Start fine-tuning from the best of your past checkpoints (arXiv 2603.10156)."""
    if version:
        import mashup

        print(mashup.__version__)
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    make_app()(args=spread(sys.argv[1:] if arguments is None else arguments))


def spread(arguments: Sequence[str]) -> list[str]:
    """Arguments as typer wants them.

    ``--learning_rate`` becomes ``--learning-rate``, and ``--weights 0.5 0.5`` becomes
    ``--weights 0.5 --weights 0.5``.
    """
    spelled: list[str] = []
    flag = ""
    for argument in map(_dashed, arguments):
        if not is_number(argument):
            flag = argument if argument in _SPREAD else ""
        elif flag and spelled[-1] != flag:
            spelled.append(flag)
        spelled.append(argument)
    return spelled


def _dashed(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


if __name__ == "__main__":
    main()
