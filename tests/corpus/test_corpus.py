"""Thousands of malformed checkpoints: each is refused cleanly, or merged as others read it."""

import os
import resource
from itertools import islice
from pathlib import Path

import pytest

from corpus.cases import cases
from corpus.place import Place
from corpus.verdict import faults

GIGABYTE = 1 << 30
EVERY = 61  # cases between two of the normal tier: about a hundred, of all kinds


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place.make(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(autouse=True)
def little_memory():
    """What would fill the memory or the disk of the machine fails in this process instead."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 4 * GIGABYTE, hard))
    files = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (GIGABYTE // 4, files[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, files)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def all_faults(place, chosen):
    return [f"{case.name[:150]}: {fault}" for case in chosen for fault in faults(case, place)]


def test_a_hundred_of_all_kinds(place):
    assert all_faults(place, islice(cases(), 0, None, EVERY)) == []


def test_the_seeds_themselves_are_fine(place):
    from corpus.cases import Case
    from corpus.seeds import SEEDS

    good = [Case(f"{name}/config.json/good", make()) for name, make in SEEDS.items()]
    assert all_faults(place, good) == []


@pytest.mark.slow
def test_all_of_them_in_bounded_memory(place):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = all_faults(place, cases())
    Path(os.environ.get("CORPUS_LOG", os.devnull)).write_text("\n".join(found))
    assert found == []
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < GIGABYTE // 2  # PEFT and transformers are in it, for the oracle
