"""Does a checkpoint fit a base? The only place that answers; names, shapes and settings decide.

A checkpoint that is loaded in half is the silent fault of this field, so both directions are
checked: every tensor of a checkpoint has a place in the base, and every place that the
checkpoint should fill is filled. The base is described by :class:`BaseShapes`, which is read from
headers (:meth:`BaseShapes.read`) or taken from a loaded model (:mod:`mashup.model.shapes`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mashup.checkpoint.adapter import Adapter, LoraModule, laid_out, turned
from mashup.checkpoint.config import AdapterConfig
from mashup.checkpoint.full import (
    average_problem,
    breaks_tie,
    open_model,
    tie_problem,
    untied,
    with_head,
)
from mashup.checkpoint.heads import body_of, head_of, is_classifier, without_head
from mashup.checkpoint.history import read_manifest
from mashup.checkpoint.identity import same_base
from mashup.checkpoint.locate import locate
from mashup.checkpoint.read import Checkpoint, Opened
from mashup.checkpoint.safetensors import Stored
from mashup.checkpoint.vocabulary import BY_TOKEN, Place, differ, embedding_place, read_tables
from mashup.errors import InputError, Problem

Shape = tuple[int, ...]
#: Code of the problem of a checkpoint that is for another base model.
FOREIGN = "checkpoint.foreign-base"
#: Code of the problem of a checkpoint that names no base.
UNNAMED = "checkpoint.base-not-named"
#: Code of the problems of an adapter that fits the base only in part.
PARTIAL = "checkpoint.fits-in-part"
#: Buffers that some versions of transformers saved. They are computed, not trained.
COMPUTED = (".rotary_emb.inv_freq", ".masked_bias", ".attn.bias")
_FIX = "give the base that it was trained on, or merge what fits with `allow_partial`"
_TIED = (
    "changes one of two tied weights: merges as a LoRA, and into a full checkpoint only with "
    "`untie`"
)
#: Settings that do not change what the tensors compute, or that are compared elsewhere (vocabulary,
#: tying). All others must be the same, sizes too: the shapes of tensors show them, but a
#: ``config.json`` that says something else would be written next to the merge.
_FREE = frozenset(
    (
        *("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "use_cache"),
        *("transformers_version", "initializer_range", "id2label", "label2id", "num_labels"),
        *("problem_type", "return_dict", "output_attentions", "output_hidden_states"),
        *("chunk_size_feed_forward", "pretraining_tp", "max_position_embeddings", "vocab_size"),
        *("tie_word_embeddings", "quantization_config", "router_aux_loss_coef"),
        *("output_router_logits", "gradient_checkpointing", "unsloth_version", "unsloth_fixed"),
        *("_attn_implementation", "_attn_implementation_autoset", "use_flash_attn"),
    )
)
#: Settings where null is a value and not "as the library has it".
_NULL = ("sliding_window", "rope_theta")
_FREE_ENDS = ("_token_id", "_token_index", "dropout", "_pdrop", "_drop")
#: Where the settings of rotary embeddings are: in transformers 5, and before it.
_ROPE = ("rope_parameters", "rope_scaling")


@dataclass(frozen=True)
class BaseShapes:
    """A base model by names, shapes and settings, without its numbers.

    Attributes:
        name: as the user gave it.
        shapes: name to shape of its tensors. The head of a tied model is among them.
        config: its ``config.json``.
        tied: whether its output head is its embedding.
        folder: where its tokenizer is; None for a model in memory.
        stored: name to place of its tensors, where they were read from files.
        buffers: names of ``shapes`` that a full checkpoint may lack.
        weights: digest and dtype of its weights, where they are loaded.
        widths: name to ``(d_out, d_in)`` of weights that are stored packed (4 bits).
        transposed: names of tensors that are stored ``(d_in, d_out)``. None where only shapes
            and ``config.json`` tell.
        embeddings: names of the weights of embeddings; None where it is not known.
        is_ordered: whether ``shapes`` has the parameters of a module in the module's order.
    """

    name: str
    shapes: Mapping[str, Shape]
    config: Mapping[str, Any]
    tied: bool
    folder: Path | None = None
    stored: Mapping[str, Stored] = field(default_factory=dict)
    buffers: frozenset[str] = frozenset()
    weights: tuple[str, str] | None = None
    widths: Mapping[str, Shape] = field(default_factory=dict)
    transposed: frozenset[str] | None = None
    embeddings: frozenset[str] | None = None
    is_ordered: bool = False

    @classmethod
    def read(cls, name: str | Path) -> BaseShapes:
        """Read the config and the headers of a base.

        Raises:
            InputError: a base that cannot be found or read, or one that is quantised.
        """
        folder = locate(name)
        settings, tensors, tied = open_model(folder)
        tensors = untied(tensors, tied=tied)
        shapes = {name: stored.shape for name, stored in tensors.items()}
        return cls(
            str(name), with_head(shapes) if tied else shapes, settings, tied, folder, tensors
        )

    @classmethod
    def of(cls, opened: Opened) -> BaseShapes:
        """A full checkpoint, where no base is given and others are compared with it."""
        shapes = {name: stored.shape for name, stored in opened.values.items()}
        return cls(
            str(opened.path), with_head(shapes) if opened.tied else shapes, opened.settings,
            opened.tied, opened.path, opened.values,
        )  # fmt: skip

    @property
    def is_renamed(self) -> bool:
        """Whether transformers may give its tensors other names than its files have.

        It does so for mixtures of experts and for models that see.
        """
        parts = (self.config.get("text_config"), self.config.get("vision_config"))
        sees = any(isinstance(part, dict) for part in parts)
        return sees or any("expert" in name for name in self.config)

    def below_heads(self, classifiers: Sequence[Opened]) -> BaseShapes:
        """What classifiers without their heads are compared with (:func:`.heads.body_of`)."""
        stored = body_of(self.stored, classifiers)
        shapes = {name: one.shape for name, one in stored.items()}
        return replace(self, stored=stored, shapes=with_head(shapes) if self.tied else shapes)

    @cached_property
    def own(self) -> Mapping[str, Shape]:
        """Shapes without the head of a tied model."""
        return untied(self.shapes, tied=self.tied)

    @cached_property
    def modules(self) -> tuple[str, ...]:
        """Names of all modules that hold a tensor, and of those that hold such modules."""
        names: dict[str, None] = {}
        for tensor in self.shapes:
            parts = tensor.split(".")[:-1]
            names |= dict.fromkeys(".".join(parts[:end]) for end in range(1, len(parts) + 1))
        return tuple(names)

    @cached_property
    def embedding(self) -> Place | None:
        """The base's folder and how many rows its embedding has; None without either."""
        return embedding_place(self.folder, self.own) if self.folder else None


