"""Names of tensors in a PEFT LoRA file, and what each of them is.

PEFT's names (https://huggingface.co/docs/peft/developer_guides/checkpoint) begin with
``base_model.model.`` and leave the adapter's name out; older files may have it in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mashup.checkpoint.config import AdapterConfig

#: ``A``, ``B`` and ``bias`` are of a linear or parameter LoRA, ``eA`` and ``eB`` of an embedding
#: LoRA, ``rows`` new rows of an embedding, ``copied`` a tensor of a module that is trained as a
#: whole, ``original`` the base's tensor under such a copy, ``written`` a new value that PEFT loads
#: into the base itself, ``spare`` what PEFT writes twice and never reads.
Part = Literal["A", "B", "bias", "eA", "eB", "rows", "copied", "original", "written", "spare"]

PREFIX = "base_model.model."
WRAPPED = ".base_layer"
#: Embeddings and heads that PEFT saves whole when they were resized or adapted.
_EMBEDDINGS = frozenset(
    ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out", "word_embeddings", "shared")
)
_ADAPTER = r"(?:\.(?!weight$)[^.]+)?"
_LORA = re.compile(r"^(?P<module>.+)\.lora_(?P<side>[AB])(?:\.[^.]+)?\.(?P<leaf>weight|bias)$")
_EMBEDDING = re.compile(rf"^(?P<module>.+)\.lora_embedding_(?P<side>[AB]){_ADAPTER}$")
_ROWS = re.compile(rf"^(?P<module>.+)\.token_adapter\.trainable_tokens_delta{_ADAPTER}$")
_WHOLE = re.compile(r"^(?P<module>.+)\.(?P<of>original_module|modules_to_save)\.(?P<leaf>.+)$")


@dataclass(frozen=True)
class Key:
    """What a name means.

    Attributes:
        part: what it is.
        module: the module of a LoRA or of rows; else the base's tensor.
        depth: how many ``base_layer`` the name has: parameters of one module are wrapped in
            each other (PEFT's ``target_parameters``), the outermost has none.
    """

    part: Part
    module: str
    depth: int = 0


def read_key(name: str, config: AdapterConfig) -> Key | None:
    """What a tensor's name means, None when it is of no kind that is read."""
    name = name.removeprefix(PREFIX)
    if match := _LORA.match(name):
        return _lora(match, config)
    if match := _EMBEDDING.match(name):
        return Key("eA" if match["side"] == "A" else "eB", match["module"])
    if match := _ROWS.match(name):
        return Key("rows", match["module"])
    if match := _WHOLE.match(name):
        tensor = f"{match['module']}.{match['leaf']}"
        part: Part = "original" if match["of"] == "original_module" else "spare"
        return Key(part, tensor) if config.targets.saves_tensor(tensor) else None
    if config.targets.saves_tensor(name):
        return Key("copied", name)
    return _written(name, config)


def _lora(match: re.Match[str], config: AdapterConfig) -> Key | None:
    depth = 0
    module = match["module"]
    while module.endswith(WRAPPED):
        module, depth = module.removesuffix(WRAPPED), depth + 1
    if match["leaf"] == "weight":
        return Key("A" if match["side"] == "A" else "B", module, depth)
    return Key("bias", module, depth) if config.lora_bias and match["side"] == "B" else None


def _written(name: str, config: AdapterConfig) -> Key | None:
    """A trained bias, or an embedding that was saved whole."""
    module, _, leaf = name.rpartition(".")
    bare = module.removesuffix(WRAPPED)
    is_wrapped = bare != module
    tensor = Key("written", f"{bare}.{leaf}")
    if leaf in ("weight", "bias") and bare.rpartition(".")[2] in _EMBEDDINGS:
        return tensor
    if leaf == "weight" and is_wrapped and config.targets.match(bare):
        return tensor
    if leaf != "bias" or config.bias == "none":
        return None
    return tensor if is_wrapped or config.bias == "all" else None
