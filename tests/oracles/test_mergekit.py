"""mergekit and we say the same where the methods are the same."""

import pytest
import yaml

from mashup.cli.__main__ import main
from oracles.cases import EQUAL, FILES, file_for, ours
from oracles.peers import FAMILIES, find_mergekit, run_mergekit
from wholes import distance, tensors_of


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", EQUAL)
def test_mergekit_says_the_same(peer, models, tmp_path, family, name):
    one = EQUAL[name]
    found = tensors_of(ours(one, models / family, tmp_path / "m"))
    expected = tensors_of(peer / family / name)
    base = tensors_of(models / family / one.base)
    assert distance(found, expected, base) < 1e-6


def run(*arguments):
    with pytest.raises(SystemExit) as done:
        main(["merge", *map(str, arguments)])
    assert not done.value.code


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_mergekit_gives_what_mergekit_makes_of_it(peer, models, tmp_path, name):
    file = tmp_path / "merge.yml"
    file.write_text(yaml.safe_dump(file_for(name, models / "llama")))
    run("--config", file, "-o", tmp_path / "m", "--accept-base")
    found, expected = tensors_of(tmp_path / "m"), tensors_of(peer / "llama" / name)
    assert {n: t.dtype for n, t in found.items()} == {n: t.dtype for n, t in expected.items()}
    loss = 1e-2 if name == "outliers of each layer" else 1e-6  # bfloat16 is rounded to
    assert distance(found, expected, tensors_of(models / "llama/base")) < loss


EXPORTS = {
    "a mean": [],
    "a sum": ["--weights", "0.5", "0.7", "--scale", "0.8"],
    "ties": ["--method", "ties", "--density", "0.4"],
    "by part": [
        *("--method", "ties", "--density", "0.4", "--per-module", "mlp:density[2]=0.3..0.9"),
        *("self_attn:weight[1]=0..2", "*:scale=1..0.5"),
    ],
    "normalised": ["--normalize", "--weights", "1", "2", "--per-module", "mlp:weight[1]=1..4"],
}


@pytest.fixture(scope="module")
def exported(models, tmp_path_factory):
    """``CASE/ours`` and ``CASE/theirs``: our merge, and mergekit's of the file that we wrote."""
    if find_mergekit() is None:
        pytest.skip("mergekit is not here")
    folder, room, cases = models / "llama", tmp_path_factory.mktemp("exported"), []
    for name, flags in EXPORTS.items():
        given = [folder / "p0", folder / "p1", "-m", folder / "base", "--accept-base", *flags]
        run(*given, "-o", room / name / "ours")
        run(*given, "-o", room / name / "merge.yml", "--export", "mergekit")
        config = yaml.safe_load((room / name / "merge.yml").read_text())
        cases.append({"config": config, "output": str(room / name / "theirs"), "seed": 0})
    run_mergekit(find_mergekit(), cases, room)
    return room


@pytest.mark.parametrize("name", EXPORTS)
def test_mergekit_makes_our_merge_of_the_file_that_we_write(exported, models, name):
    found, expected = (tensors_of(exported / name / who) for who in ("ours", "theirs"))
    assert distance(found, expected, tensors_of(models / "llama/base")) < 1e-6
