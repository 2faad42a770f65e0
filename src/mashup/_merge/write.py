"""Write a prepared merge into an empty folder: weights, settings, tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mashup._merge.carry import carry_model_files, carry_prompts, carry_tokenizer, differences
from mashup._merge.energy import Energy
from mashup._merge.full import FullPlan, write_full
from mashup._merge.lora import nothing_left, write_lora
from mashup._merge.manifest import describe_full, describe_lora, describe_parents
from mashup._merge.parents import Parent
from mashup._merge.peft_config import peft_config
from mashup._merge.prepare import Options, Prepared
from mashup.checkpoint.card import kept_heads, licenses
from mashup.checkpoint.vocabulary import BY_TOKEN
from mashup.errors import InputError
from mashup.files import to_json, write_text
from mashup.model import Base, name_of
from mashup.progress import Progress


def write_parts(
    folder: Path,
    prepared: Prepared,
    base: Base | str | Path | None,
    options: Options,
    progress: Progress,
) -> dict[str, Any]:
    """Everything but manifest and card; returns the manifest."""
    parents, recipe, plan = prepared.in_order, prepared.recipe, prepared.plan
    given = name_of(base) if base is not None else ""
    name = given or _named_base(parents)
    about = describe_parents(prepared, name, given)
    if isinstance(plan, FullPlan):
        written = write_full(folder, plan, recipe, progress)
        _refuse_the_base(prepared, written)
        _carry_full(folder, prepared)
        about |= describe_full(prepared, written) | {"dtype": plan.dtype}
    else:
        dtype = options.torch_dtype() or torch.float32
        adapter = write_lora(folder, plan, recipe, dtype, progress)
        config = peft_config(parents, plan, adapter, name)
        write_text(folder / "adapter_config.json", to_json(config))
        about |= describe_lora(prepared, adapter) | {"dtype": str(dtype).removeprefix("torch.")}
        if isinstance(base, Base):
            base.tokenizer.save_pretrained(folder)
        else:
            carry_tokenizer([p.checkpoint.path for p in parents], folder)
    carry_prompts(parents, folder)
    source = card_source(prepared)
    cards = [*([source] if source else []), *(p.checkpoint.path for p in parents)]
    about |= {"card": kept_heads(cards), "options": options.asked()}
    notes = [*about.get("notes", []), *differences(parents, folder), *_licenses(cards)]
    about |= {"notes": notes} if notes else {}
    return about | {"has_tokenizer": (folder / "tokenizer_config.json").exists()}


def _licenses(cards: Sequence[Path]) -> list[str]:
    named = licenses(cards)
    return [f"the licenses differ ({', '.join(named)}): the card names none"] if named[1:] else []


def _named_base(parents: Sequence[Parent]) -> str:
    return next((p.checkpoint.base for p in parents if p.checkpoint.base), "")


def _refuse_the_base(prepared: Prepared, written: Energy) -> None:
    """Refuse a model that is its base to the bit, or would be but for rounding.

    Raises:
        InputError: no tensor changes, and no row of a token is added.
    """
    reference = prepared.reference
    assert reference is not None
    unchanged = written.changed == 0 or written.total == 0
    if reference.is_base and not reference.bases and unchanged:
        raise InputError(nothing_left(prepared.recipe))


def _carry_full(folder: Path, prepared: Prepared) -> None:
    reference = prepared.reference
    assert reference is not None
    assert isinstance(prepared.plan, FullPlan)
    moved = bool(reference.bases)
    rows = [one.shape[0] for one in prepared.plan.tensors if one.name.endswith(BY_TOKEN)]
    trained = [p.checkpoint.path for p in prepared.in_order if p.is_full]
    known = [reference.vocabulary, *trained] if moved else [*trained, reference.folder]
    carry_model_files(
        card_source(prepared) or reference.folder,
        folder,
        tied=reference.tied,
        rows=rows[0] if moved else None,
        dtype=prepared.plan.dtype,
        tokenizer=carry_tokenizer(known, folder),
    )


def card_source(prepared: Prepared) -> Path | None:
    """The folder whose settings and card the result goes by: the base's, or the first parent's."""
    reference = prepared.reference
    if reference is None or reference.is_base:
        return reference.folder if reference else None
    return prepared.in_order[0].checkpoint.path
