"""``mashup`` and its verbs, and how each of them ends.

Exit codes: 0 success, 1 crash, 2 usage or config, 3 bad input or output, 4 quality gate under
``--strict``, 130 Ctrl-C, 141 closed pipe (``mashup ... | head``), 143 SIGTERM.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import NoReturn

import typer

from mashup.cli import show
from mashup.errors import MashupError

#: The modules of the verbs. Each registers the verb of its name; ``env`` has two more.
_VERBS = (
    *("scan", "check", "convert", "score", "merge", "init", "train", "race", "compare", "loo"),
    *("report", "verify", "push", "demo", "env"),
)
_CLOSED_PIPE, _TERMINATED = 141, 143  # 128 + SIGPIPE and SIGTERM, as a shell counts them


def make_app(verb: str = "") -> typer.Typer:
    """The command line with all its verbs; with one alone where ``verb`` names it.

    The flags of all verbs take a quarter of a second to read.
    """
    app = typer.Typer(
        name="mashup",
        help="Start fine-tuning from the best of your past checkpoints.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in [verb] if verb in _VERBS else _VERBS:
        importlib.import_module(f"mashup.cli.{name}").register(app)
    app.callback()(_root)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        import mashup

        show.line(mashup.__version__)
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", "-V", help="print the version", callback=_version, is_eager=True
    ),
) -> None:
    """Start fine-tuning from the best of your past checkpoints (arXiv 2603.10156)."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # write "?" for what the encoding lacks
            stream.reconfigure(errors="replace")
    given = sys.argv[1:] if arguments is None else arguments
    with _exit_codes(), _terminable():
        make_app(*given[:1])(args=given, prog_name="mashup")


@contextlib.contextmanager
def _exit_codes() -> Iterator[None]:
    """Show our errors as a table and Ctrl-C as a line, and exit with the code of each."""
    try:
        try:
            yield
        except MashupError as error:
            show.problems(error.problems)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            sys.exit(130)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _leave()
    except SystemExit as done:
        if isinstance(done.__context__, BrokenPipeError):  # as rich and typer end on one
            _leave()
        if done.code in (130, _TERMINATED):
            show.note("stopped; run the same command again to continue")
        raise


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM (``kill``, the time limit of a job system) ends a command as Ctrl-C does."""

    def stop(*_: object) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would stop the clean-up
        sys.exit(_TERMINATED)

    if threading.current_thread() is not threading.main_thread():  # only that one gets signals
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _leave() -> NoReturn:
    """End silently, as other tools do when nobody reads their output."""
    for stream in (sys.stdout, sys.stderr):
        if show.is_closed(stream):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(_CLOSED_PIPE)


if __name__ == "__main__":
    main()
