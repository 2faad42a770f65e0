"""Model cards: the head as the Hub reads it, how to load the folder, and how it was made.

Fields of the head: https://huggingface.co/docs/hub/model-cards. A base is named there only by
its Hub id: a path of one computer means nothing on another.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mashup.checkpoint.history import card_head
from mashup.checkpoint.identity import read_config

CARD = "README.md"
_HUB_CACHE = re.compile(r"models--(?P<id>[^/]+)/snapshots/")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
#: Keys of a card's head that stay true of what is made of a model.
_KEPT = ("license", "license_name", "license_link", "language", "pipeline_tag")
_LICENSE = _KEPT[:3]
_LORA = """from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
model = AutoPeftModelForCausalLM.from_pretrained("PATH")  # a LoRA, put on its base
tokenizer = AutoTokenizer.from_pretrained("{tokenizer}")"""
_MODEL = """from transformers import AutoModelForCausalLM, AutoTokenizer
path = "PATH"  # this folder
model = AutoModelForCausalLM.from_pretrained(path)
tokenizer = AutoTokenizer.from_pretrained(path)"""


@dataclass(frozen=True)
class Card:
    """What a card says.

    Attributes:
        title: of the page.
        text: what it is, in Markdown.
        base: name or folder of the base model, "" if it is not known.
        is_lora: whether it is an adapter, else a full checkpoint.
        relation: to the base, as the Hub calls it: adapter, merge or finetune.
        command: that makes it again.
        kept: of the heads of those that it was made from (:func:`kept_heads`).
        tags: in addition to that of the base.
        has_tokenizer: whether the folder has one; else it is the base's.
    """

    title: str
    text: str
    base: str
    is_lora: bool
    relation: str
    command: str
    kept: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    has_tokenizer: bool = True

    def __str__(self) -> str:
        return f"""---
{self._head()}---

# {self.title}

{self.text}

## Load

```python
{self._code()}
```

## Make it again

```bash
{self.command}
```
"""

    def _head(self) -> str:
        known = hub_id(self.base)
        tags = [f"base_model:{self.relation}:{known}"] if known else []
        head = {
            **({"base_model": known} if known else {}),
            "library_name": "peft" if self.is_lora else "transformers",
            "pipeline_tag": "text-generation",
            **self.kept,
            "tags": [*tags, *(["lora"] if self.is_lora else []), "mashup-learning", *self.tags],
        }
        why = "" if known else "# base_model is left out: no Hub id is known of the base\n"
        return why + yaml.safe_dump(head, sort_keys=False, allow_unicode=True)

    def _code(self) -> str:
        if not self.is_lora:
            return _MODEL
        return _LORA.format(tokenizer="PATH" if self.has_tokenizer else hub_id(self.base) or "BASE")


def hub_id(name: str) -> str:
    """The id on the Hub of a base model, "" where it is not known.

    Args:
        name: an id, a folder of the Hub's cache, or another folder, whose ``config.json`` may
            say where the model is from (``_name_or_path``).
    """
    cached = _HUB_CACHE.search(name.replace("\\", "/"))
    if cached:
        return cached["id"].replace("--", "/", 1)
    if not Path(name).exists():
        return name if _HUB_ID.fullmatch(name) else ""
    origin = read_config(Path(name)).get("_name_or_path") if Path(name).is_dir() else ""
    known = isinstance(origin, str) and origin != name and not Path(origin).exists()
    return hub_id(origin) if known and isinstance(origin, str) else ""


def kept_heads(folders: Sequence[Path]) -> dict[str, Any]:
    """License, language and the like from the cards of folders, the first of them first.

    A license is kept where all cards that name one agree.
    """
    kept: dict[str, Any] = {}
    for head in map(card_head, folders):
        kept |= {key: head[key] for key in _KEPT if key in head and key not in kept}
    agree = len(licenses(folders)) == 1
    return {key: value for key, value in kept.items() if key not in _LICENSE or agree}


def licenses(folders: Sequence[Path]) -> list[str]:
    """The licenses that the cards of folders name, each once."""
    heads = map(card_head, folders)
    return sorted({str(head["license"]) for head in heads if "license" in head})


def command_of(verb: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> str:
    """A command line: options that are None or False are left out, True is a flag alone."""
    words = ["mashup", verb, *map(str, arguments)]
    for name, value in options.items():
        if value is None or value is False:
            continue
        words.append(f"--{name.replace('_', '-')}")
        values = value if isinstance(value, list | tuple) else [value]
        words += [] if value is True else [str(one) for one in values]
    return shlex.join(words)


def cell(text: str) -> str:
    """Text in a table of Markdown."""
    return text.replace("|", "\\|")
