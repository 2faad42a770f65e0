"""What is shown while something goes on: lines off a terminal, bars with news on one."""

import io

import pytest
from rich.console import Console

from mashup.progress import Bars, LineBar, Progress, is_tenth


class Lines(Progress):
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def test_a_line_has_what_is_done_the_news_the_rate_and_what_is_left():
    """The rate is that of this go: parts that were done before it took no time."""
    lines, times = Lines(), iter([0.0, 0.0, 20.0])
    bar = LineBar(lines, "training run", 84, 30, clock=lambda: next(times))
    bar.tell("dev loss 0.9000")
    bar(10)
    bar.tell("training loss 0.5000")
    assert lines.lines == [
        "training run: 30/84, dev loss 0.9000",
        "training run: 40/84, training loss 0.5000, 0.5/s, about 88 s left",
    ]


@pytest.mark.parametrize("total", [1, 3, 10, 84, 1000])
def test_tenths_are_at_most_ten_and_the_end_is_one(total):
    parts = [done for done in range(1, total + 1) if is_tenth(done, total)]
    assert len(parts) == min(total, 10)
    assert parts[-1] == total


def test_a_terminal_gets_a_bar_that_starts_where_the_work_does_and_shows_the_news(monkeypatch):
    screen = io.StringIO()
    bars = Bars()
    bars._console = Console(file=screen, force_terminal=True, width=120)
    with bars.bar("training run", 84, 30) as bar:
        bar(2)
        bar.tell("training loss 0.5000")
        with bars.bar("evaluating dev", 2) as inner:
            inner()
            bars._live.refresh()
    shown = screen.getvalue()
    assert "32/84" in shown
    assert "training loss 0.5000" in shown
    assert "evaluating dev" in shown
    assert "left" in shown


def test_elsewhere_a_bar_without_news_says_nothing(capsys):
    with Bars().bar("evaluating dev", 2) as bar:
        bar()
    assert capsys.readouterr().err == ""
