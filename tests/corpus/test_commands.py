"""The corpus through the command line: exit code 3, a table, never a traceback."""

import subprocess
import sys
from itertools import islice

import pytest

from corpus import seeds
from corpus.cases import cases
from corpus.place import Place
from corpus.reading import Wrong
from corpus.verdict import meaning
from mashup.cli.__main__ import main

FIRST = 13  # other cases than in the test beside this


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place.make(tmp_path_factory.mktemp("commands"))


def wrong(place, chosen):
    """The cases that must be refused, each written when its turn comes."""
    for case in chosen:
        seeds.write(case.files, place.case)
        try:
            meaning(case, place)
        except Wrong:
            yield case


def arguments(place, case):
    base = place.base(case)
    model = ["--model", str(base)] if base else []
    return ["merge", str(place.case), str(place.good(case)), "-o", str(place.output), *model]


def code_of(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


@pytest.mark.parametrize("every", [401, pytest.param(53, marks=pytest.mark.slow)])
def test_merge_ends_with_code_3_and_check_and_scan_tell(place, capsys, every):
    seen = 0
    for case in wrong(place, islice(cases(), FIRST, None, every)):
        seen += 1
        assert code_of(arguments(place, case)) == 3, case.name
        captured = capsys.readouterr()
        assert "error" in captured.err, case.name
        assert "Traceback" not in captured.err, case.name
        assert captured.out == "", case.name
        assert not place.left_behind, case.name
        assert code_of(["check", str(place.library)]) in (0, 3), case.name
        assert code_of(["scan", str(place.library)]) in (0, 3), case.name
        assert "Traceback" not in capsys.readouterr().err, case.name
    assert seen > 4000 // every


@pytest.mark.slow
def test_a_process_of_its_own_says_the_same(place):
    for case in islice(wrong(place, islice(cases(), 0, None, 601)), 8):
        command = [sys.executable, "-m", "mashup.cli", *arguments(place, case)]
        done = subprocess.run(command, capture_output=True, timeout=120, check=False)
        assert done.returncode == 3, case.name
        assert b"Traceback" not in done.stderr, case.name
        assert not place.left_behind, case.name
