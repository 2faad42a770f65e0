"""Safetensors files spoiled: headers by field, offsets, cuts at every boundary, numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from corpus.values import changes, whole


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and weights of a good file."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(header: bytes, weights: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + weights


def header_fields(data: bytes, tensors: int = 2) -> Iterator[tuple[str, bytes]]:
    """Every field of the header's first ``tensors`` entries and of its metadata."""
    header, weights = split(data)
    names = [name for name in header if name != "__metadata__"][:tensors]
    inner = [(), ("dtype",), ("shape",), ("shape", 0), ("data_offsets",)]
    inner += [("data_offsets", 0), ("data_offsets", 1)]
    paths: list[tuple] = [("__metadata__",), ("__metadata__", "format")]
    paths += [(name, *rest) for name in names for rest in inner]
    for name, text in changes(header, paths):
        yield name, join(text, weights)


def header_texts(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The header as a text that is something else."""
    header, weights = split(data)
    for name, text in whole(json.dumps(header, separators=(",", ":")).encode()):
        yield f"header-{name}", join(text, weights)
    padded = json.dumps(header).encode()
    yield "header-space-before", join(b"  " + padded, weights)
    yield "header-space-behind", join(padded + b"   ", weights)
    for name, length in {"zero": 0, "huge": 1 << 62, "all": (1 << 64) - 1}.items():
        yield f"length-{name}", length.to_bytes(8, "little") + data[8:]


def cuts(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The file cut at every kind of boundary, and made longer."""
    header, weights = split(data)
    start = len(data) - len(weights)
    points = {"nothing": 0, "one-byte": 1, "in-length": 5, "after-length": 8, "in-header": 20}
    points |= {"header-short": start - 1, "no-weights": start, "one-weight-byte": start + 1}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            points |= {f"in-{name}": start + (begin + end) // 2, f"after-{name}": start + end}
            points |= {f"short-of-{name}": start + end - 1}
    for name, point in points.items():
        if point < len(data):
            yield f"cut-{name}", data[:point]
    for name, more in {"byte": b"\0", "word": bytes(4), "page": bytes(4096)}.items():
        yield f"longer-by-a-{name}", data + more
    yield "the-file-twice", data + data
    yield "zeros", bytes(len(data))
    yield "holds-pickle", b"\x80\x04\x95" + data[3:]
    yield "holds-zip", b"PK\x03\x04" + data[4:]


def offsets(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Byte ranges that overlap, swap, leave holes or lie outside."""
    header, weights = split(data)
    names = [name for name in header if name != "__metadata__"]
    one, two = sorted(names, key=lambda name: header[name]["data_offsets"])[:2]
    size = len(weights)
    first, second = header[one]["data_offsets"], header[two]["data_offsets"]
    ranges: dict[str, tuple[list[int], list[int]]] = {
        "equal": (first, first),
        "swapped": (second, first),
        "overlap": (first, [second[0] - 4, second[1] - 4]),
        "hole": (first, [second[0] + 4, second[1] + 4]),
        "backwards": (first[::-1], second),
        "negative": ([first[0] - 4, first[1] - 4], second),
        "beyond": (first, [size, size + second[1] - second[0]]),
        "empty": ([0, 0], second),
        "shifted": ([first[0] + 4, first[1] + 4], [second[0] + 4, second[1] + 4]),
        "wraps": ([(1 << 64) - 4, first[1]], second),
        "three": ([*first, first[1]], second),
        "single": (first[:1], second),
    }
    for name, (a, b) in ranges.items():
        made = header | {one: header[one] | {"data_offsets": a}}
        made[two] = header[two] | {"data_offsets": b}
        yield f"offsets-{name}", join(json.dumps(made).encode(), weights)
    longer = {n: _moved(entry, 4) for n, entry in header.items()}
    yield "offsets-hole-before", join(json.dumps(longer).encode(), bytes(4) + weights)


def _moved(entry: dict[str, Any], by: int) -> dict[str, Any]:
    if "data_offsets" not in entry:
        return entry
    return entry | {"data_offsets": [offset + by for offset in entry["data_offsets"]]}


def numbers(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Weights that are not finite, of other shapes, types and names."""
    tensors = load(data)
    for name in list(tensors)[:3]:
        for change, make in _TENSORS.items():
            yield f"{name}-{change}", save(tensors | {name: make(tensors[name])})
        rest = {n: t for n, t in tensors.items() if n != name}
        yield f"{name}-lost", save(rest)
        for change, other in {
            "extra": "extra.weight",
            "odd": "\x1b[31m.weight",
            "empty": "",
        }.items():
            yield f"{name}-{change}-name", save(rest | {other: tensors[name]})
            yield f"{name}-{change}-beside", save(tensors | {other: tensors[name]})
        yield f"{name}-f8", _as_f8(data, name)
    yield "no-tensors", save({})


def _with(value: float, *, last: bool = False) -> Callable[[np.ndarray], np.ndarray]:
    def make(tensor: np.ndarray) -> np.ndarray:
        made = tensor.copy()
        made.reshape(-1)[-1 if last else 0] = value
        return made

    return make


_TENSORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nan": _with(np.nan),
    "nan-at-the-end": _with(np.nan, last=True),
    "inf": _with(np.inf),
    "minus-inf": _with(-np.inf),
    "all-zero": np.zeros_like,
    "largest": lambda t: np.full_like(t, 3e38),
    "flat": lambda t: t.reshape(-1),
    "rank-3": lambda t: t[None],
    "transposed": lambda t: np.ascontiguousarray(t.T),
    "one-row-less": lambda t: t[:-1],
    "one-row-more": lambda t: np.concatenate([t, t[:1]]),
    "one-column-less": lambda t: np.ascontiguousarray(t[..., :-1]),
    "scalar": lambda t: np.ones((), np.float32),
    "no-rows": lambda t: t[:0],
    "i8": lambda t: t.astype(np.int8),
    "i64": lambda t: t.astype(np.int64),
    "bool": lambda t: t > 0,
    "f16": lambda t: t.astype(np.float16),
    "f64": lambda t: t.astype(np.float64),
}


def _as_f8(data: bytes, name: str) -> bytes:
    """One tensor as eight-bit floats, its bytes cut to the first quarter."""
    header, weights = split(data)
    made: dict[str, Any] = {}
    parts, offset = [], 0
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        part = weights[begin : begin + (end - begin) // 4] if key == name else weights[begin:end]
        dtype = "F8_E4M3" if key == name else entry["dtype"]
        made[key] = entry | {"dtype": dtype, "data_offsets": [offset, offset + len(part)]}
        parts.append(part)
        offset += len(part)
    return join(json.dumps(made).encode(), b"".join(parts))
