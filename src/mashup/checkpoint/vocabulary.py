"""Which token is which row: the vocabulary of a tokenizer, read from ``tokenizer.json`` alone.

Format: https://huggingface.co/docs/tokenizers/api/models. BPE and WordPiece list
``token: id``, Unigram lists ``[token, score]`` by id; added tokens come on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mashup.errors import InputError, Problem
from mashup.files import read_json

FILE = "tokenizer.json"
#: Ends of the names of input embeddings.
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
#: Ends of the names of tensors that have one row a token.
BY_TOKEN = (*EMBEDDINGS, "lm_head.weight", "lm_head.bias", "embed_out.weight")
#: Ends of the names of embeddings of positions.
POSITIONS = ("wpe.weight", "embed_positions.weight", "position_embeddings.weight")


def read_vocabulary(folder: Path) -> dict[str, int] | None:
    """Token to id, None when the folder has no ``tokenizer.json``.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return _tokens(read_json(path))
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        fix = "copy the tokenizer of the run again"
        found = f"{type(error).__name__}: {error}"
        raise InputError(
            Problem("damaged tokenizer", str(path), found, "tokens and ids", fix)
        ) from error


def _tokens(content: Mapping[str, Any]) -> dict[str, int]:
    listed = content["model"]["vocab"]
    if isinstance(listed, list):
        tokens = {str(pair[0]): number for number, pair in enumerate(listed)}
    else:
        tokens = {str(token): int(number) for token, number in listed.items()}
    added = content.get("added_tokens") or []
    return tokens | {str(entry["content"]): int(entry["id"]) for entry in added}


def rows_by_token(vocabulary: Mapping[str, int], rows: int) -> dict[str, int]:
    """Token to row of an embedding of ``rows`` rows; padding rows are named by their number.

    Raises:
        ValueError: a token whose id is beyond the embedding.
    """
    beyond = next((token for token, number in vocabulary.items() if not 0 <= number < rows), None)
    if beyond is not None:
        raise ValueError(f"{beyond!r} has id {vocabulary[beyond]}, the embedding {rows} rows")
    named = set(vocabulary.values())
    padding = {f"\0row {n}": n for n in range(rows) if n not in named}
    return dict(vocabulary) | padding
