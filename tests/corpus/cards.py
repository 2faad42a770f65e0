"""Model cards and lists of prompts spoiled: text that is not ours to trust."""

from __future__ import annotations

from collections.abc import Iterator

_HEADS = {
    "date-that-is-none": "base_model: 2024-13-45",
    "number": "base_model: 1e400",
    "deep": "base_model: " + "[" * 3000,
    "alias-bomb": "\n".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]" for n in range(9)
    ),
    "runs-code": "base_model: !!python/object/apply:os.system ['true']",
    "tab": "\tbase_model: x",
    "merge-key": "<<: [1, 2]",
    "unhashable": "? [a]\n: b",
    "list": "- base_model",
    "escapes": 'base_model: "\\e[2J"',
    "zero-byte": 'base_model: "a\\0b"',
    "surrogate": 'base_model: "\\ud800"',
    "binary": "base_model: !!binary x",
    "nan": "license: .nan",
    "licence-is-deep": "license: [[[[]]]]",
    "sexagesimal": "base_model: 190:20:30",
    "bad-int": "base_model: 0b",
    "set": "base_model: !!set {a, b}",
    "none": "base_model:",
    "long": "base_model: " + "w" * 1_000_000,
}


def cards() -> Iterator[tuple[str, bytes]]:
    for name, head in _HEADS.items():
        yield f"head-{name}", f"---\n{head}\n---\n# Card\n".encode()
    yield "never-ends", b"---\nbase_model: x\n"
    yield "latin-1", b"---\nbase_model: caf\xe9\n---\n"
    yield "zeros", bytes(100)


def prompts() -> Iterator[tuple[str, bytes]]:
    yield "latin-1", b"caf\xe9\n"
    yield "zeros", bytes(100)
    yield "surrogate", "\ud800".encode("utf-8", "surrogatepass")
    yield "long", b"q" * 1_000_000
    yield "spaces", b" " * 1_000_000
