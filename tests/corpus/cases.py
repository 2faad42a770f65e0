"""The corpus: every named way to spoil a good checkpoint.

Run as a script it writes one case, to look at it:
``PYTHONPATH=tests python -m corpus.cases lora/adapter_config.json/r=text some-folder``,
and without arguments it lists the names.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from corpus import cards, folders, seeds, tensors, values
from corpus.seeds import ADAPTER, CONFIG, INDEX, LORA, MODEL, SEEDS, TOKENIZER, Files

Texts = Iterable[tuple[str, bytes]]


@dataclass(frozen=True)
class Case:
    """A spoiled checkpoint: ``seed/file/change``, or what else a command reads.

    Attributes:
        right: the answer where it is known without an oracle: ``fine`` (that of the good files),
            ``accepted`` or ``refused``.
    """

    name: str
    files: Files
    right: str = ""

    @property
    def seed(self) -> str:
        return self.name.split("/", 1)[0]

    @property
    def file(self) -> str:
        return self.name.split("/")[1]


def _texts(seed: str, file: str, made: Texts) -> Iterator[Case]:
    good = SEEDS[seed]()
    for change, content in made:
        yield Case(f"{seed}/{file}/{change}", {**good, file: content})


def _json(seed: str, file: str, paths: list[tuple] | None = None) -> Iterator[Case]:
    text = SEEDS[seed]()[file]
    assert isinstance(text, bytes)
    yield from _texts(seed, file, values.whole(text))
    yield from _texts(seed, file, values.changes(json.loads(text), paths))


def _settings() -> Iterator[Case]:
    """Fields of PEFT that the seed does not have, and one that nobody knows."""
    good = json.loads(SEEDS["lora"]()[ADAPTER])
    for field in (*_FIELDS, "use_newlora"):
        made = values.changes(good | {field: None}, [(field,)])
        yield from _texts("lora", ADAPTER, made)
    for name, text in _REGEXES.items():
        for field in ("rank_pattern", "alpha_pattern"):
            changed = good | {field: good[field] | {text: 3}}
            yield from _texts("lora", ADAPTER, [(f"{field}-{name}", seeds.document(changed))])


_FIELDS = (
    *("modules_to_save", "layers_to_transform", "layers_pattern", "exclude_modules"),
    *("use_dora", "lora_bias", "trainable_token_indices", "target_parameters", "loftq_config"),
    *("auto_mapping", "peft_version", "use_qalora", "layer_replication", "megatron_config"),
    *("megatron_core", "runtime_config", "ensure_weight_tying", "eva_config", "use_bdlora"),
)
_REGEXES = {
    "unclosed": "(",
    "deep": "(" * 5000 + ")" * 5000,
    "long": "a" * 1_000_000,
    "group": "(?P<x>a)(?P<x>b)",
    "repeat": "a{99999999999}",
    "matches-all": ".*",
    "empty": "",
}


def _weights(seed: str, file: str, many: int) -> Iterator[Case]:
    data = SEEDS[seed]()[file]
    assert isinstance(data, bytes)
    yield from _texts(seed, file, tensors.header_fields(data, many))
    for make in (tensors.header_texts, tensors.cuts, tensors.offsets, tensors.numbers):
        yield from _texts(seed, file, make(data))


def _folders(seed: str, make: Callable[[Files], Iterator[tuple[str, Files]]]) -> Iterator[Case]:
    for change, files in make(SEEDS[seed]()):
        yield Case(f"{seed}/folder/{change}", files)


def cases() -> Iterator[Case]:
    """All cases, in an order that does not change; no two have the same name."""
    shard = "model-00002-of-00003.safetensors"
    log = [("log_history",), ("log_history", 1), ("log_history", 1, "eval_loss")]
    yield from _json("lora", ADAPTER)
    yield from _settings()
    yield from _weights("lora", LORA, 3)
    yield from _weights("single", MODEL, 1)
    yield from _weights("sharded", shard, 1)
    yield from _json("single", CONFIG)
    yield from _json("tied", CONFIG, [("tie_word_embeddings",), ("vocab_size",), ("model_type",)])
    yield from _json("sharded", INDEX)
    yield from _json("tied", INDEX, [("weight_map",), ("metadata",)])
    yield from _json("lora", "trainer_state.json", [("best_model_checkpoint",), *log])
    yield from _json("single", "mashup.json")
    yield from _json("lora", "mashup.json", [("task",), ("task", "name"), ("metrics",)])
    yield from _json(
        "single", TOKENIZER, [("model",), ("model", "vocab"), ("model", "vocab", "t3")]
    )
    for file in ("tokenizer_config.json", "generation_config.json"):
        yield from _json("single", file)
    for seed in ("single", "lora"):
        yield from _texts(seed, "README.md", cards.cards())
        yield from _texts(seed, "chat_template.jinja", cards.prompts())
    yield from _texts("lora", "train_prompts.txt", cards.prompts())
    for seed in ("lora", "single", "sharded"):
        yield from _folders(seed, folders.specials)
    for seed in ("sharded", "tied"):
        yield from _folders(seed, folders.indices)


def main(arguments: list[str]) -> None:
    if not arguments:
        print(*(case.name for case in cases()), sep="\n")
        return
    name, folder = arguments
    (case,) = (case for case in cases() if case.name == name)
    print(seeds.write(case.files, Path(folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