@dataclass(frozen=True)
class Fit:
    """How a checkpoint fits a base.

    Attributes:
        problems: why it does not; empty when it does. A ``code`` says of what kind one is:
            ``FOREIGN`` (made for another base), ``UNNAMED`` (it names none), ``PARTIAL`` (an
            adapter of which only some tensors fit).
        notes: what a user should know, in sentences.
    """

    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_foreign(self) -> bool:
        """Whether the checkpoint is for another base."""
        return any(problem.code == FOREIGN for problem in self.problems)


def fit(
    opened: Opened,
    base: BaseShapes,
    *,
    accept_base: bool = False,
    align: bool = False,
    heads: bool = False,
) -> Fit:
    """Whether a checkpoint fits a base: by name, settings, tensors, tied weights, vocabulary.

    Args:
        opened: the checkpoint.
        base: the base.
        accept_base: take a checkpoint that names no base or another one, that was made on other
            weights, or whose settings differ. Tensors are compared all the same.
        align: accept another vocabulary where both tokenizers say which row is which token, as a
            merge does.
        heads: compare a classifier without its head, which a merge handles by itself, and with
            what is below the head of the base.
    """
    if heads and is_classifier(opened):
        opened = without_head(opened, head_of(opened, base.stored))
        base = base.below_heads([opened])
    where = str(opened.path)
    notes: list[str] = []
    problems = [] if accept_base else _stated(opened, base)
    if align:
        unlike, notes = _vocabulary(opened, base)
        problems += unlike
    try:
        shapes = _expected(opened, base)
    except InputError as error:
        return Fit((*problems, *error.problems), tuple(notes))
    places: Mapping[str, Shape] = base.own if opened.is_full else base.shapes
    if align:
        shapes |= _with_rows_of(opened, base)
    broken = breaks_tie(opened.apart, base.own, whole=opened.is_full, tied=base.tied)
    if broken and opened.is_full:
        places, shapes = with_head(places), with_head(shapes)  # the head is reported once
    elif broken and align:
        notes.append(_TIED)
    absent = _without_weights(opened, base) if opened.adapter else ()
    found = coverage(shapes, places, whole=opened.is_full, optional=base.buffers, absent=absent)
    found = replace(found, misshapen=(*found.misshapen, *_wrong_kind(opened, base)))
    deciding = _deciding(opened)
    if broken and opened.is_full and not found.is_foreign(deciding):
        problems.append(tie_problem(where, tied=base.tied))
    problems += found.problems(where, deciding)
    return Fit((*problems, *_buffers(opened, base)), tuple(notes))


