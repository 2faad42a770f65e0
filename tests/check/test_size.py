"""A model of 70 billion parameters is checked from its headers, in under a second."""

import json
import time

import pytest

from helpers import write_json
from mashup import check
from mashup.cli.__main__ import main

_LAYER = {  # tensor of a layer of Llama 3 70B -> shape
    "self_attn.q_proj": (8192, 8192),
    "self_attn.k_proj": (1024, 8192),
    "self_attn.v_proj": (1024, 8192),
    "self_attn.o_proj": (8192, 8192),
    "mlp.gate_proj": (28672, 8192),
    "mlp.up_proj": (28672, 8192),
    "mlp.down_proj": (8192, 28672),
    "input_layernorm": (8192,),
    "post_attention_layernorm": (8192,),
}
_SHARDS = 30


def shapes():
    made = {f"model.layers.{n}.{k}.weight": v for n in range(80) for k, v in _LAYER.items()}
    ends = dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), (128256, 8192))
    return made | ends | {"model.norm.weight": (8192,)}


def write_holes(path, tensors):
    """A safetensors file with a true header whose data is one hole in the file."""
    entries, end = {}, 0
    for name, shape in tensors.items():
        begin, end = end, end + 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(entries).encode()
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)


@pytest.fixture
def seventy(tmp_path):
    def made(name):
        folder, tensors = tmp_path / name, shapes()
        names = list(tensors)
        config = {"model_type": "llama", "tie_word_embeddings": False, "hidden_size": 8192}
        write_json(folder / "config.json", config)
        placed = {}
        for shard in range(_SHARDS):
            file = f"model-{shard + 1:05d}-of-{_SHARDS:05d}.safetensors"
            own = names[shard::_SHARDS]
            write_holes(folder / file, {n: tensors[n] for n in own})
            placed |= dict.fromkeys(own, file)
        write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": placed})
        return folder

    return made


def test_a_model_of_70b_is_checked_against_its_base_in_under_a_second(seventy, capsys):
    one, base = seventy("one"), seventy("base")
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        (report,) = check([one], base=base)
        seconds.append(time.perf_counter() - start)
    assert not report.problems
    assert report.bytes == 141_107_412_992
    assert min(seconds) < 1
    with pytest.raises(SystemExit) as done:
        main(["check", str(one), "--model", str(base)])
    assert not done.value.code
    assert "141.1 GB" in capsys.readouterr().out
