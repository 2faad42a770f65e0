"""Which token is which row: vocabularies from ``tokenizer.json`` alone, and several side by side.

Format: https://huggingface.co/docs/tokenizers/api/models. BPE and WordPiece list
``token: id``, Unigram lists ``[token, score]`` by id. Added tokens come on top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mashup.errors import InputError, Problem
from mashup.files import digest_file, read_json

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


#: A folder with a tokenizer, and how many rows its embedding has.
Place = tuple[Path, int]


def embedding_place(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> Place | None:
    """A folder and the rows of its embedding, by name and shape; None without any."""
    found = next((shape for name, shape in shapes.items() if name.endswith(BY_TOKEN)), None)
    return None if found is None else (folder, (*found, 1)[0])


@dataclass(frozen=True)
class Tables:
    """Token to row of the result, the base and each parent."""

    folder: Path
    result: Mapping[str, int]
    base: Mapping[str, int]
    parents: tuple[Mapping[str, int], ...]

    @property
    def are_one(self) -> bool:
        """Whether nothing has to be moved."""
        return all(one == self.result for one in (self.base, *self.parents))

    def rows(self, own: Mapping[str, int]) -> list[int]:
        """By row of the result, the row of ``own`` with the same token, -1 where none is."""
        rows = [-1] * (1 + max(self.result.values()))
        for token, row in self.result.items():
            rows[row] = own.get(token, -1)
        return rows


def differ(one: Place, other: Place) -> bool:
    """Whether rows must be moved: other sizes, or other tokenizers where both have one."""
    if one[1] != other[1]:
        return True
    files = [folder / FILE for folder, _ in (one, other)]
    if not all(path.is_file() for path in files):
        return False
    return digest_file(files[0]) != digest_file(files[1])


def read_tables(base: Place, parents: Sequence[Place | None], chosen: Path | None) -> Tables:
    """Vocabularies of the base and the parents, each ``(folder, rows of its embedding)``.

    A parent without embeddings (None) has the base's. The result's is the one that ``chosen``
    names, else the first that holds every token of the others.

    Raises:
        InputError: no tokenizer to align by, none that holds all tokens, or a ``chosen`` folder
            that is none of theirs.
    """
    own = [_rows(*one) if one else None for one in (base, *parents)]
    known = own[0]
    assert known is not None
    folders = [base[0], *(one[0] if one else base[0] for one in parents)]
    tables = [one if one is not None else known for one in own]
    tokens = set().union(*({t for t in one if not t.startswith("\0")} for one in tables))
    complete = [f for f, one in zip(folders, tables, strict=True) if tokens <= one.keys()]
    if chosen is None and not complete:
        raise InputError(_no_superset(folders, tables))
    place = _place_of(chosen, folders) if chosen else folders.index(complete[0])
    return Tables(folders[place], tables[place], tables[0], tuple(tables[1:]))


def _place_of(chosen: Path, folders: Sequence[Path]) -> int:
    resolved = [folder.resolve() for folder in folders]
    if chosen.resolve() not in resolved:
        expected = "the folder of the base or of a parent with embeddings"
        fix = f"give one of {', '.join(map(str, dict.fromkeys(folders)))}"
        raise InputError(
            Problem("tokenizer of another model", str(chosen), "neither", expected, fix)
        )
    return resolved.index(chosen.resolve())


def _rows(folder: Path, rows: int) -> dict[str, int]:
    vocabulary = read_vocabulary(folder)
    fix = "copy the tokenizer of the run into the folder"
    if vocabulary is None:
        found, expected = "no tokenizer.json", "one, to align rows by token"
        raise InputError(Problem("no tokenizer", str(folder), found, expected, fix))
    try:
        return rows_by_token(vocabulary, rows)
    except ValueError as error:
        expected = "a row for every token"
        raise InputError(
            Problem("damaged tokenizer", str(folder), str(error), expected, fix)
        ) from error


def _no_superset(folders: Sequence[Path], tables: Sequence[Mapping[str, int]]) -> Problem:
    shared = set.intersection(*(set(table) for table in tables))
    own = [sorted(t for t in table if t not in shared and t[0] != "\0") for table in tables]
    counts = dict.fromkeys(
        f"{folder} {len(tokens):,} ({tokens[0]})"
        for folder, tokens in zip(folders, own, strict=True)
        if tokens
    )
    found = f"tokens that not all have: {', '.join(counts)}"
    fix = (
        "pass `tokenizer` with the folder of one of them: the result has its tokens, and those "
        "that it lacks are dropped"
    )
    expected = "one tokenizer that holds the tokens of all"
    return Problem("vocabularies differ", "parents", found, expected, fix)