def identity_problem(checkpoint: Checkpoint, base: str) -> Problem | None:
    """The problem of a checkpoint that names no base (``UNNAMED``) or another one (``FOREIGN``)."""
    where, same = str(checkpoint.path), same_base(checkpoint.base, base)
    if same is None:
        fix = "name it with 'mashup scan', or pass `accept_base` if it is this one"
        return Problem("base model not named", where, "a blank name", base, fix, UNNAMED)
    if same:
        return None
    what = _other_base(checkpoint.kind == "full")
    fix = "give the base that it names, or pass `accept_base` if both names mean one model"
    return Problem(what, where, checkpoint.base, base, fix, FOREIGN)


def weights_problem(folder: Path, digest: str, dtype: str) -> Problem | None:
    """The problem of a folder of ours that was made on other weights of the same shapes.

    ``mashup.json`` has the digest of the base that it was trained or measured on. It can be
    compared when the precision was the same.
    """
    about = read_manifest(folder)
    noted = about["sample"] if isinstance(about.get("sample"), dict) else about
    known = noted.get("base_digest")
    if not isinstance(known, str) or noted.get("base_dtype") != dtype or known == digest:
        return None
    found, expected = f"weights {known[:12]}", f"{digest[:12]}, those of the given base"
    fix = "give the base that it was made on, or pass `accept_base`"
    return Problem("made on other base weights", str(folder), found, expected, fix, FOREIGN)


def distance_problem(folder: Path, share: float, most: float) -> Problem:
    """The problem of a full checkpoint whose weights are too far from the base's.

    Args:
        folder: of the checkpoint.
        share: norm of the difference, as a share of the norm of the base's weights.
        most: the largest share of a model that was trained from the base.
    """
    found = f"{share:.2f} times the norm of the base's weights away from them"
    fix = "give the base that it was trained from, or pass `accept_base`"
    what = _other_base(True)
    return Problem(what, str(folder), found, f"at most {most}", fix, FOREIGN)


def settings_problem(
    where: Path, own: Mapping[str, Any], expected: Mapping[str, Any], source: Path | str
) -> Problem | None:
    """The problem of a full checkpoint whose settings compute something else than another's.

    Two models may have tensors of the same shapes and still split them into other heads, rotate
    by another base or use another activation. Only settings that both have are compared.

    Args:
        where: folder of the checkpoint.
        own: its ``config.json``.
        expected: the ``config.json`` that it is compared with.
        source: where ``expected`` is from.
    """
    differing = list(_differences(_language(own), _language(expected)))
    if not differing:
        return None
    fix = "give models of one architecture, or pass `accept_base` if the difference is meant"
    found, wanted = "; ".join(differing[:5]), f"the settings of {source}"
    return Problem("models compute differently", str(where), found, wanted, fix)


