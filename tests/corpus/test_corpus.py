"""Thousands of malformed inputs: each is refused cleanly, or used as it must be.

Checkpoints are merged and compared with what others read in them. Chat templates, bases,
datasets, state files, databases, names and sizes go through the verbs that read them.
"""

import os
import resource
from itertools import islice
from pathlib import Path

import pytest

from corpus import answers
from corpus.cases import cases
from corpus.place import Place
from corpus.verdict import faults
from corpus.wider import KINDS, wider
from corpus.world import World

GIGABYTE = 1 << 30
EVERY = 61  # cases between two of the normal tier: about a hundred, of all kinds
EVERY_WIDER = 173  # the same of the wider kinds


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place.make(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World.make(tmp_path_factory.mktemp("wider") / "world")


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


def wider_faults(world, chosen):
    found = [(case.name[:150], fault) for case in chosen for fault in answers.faults(case, world)]
    return [f"{name!a}: {fault}" for name, fault in found]


def test_some_of_every_wider_kind(world):
    seen = dict.fromkeys(KINDS, 0)
    chosen = []
    for case in wider(world):
        kind = case.name.split("/")[0]
        if seen[kind] % EVERY_WIDER == 0:
            chosen.append(case)
        seen[kind] += 1
    assert all(seen.values())
    assert wider_faults(world, chosen) == []


def test_the_corpus_has_ten_thousand_cases_with_names_of_their_own(world):
    names = [case.name for case in cases()] + [case.name for case in wider(world)]
    assert len(names) == len(set(names)) >= 10_000


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_all_of_a_wider_kind(world, kind):
    chosen = (case for case in wider(world) if case.name.startswith(f"{kind}/"))
    assert wider_faults(world, chosen) == []
