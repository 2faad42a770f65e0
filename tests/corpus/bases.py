"""Bases spoiled: fields of their settings, their weights, tokenizers and code."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator

from corpus import folders, tensors, values
from corpus.seeds import CONFIG, MODEL, TOKENIZER, Files, document

_FEW = ("null", "true", "zero", "minus", "half", "huge", "nan", "text", "list", "dict", "deep-list")
_ODD_IDS = (-1, -2, 319, 320, 321, 10**6, 2**31, 2**63, [1], [1, 2], [[1]], [-1], "1", 1.5, True)


class _Runs:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        import os

        return os.system, ("touch precious/run",)


def bases(good: Files) -> Iterator[tuple[str, Files, str]]:
    """Name, files, and what is right of it."""
    config = json.loads(good[CONFIG])  # type: ignore[arg-type]
    for name, text in values.changes(config, [(key,) for key in config]):
        change = name.partition("=")[2]
        if change in _FEW or not change:
            yield f"config/{name}", good | {CONFIG: text}, ""
    for name, text in values.whole(good[CONFIG]):  # type: ignore[arg-type]
        yield f"config/{name}", good | {CONFIG: text}, ""
    for field in ("pad_token_id", "bos_token_id", "eos_token_id"):
        for odd in _ODD_IDS:
            made = good | {CONFIG: document(config | {field: odd})}
            yield f"config/{field}-{odd}", made, ""
    for name, value in _MORE.items():
        yield f"config/more-{name}", good | {CONFIG: document(config | value)}, ""
    weights: bytes = good[MODEL]  # type: ignore[assignment]
    for make in (tensors.cuts, tensors.offsets, tensors.header_texts):
        for name, data in make(weights):
            if "-model.layers.1" not in name:
                yield f"weights/{name}", good | {MODEL: data}, ""
    for name, data in tensors.numbers(weights):
        yield f"weights/{name}", good | {MODEL: data}, ""
    rest = {n: c for n, c in good.items() if n != MODEL}
    for name, data in {"code": pickle.dumps(_Runs()), "text": b"x", "none": b""}.items():
        yield f"pickle/{name}", rest | {"pytorch_model.bin": data}, "refused"
        yield f"pickle/{name}-beside", good | {"pytorch_model.bin": data}, "fine"
    for name in ("modeling_evil.py", "__init__.py", "conftest.py", "torch.py"):
        code = b"open('precious/run', 'w').close()"
        yield f"code/{name}", good | {name: code}, "fine"
    for file in (TOKENIZER, "tokenizer_config.json", "generation_config.json"):
        for name, text in values.whole(good[file]):  # type: ignore[arg-type]
            yield f"{file}/{name}", good | {file: text}, ""
        whole = json.loads(good[file])  # type: ignore[arg-type]
        for name, text in values.changes(whole, [(key,) for key in whole]):
            change = name.partition("=")[2]
            if change in _FEW or not change:
                yield f"{file}/{name}", good | {file: text}, ""
    for name, made in folders.specials(good):
        yield f"folder/{name}", made, ""


_MORE = {
    "auto-map": {"auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"}},
    "auto-map-number": {"auto_map": 1},
    "auto-map-list": {"auto_map": []},
    "auto-map-remote": {"auto_map": {"AutoConfig": "owner/evil--configuration.Evil"}},
    "auto-map-numbers": {"auto_map": {"AutoConfig": 1, "AutoModelForCausalLM": None}},
    "quantised": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    "quantised-unknown": {"quantization_config": {"quant_method": "nothing"}},
    "quantised-number": {"quantization_config": 4},
    "another-model": {"model_type": "gpt2"},
    "no-such-model": {"model_type": "nothing"},
    "an-encoder": {"model_type": "bert", "architectures": ["BertModel"]},
    "rope-unknown": {"rope_parameters": {"rope_type": "nothing"}},
    "rope-bad-factor": {"rope_scaling": {"rope_type": "linear", "factor": "x"}},
    "rope-zero": {"rope_scaling": {"rope_type": "linear", "factor": 0}},
    "attention-unknown": {"_attn_implementation": "nothing"},
    "heads-do-not-divide": {"num_attention_heads": 7},
    "no-heads": {"num_attention_heads": 0},
    "kv-heads": {"num_key_value_heads": 3},
    "wider": {"hidden_size": 64},
    "more-layers": {"num_hidden_layers": 3},
    "fewer-layers": {"num_hidden_layers": 1},
    "larger-vocabulary": {"vocab_size": 999},
    "smaller-vocabulary": {"vocab_size": 10},
    "short-context": {"max_position_embeddings": 4},
    "head-dim": {"head_dim": 3},
    "labels": {"id2label": {"x": 1}},
    "cache": {"use_cache": "x"},
    "transformers": {"transformers_version": "99.0"},
    "dtype": {"torch_dtype": "float3"},
    "dtype-2": {"dtype": "nothing"},
    "layer-types": {"layer_types": ["nothing", "nothing"]},
    "tie": {"tie_word_embeddings": True},
}