def _language(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the language model that are set, with those of its rotary embeddings."""
    inner = config.get("text_config")
    both = dict(config) | (inner if isinstance(inner, dict) else {})
    both.pop("text_config", None)
    for part in _ROPE:
        rope = both.pop(part, None)
        both |= rope if isinstance(rope, dict) else {}
    if both.get("use_sliding_window") is False:
        both["sliding_window"] = None
    return {name: value for name, value in both.items() if value is not None or name in _NULL}


def _differences(own: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    """Settings that both have and that differ, those inside others as well."""
    if own.get("model_type") != expected.get("model_type"):
        yield f"model_type is {own.get('model_type')!r}, not {expected.get('model_type')!r}"
    for name in sorted(own.keys() & expected.keys() - _FREE - {"model_type"}):
        one, other = own[name], expected[name]
        if name.endswith(_FREE_ENDS) or one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            yield from (f"{name}.{text}" for text in _differences(one, other))
        else:
            yield f"{name} is {str(one)[:60]}, not {str(other)[:60]}"


@dataclass(frozen=True)
class Coverage:
    """What of a checkpoint has a place in a base, and what does not.

    Attributes:
        fitting: names of the base's tensors that it changes.
        unused: tensors of the checkpoint that the base does not have.
        missing: tensors of the base that a full checkpoint lacks, or that the settings of an
            adapter name and that it has no weights for.
        misshapen: tensors of another shape, as ``name: shape, not shape``.
        is_full: whether it is of a full checkpoint.
        wanted: how many tensors the base has.
    """

    fitting: frozenset[str]
    unused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()
    is_full: bool = False
    wanted: int = 0

    @property
    def is_partial(self) -> bool:
        return bool(self.unused or self.missing or self.misshapen)

    def is_foreign(self, deciding: Collection[str] = ()) -> bool:
        """Whether the checkpoint is for another base.

        That is a full checkpoint that lacks more than half of the base's tensors, and an adapter
        of which no tensor fits.

        Args:
            deciding: the tensors of an adapter that count, all by default.
        """
        if not self.is_partial or self.is_full:
            return self.is_partial and 2 * len(self.fitting) < self.wanted
        return not (self.fitting.intersection(deciding) if deciding else self.fitting)

    def problems(self, where: str, deciding: Collection[str] = ()) -> list[Problem]:
        """One problem (``FOREIGN``) of a checkpoint for another base, else one a kind of misfit.

        Args:
            where: the checkpoint.
            deciding: as for :meth:`is_foreign`.
        """
        if self.is_foreign(deciding):
            return [self._foreign(where)]
        wanted = "all tensors of the base" if self.is_full else "weights for all that it names"
        return [
            *_misfit(self, "tensors without a place", where, self.unused, "tensors of the base"),
            *_misfit(self, "tensors missing", where, self.missing, wanted),
            *_misfit(self, "tensors of another shape", where, self.misshapen, "the base's shapes"),
        ]

    def _foreign(self, where: str) -> Problem:
        faults = [*self.misshapen, *(f"{name}: none in the base" for name in self.unused)]
        faults += [f"{name}: none in it" for name in self.missing]
        found = f"{len(faults)} tensors do not fit, the first {faults[0]}"
        fix = "give the base that it was trained on, or leave it out"
        what = _other_base(self.is_full)
        return Problem(what, where, found, "tensors of the base", fix, FOREIGN)

    def to_json(self) -> dict[str, list[str]]:
        return {
            "unused": list(self.unused),
            "missing": list(self.missing),
            "misshapen": list(self.misshapen),
        }


def _misfit(
    one: Coverage, what: str, where: str, names: tuple[str, ...], expected: str
) -> list[Problem]:
    if not names:
        return []
    found = f"{len(names)}, the first {names[0]}"
    return [Problem(what, where, found, expected, _FIX, "" if one.is_full else PARTIAL)]


def coverage(
    shapes: Mapping[str, Sequence[Shape]],
    base: Mapping[str, Shape],
    *,
    whole: bool,
    optional: Collection[str] = (),
    absent: Iterable[str] = (),
) -> Coverage:
    """Match what a checkpoint changes with the tensors of the base, by name and shape.

    Args:
        shapes: name of a base tensor to the shapes of what changes it (a value, a LoRA, both).
        base: name to shape.
        whole: whether the checkpoint is a model, which must then have all of the base's tensors.
        optional: names that it may lack even then.
        absent: what else it should have and has not.
    """
    names = [name for name in shapes if name in base]
    wrong = {name: _wrong_shape(shapes[name], base[name]) for name in names}
    lacking = [name for name in base if name not in shapes and name not in optional]
    return Coverage(
        frozenset(name for name in names if not wrong[name]),
        _trained(name for name in shapes if name not in base),
        (*_trained(lacking if whole else ()), *absent),
        tuple(f"{name}: {wrong[name]}" for name in names if wrong[name]),
        whole,
        len(base),
    )


def _trained(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if not name.endswith(COMPUTED))


def _wrong_shape(shapes: Sequence[Shape], expected: Shape) -> str | None:
    wrong = next((shape for shape in shapes if tuple(shape) != expected), None)
    return None if wrong is None else f"{list(wrong)}, not {list(expected)}"


def shape_of(module: LoraModule) -> Shape:
    """The shape of the base's tensor that a LoRA changes."""
    both = (module.d_out, module.d_in)
    turned = both[::-1] if module.layout.endswith("transposed") else both
    return turned if module.experts == 1 else (module.experts, *turned)


def shape_of_rows(ids: Sequence[int], new: Shape, base: Shape) -> Shape:
    """The shape that an embedding needs to take new rows: its own where all of them fit."""
    rows = base[0] if base else 0
    fits = 0 <= min(ids) <= max(ids) < rows
    wrong = min(ids) if min(ids) < 0 else max(ids) + 1
    return (rows if fits else wrong, *new[1:])


def arranged(adapter: Adapter, base: BaseShapes) -> Adapter:
    """The adapter with the layouts that the base's tensors have.

    Raises:
        InputError: experts whose layout the base's shapes do not show.
    """
    known = {name: m for name, m in adapter.modules.items() if m.tensor in base.shapes}
    if base.transposed is None:
        placed = turned(laid_out(known, base.shapes), base.config)
    else:
        placed = {name: _as_stored(module, base.transposed) for name, module in known.items()}
    return replace(adapter, modules={**adapter.modules, **placed})


def _as_stored(module: LoraModule, transposed: Collection[str]) -> LoraModule:
    if module.kind == "embedding":
        return module
    is_transposed = module.tensor in transposed
    if module.experts > 1:
        return replace(module, layout="experts_transposed" if is_transposed else "experts")
    return replace(module, layout="transposed" if is_transposed else "linear")


def _expected(opened: Opened, base: BaseShapes) -> dict[str, Sequence[Shape]]:
    """Name of a base tensor to the shapes that the checkpoint expects of it.

    Biases that the base lacks are left out: a LoRA brings its own (``lora_bias``).

    Raises:
        InputError: experts whose layout the base's shapes do not show.
    """
    if opened.adapter is None:
        return {name: [stored.shape] for name, stored in opened.values.items()}
    adapter = arranged(opened.adapter, base)
    shapes: dict[str, list[Shape]] = {}
    for name, stored in (*adapter.saved.items(), *adapter.originals.items()):
        shapes.setdefault(name, []).append(stored.shape)
    for module in adapter.modules.values():
        shapes.setdefault(module.tensor, []).append(_shape_in(module, base))
    for name, (_, stored) in adapter.biases.items():
        if name in base.shapes:
            shapes.setdefault(name, []).append(stored.shape)
    for name, (ids, new) in adapter.rows.items():
        place = base.shapes.get(name, ())
        shapes.setdefault(name, []).append(shape_of_rows(ids, new.shape, place))
    return dict(shapes)


def _shape_in(module: LoraModule, base: BaseShapes) -> Shape:
    """:func:`shape_of`, where the base stores a weight packed or one expert as a stack."""
    own, place = shape_of(module), base.shapes.get(module.tensor, ())
    if base.widths.get(module.tensor) == (module.d_out, module.d_in):
        return place
    is_stack = module.kind == "parameter" and module.experts == 1 and len(place) == 3
    return (1, *own) if is_stack else own


def _deciding(opened: Opened) -> list[str]:
    """Names of the tensors that decide whether a checkpoint is for another base."""
    modules = opened.adapter.modules.values() if opened.adapter else ()
    return [module.tensor for module in modules]


def _stated(opened: Opened, base: BaseShapes) -> list[Problem]:
    """Another name, other weights, or other settings that no tensor's shape shows."""
    found = [identity_problem(opened.checkpoint, base.name)]
    if opened.is_full:
        found.append(settings_problem(opened.path, opened.settings, base.config, base.name))
    if base.weights:
        found.append(weights_problem(opened.path, *base.weights))
    return [problem for problem in found if problem]


def _without_weights(opened: Opened, base: BaseShapes) -> tuple[str, ...]:
    """What the settings name in this base and the adapter has no weights for."""
    config, adapter = opened.config, opened.adapter
    assert config is not None
    assert adapter is not None
    targets, saved = config.targets, adapter.saved
    found: dict[str, None] = {}
    for name in base.modules:
        if targets.is_known and targets.match(name) and name not in adapter.modules:
            found[name] = None
        if targets.saves(name):
            inner = (tensor for tensor in base.shapes if tensor.startswith(f"{name}."))
            found |= dict.fromkeys(tensor for tensor in inner if tensor not in saved)
    for name in base.shapes.keys() - base.buffers:
        if targets.match_parameter(name) and name not in adapter.modules:
            found[name] = None
        if _is_trained_bias(name, config, adapter) and name not in saved:
            found[name] = None
    return tuple(sorted(found))


def _is_trained_bias(name: str, config: AdapterConfig, adapter: Adapter) -> bool:
    module, _, leaf = name.rpartition(".")
    if leaf != "bias" or config.bias == "none":
        return False
    return config.bias == "all" or module in adapter.modules


def _wrong_kind(opened: Opened, base: BaseShapes) -> Iterator[str]:
    """LoRAs of a layer that is of another kind, or that wraps parameters in another order."""
    for module in opened.adapter.modules.values() if opened.adapter else ():
        if module.kind == "parameter":
            if base.is_ordered and _is_out_of_order(module, opened, base):
                yield f"{module.name}: wrapped in another order than the base holds its parameters"
        elif base.embeddings is not None and module.tensor in base.shapes:
            is_embedding = module.tensor in base.embeddings
            if is_embedding != (module.kind == "embedding"):
                wanted = "an embedding" if module.kind == "embedding" else "a linear layer"
                yield f"{module.tensor}: a LoRA for {wanted}, which it is not"


def _is_out_of_order(lora: LoraModule, opened: Opened, base: BaseShapes) -> bool:
    """PEFT wraps a module's parameters in the order in which the module holds them.

    The file's depths were read as transformers names experts. The depth of a LoRA is the number
    of ``base_layer`` in its name, and the first parameter has the most.
    """
    assert opened.adapter is not None
    path = lora.name.rpartition(".")[0]
    order = [name for name in base.shapes if name.rpartition(".")[0] == path]
    if lora.name not in order:
        return False
    here = order.index(lora.name)
    others = (opened.adapter.modules.get(name) for name in order[here + 1 :])
    return any(other is not None and _depth(other) > _depth(lora) for other in others)


def _depth(lora: LoraModule) -> int:
    return lora.A.name.count(".base_layer.")


def _vocabulary(opened: Opened, base: BaseShapes) -> tuple[list[Problem], list[str]]:
    """Whether rows can be aligned by token, where the vocabularies are not one."""
    own, known = opened.embedding, base.embedding
    if own is None or known is None or not differ(known, own):
        return [], []
    try:
        tables = read_tables(known, [own], None)
    except InputError as error:
        return list(error.problems), []
    if tables.are_one:
        return [], []
    new = len(tables.parents[0].keys() - tables.base.keys())
    lost = len(tables.base.keys() - tables.parents[0].keys())
    return [], [
        f"another vocabulary than the base's ({new} tokens more, {lost} fewer): "
        "a merge aligns rows by token"
    ]


def _with_rows_of(opened: Opened, base: BaseShapes) -> dict[str, Sequence[Shape]]:
    """What the checkpoint changes, as if its vocabulary were aligned with the base's already."""
    rows = base.embedding[1] if base.embedding else 0
    return {
        name: [(rows, *stored.shape[1:])]
        for name, stored in opened.values.items()
        if rows and name.endswith(BY_TOKEN)
    }


def _buffers(opened: Opened, base: BaseShapes) -> list[Problem]:
    """Tensors that are no weights and not as the base's."""
    both = [n for n in opened.values if n in base.stored and not n.endswith(COMPUTED)]
    found = (average_problem(n, opened.values[n], base.stored[n]) for n in both)
    return [problem for problem in found if problem]


def _other_base(is_full: bool) -> str:
    return "full checkpoint of another base" if is_full else "adapter of another base"
