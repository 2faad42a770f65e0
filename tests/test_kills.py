"""A command that is killed at any change of the file system, and given again, ends as it should."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kills import WORKS

SAMPLED = "merge,merge-full,convert,scan,score,init,train"


def killed(folder, work, most, at_random):
    """What ``kills.py`` tells of each work."""
    command = [sys.executable, str(Path(__file__).parent / "kills.py"), str(folder), work]
    done = subprocess.run(
        [*command, str(most), str(at_random)], env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_killed_at_a_sample_of_all_changes(tmp_path):
    told = killed(tmp_path, SAMPLED, 2, 0)
    assert [one["work"] for one in told] == SAMPLED.split(",")
    assert all(one["killed"] and not one["failures"] for one in told), told


@pytest.mark.slow
@pytest.mark.parametrize("work", WORKS)
def test_killed_at_every_change_and_at_random(tmp_path, work):
    (told,) = killed(tmp_path, work, 1000, 200 // len(WORKS))
    assert told["changes"] > 0
    assert not told["failures"], told["failures"]
