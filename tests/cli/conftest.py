"""The command line, run in this process."""

import pytest

from mashup.cli.__main__ import main


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    """A runner of tests may give its workers a width, as shells do to what they run."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def mashup(capsys):
    """Run a command; gives exit code, stdout and stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(done.value.code or 0), out, err

    return run
