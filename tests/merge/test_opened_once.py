"""A merge reads the settings and the header of each parent once, whatever it does with them."""

import sys
from collections import Counter
from contextlib import contextmanager

import pytest

from kinds import save_kind
from lora import save_lora
from mashup import merge
from mashup.cli.__main__ import main
from wholes import relative_of

_COUNTS: list[Counter] = []


def _count(event, arguments):
    """Files that are opened to be read by Python's own reader; weights are read otherwise."""
    if event == "open" and _COUNTS and "r" in (arguments[1] or ""):
        _COUNTS[-1][str(arguments[0])] += 1


sys.addaudithook(_count)  # hooks cannot be removed: without a counter it does nothing


@contextmanager
def opened():
    _COUNTS.append(Counter())
    try:
        yield _COUNTS[-1]
    finally:
        _COUNTS.pop()


SAVING = {"modules_to_save": ["embed_tokens"]}


@pytest.mark.parametrize("through", ["python", "command line"])
@pytest.mark.parametrize("config", [{}, SAVING], ids=["plain", "saved modules"])
def test_adapters(tiny_base, tmp_path, config, through):
    parents = [save_kind(tiny_base, tmp_path / n, seed=s, **config) for s, n in enumerate("ab")]
    with opened() as counts:
        if through == "python":
            merge(parents, output=tmp_path / "m", base=tiny_base)
        else:
            arguments = ["merge", *map(str, parents), "-o", str(tmp_path / "m"), "-m"]
            with pytest.raises(SystemExit) as done:
                main([*arguments, str(tiny_base)])
            assert not done.value.code
    for parent in parents:
        assert counts[str(parent / "adapter_config.json")] == 1
        # once for the header, and once for the digest of all bytes
        assert counts[str(parent / "adapter_model.safetensors")] == 2


def test_adapters_without_a_base(tiny_base, tmp_path):
    parents = [save_lora(tiny_base, tmp_path / n, seed=s) for s, n in enumerate("ab")]
    with opened() as counts:
        merge(parents, output=tmp_path / "m", method="ties", rank=8)
    for parent in parents:
        assert counts[str(parent / "adapter_config.json")] == 1
        assert counts[str(parent / "adapter_model.safetensors")] == 2


@pytest.mark.parametrize("given", [{}, {"method": "ties"}], ids=["no base", "base"])
def test_full_checkpoints(tiny_base, tmp_path, given):
    parents = [relative_of(tiny_base, tmp_path / n, seed=s) for s, n in enumerate("ab")]
    given = given | ({"base": tiny_base} if given else {})
    with opened() as counts:
        init = merge(parents, output=tmp_path / "m", accept_base=True, **given)
    tensors = init.manifest["tensors"]
    for parent in parents:
        # once for its settings, and once for the end token that is compared with the result's
        assert counts[str(parent / "config.json")] == 2
        # once for the header, and once for the sample of each tensor in the digest
        assert counts[str(parent / "model.safetensors")] == 1 + tensors
