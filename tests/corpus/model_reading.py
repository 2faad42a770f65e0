"""What a spoiled full checkpoint means: its tensors in float64, and whether its settings are those
of the good one, as transformers computes with them.

Nothing of ``mashup`` is used.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from corpus.reading import Wrong, read_json, read_tensors
from corpus.seeds import CONFIG, INDEX, MODEL, model_config, tensors_of


def read_model(folder: Path) -> dict[str, Tensor]:
    """All tensors of a full checkpoint, float64, as transformers would find them."""
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict) or config.get("quantization_config"):
        raise Wrong("no settings, or quantised ones")
    if (folder / MODEL).exists():
        return {n: t.double() for n, t in read_tensors(folder / MODEL).items()}
    index = read_json(folder / INDEX)
    placed = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(placed, dict) or not isinstance(index.get("metadata", {}), dict):
        raise Wrong("no map")
    shards: dict[str, dict[str, Tensor]] = {}
    for shard in placed.values():
        if not isinstance(shard, str) or "/" in shard or "\0" in shard or len(shard) > 255:
            raise Wrong("no name of a file")
        if shard not in shards:
            shards[shard] = read_tensors(folder / shard)
    held = {name: shard for shard, tensors in shards.items() for name in tensors}
    if held != placed or sum(map(len, shards.values())) != len(placed):
        raise Wrong("the index disagrees with the shards")
    return {name: shards[shard][name].double() for name, shard in placed.items()}


MANY = 100


@cache
def _good_logits(tied: bool) -> Tensor:
    config = model_config(tied=tied)
    return _logits(AutoConfig.for_model(**config), tied)


@torch.no_grad()
def _logits(config: PretrainedConfig, tied: bool) -> Tensor:
    tensors = {n: torch.from_numpy(t) for n, t in tensors_of(0, tied=tied).items()}
    if config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    with torch.random.fork_rng():
        model = AutoModelForCausalLM.from_config(config).double().eval()
    model.load_state_dict(tensors)
    return model(torch.arange(6)[None]).logits


def check_settings(folder: Path, *, tied: bool) -> None:
    """Whether transformers computes the same with this ``config.json`` as with the good one.

    Raises:
        Wrong: it refuses it, or computes something else.
    """
    try:
        config = AutoConfig.from_pretrained(folder)
        if config.num_hidden_layers > MANY:  # it would be built until the memory is full
            raise Wrong("layers without end")
        if tied and "tie_word_embeddings" not in read_json(folder / CONFIG):
            config.tie_word_embeddings = True  # without a head it can be nothing else
        found = _logits(config, tied)
    except Exception as error:  # of a dozen kinds
        raise Wrong(f"transformers: {type(error).__name__}: {str(error)[:200]}") from error
    if not torch.allclose(found, _good_logits(tied), rtol=1e-9, atol=1e-9):
        raise Wrong("another function")
