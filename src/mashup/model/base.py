"""Load a base model once, with its tokenizer and a digest of its weights."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import os
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mashup.checkpoint import check_base
from mashup.checkpoint.heads import class_of
from mashup.checkpoint.identity import computed
from mashup.errors import InputError, Problem, UsageError, raise_all
from mashup.files import digest_of

AUTO = "auto"
#: Ends of the names of transformers' classes: of models that write text, and of others.
_WRITING = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_OTHERS = ("Classification", "ForMaskedLM", "ForQuestionAnswering", "ForMultipleChoice")
_NO_CONTEXT = 1_000_000  # tokenizers without a limit say a huge number


@dataclass(frozen=True)
class Base:
    """A base model in memory.

    Attributes:
        name: Hub id or path, as given.
        model: a causal language model in eval mode; nothing here changes it for good.
        tokenizer: its tokenizer.
        revision: commit on the Hub, None for a local folder.
        attention: how it attends, as it was asked for; ``auto`` is the choice of transformers.
    """

    name: str
    model: Any
    tokenizer: Any
    revision: str | None = None
    attention: str = AUTO

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def context(self) -> int:
        """The longest sequence that the model takes, in tokens."""
        config = self.model.config.get_text_config()
        limits = (
            getattr(config, "max_position_embeddings", None),
            getattr(self.tokenizer, "model_max_length", None),
        )
        return min((int(n) for n in limits if n and n < _NO_CONTEXT), default=_NO_CONTEXT)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the configuration and of the names, types and bytes of all weights."""
        return digest_of(computed(self.model.config.to_dict()), weights_digest(self.model))

    @cached_property
    def norm(self) -> float:
        """Frobenius norm of all weights of two dimensions and more; norms' weights tell little."""
        matrices = (p.detach() for p in self.model.parameters() if p.dim() > 1)
        norms = [torch.linalg.vector_norm(one, dtype=torch.float32) for one in matrices]
        return float(torch.stack(norms).norm())

    @property
    def asked(self) -> dict[str, str]:
        """What a key holds in addition to weights and precision; nothing by default."""
        return {} if self.attention == AUTO else {"attention": self.attention}

    @property
    def about(self) -> dict[str, str]:
        """What it is and how it computes, for records of what was done on it."""
        known = {"name": self.name, "digest": self.digest, "dtype": str(self.dtype)}
        return known | self.asked

    @cached_property
    def sees(self) -> bool:
        """Whether it takes pictures."""
        return "pixel_values" in inspect.signature(self.model.forward).parameters

    def processor(self, row: str) -> Any:
        """What turns texts and pictures into its inputs, loaded once.

        Args:
            row: that has pictures, for messages.

        Raises:
            InputError: it does not see, or its processor cannot be loaded.
        """
        if not self.sees:
            found, fix = f"rows with pictures: {row}", "give a base that sees, or rows of text"
            raise InputError(Problem("base does not see", self.name, found, "rows of text", fix))
        return self._processor

    @cached_property
    def _processor(self) -> Any:
        from transformers import AutoProcessor

        code = type(self.model).__module__.startswith("transformers_modules")  # it was trusted
        try:
            with quiet_transformers():
                made = AutoProcessor.from_pretrained(
                    self.name, trust_remote_code=code, revision=self.revision
                )
        except Exception as error:  # as for a base that is loaded
            found = " ".join(str(error).split())[:300] or type(error).__name__
            fix = (
                "copy processor_config.json or preprocessor_config.json of the base into its "
                "folder; some processors need torchvision: pip install 'mashup-learning[pictures]'"
            )
            raise InputError(
                Problem("no processor of the base", self.name, found, fix=fix)
            ) from error
        if not hasattr(made, "image_processor") or not getattr(made, "chat_template", None):
            found = f"{type(made).__name__} without an image processor or a chat template"
            fix = "copy processor_config.json and chat_template.jinja of the base into its folder"
            raise InputError(Problem("no processor of the base", self.name, found, fix=fix))
        return made

    @property
    def pad_id(self) -> int:
        """A token id to pad with; it is masked, so any id does."""
        tokenizer = self.tokenizer
        ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        return next(token for token in ids if token is not None)


#: A base as functions take it: loaded, named, or a transformers model in memory.
AnyBase = Base | str | Path | nn.Module


def load_base(
    name: AnyBase,
    *,
    tokenizer: Any = None,
    dtype: str = AUTO,
    trust_remote_code: bool = False,
    device: str = AUTO,
    attn_implementation: str = AUTO,
    load_in_4bit: bool = False,
) -> Base:
    """Load a causal language model, or a model that sees and answers in text, and its tokenizer.

    Args:
        name: Hub id or folder; or a transformers model in memory, which may be quantised. A model
            in memory is put in eval mode and stays where it is, and the other arguments but
            ``tokenizer`` do not apply. It is known by the digest of its configuration, parameters
            and, if it is quantised, buffers. A :class:`Base` is given back.
        tokenizer: of the model in memory, or instead of the model's own; by default it is loaded
            from where the model is from.
        dtype: ``auto`` (bfloat16 where native, else float32) or a torch type's name.
        trust_remote_code: run code from the model's repository; never on by itself.
        device: ``auto`` (CUDA, MPS, CPU) or a torch device.
        attn_implementation: ``auto``, or a name that transformers knows: ``eager``, ``sdpa``,
            ``flash_attention_2``, ... Results differ by rounding.
        load_in_4bit: linear layers in 4 bits (NF4, double quantisation: arXiv 2305.14314),
            through bitsandbytes.

    Raises:
        UsageError: bitsandbytes is not installed.
        InputError: not found, needs remote code, damaged or incomplete, cannot be loaded, or
            cannot attend like that; no tokenizer; an adapter on the model in memory.
    """
    if isinstance(name, Base):
        return name
    if isinstance(name, nn.Module):
        return _in_memory(name, tokenizer)
    check_base(name)
    from transformers import AutoConfig, AutoTokenizer

    where = named_device(device)
    computes = parse_dtype(dtype, where)
    small = _four_bit(where, computes) if load_in_4bit else {}
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    attends = {} if attn_implementation == AUTO else {"attn_implementation": attn_implementation}
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(str(name), **options)
            raise_all([_writes_no_text(str(name), config, class_of(config.to_dict()))])
            model, info = auto_class(config).from_pretrained(
                str(name), dtype=computes, output_loading_info=True,
                ignore_mismatched_sizes=True, **options, **attends, **small,
            )  # fmt: skip
            tokenizer = tokenizer or AutoTokenizer.from_pretrained(str(name), **options)
        (model if small else model.to(where)).eval()
    except InputError:
        raise
    except Exception as error:  # files of others, read by libraries whose errors have no base
        raise InputError(_cannot_load(str(name), attn_implementation, error)) from error
    raise_all([_incomplete(str(name), info), _odd_length(str(name), tokenizer)])
    revision = getattr(model.config, "_commit_hash", None)
    return Base(str(name), model, tokenizer, revision, attn_implementation)


def auto_class(config: Any) -> Any:
    """transformers' class that loads a model of this config: one that sees, or a language model."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto import modeling_auto

    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING
    seeing = modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    sees = type(config) in seeing and type(config) not in causal
    return AutoModelForImageTextToText if sees else AutoModelForCausalLM


def name_of(base: AnyBase) -> str:
    """What a base is called: as it was given, or as its configuration has it."""
    if isinstance(base, Base):
        return base.name
    if isinstance(base, nn.Module):
        recorded = getattr(getattr(base, "config", None), "_name_or_path", "")
        return str(recorded or type(base).__name__)
    return str(base)


def _in_memory(model: Any, tokenizer: Any) -> Base:
    """A loaded model as a base.

    Raises:
        InputError: no transformers model, an adapter on it, or a tokenizer that is not found.
    """
    name = name_of(model)
    if not hasattr(getattr(model, "config", None), "get_text_config"):
        found, expected = type(model).__name__, "a causal language model of transformers"
        raise InputError(Problem("cannot load base model", name, found, expected))
    raise_all([_writes_no_text(name, model.config, type(model).__name__)])
    if getattr(model, "peft_config", None):
        fix = "give the model before PEFT changed it, or load it again"
        raise InputError(Problem("base has an adapter on it", name, type(model).__name__, fix=fix))
    if tokenizer is None:
        from transformers import AutoTokenizer

        try:
            with quiet_transformers():
                tokenizer = AutoTokenizer.from_pretrained(name)
        except Exception as error:  # as for a base that is loaded
            found, fix = str(error)[:300], "give it: mashup.load_base(model, tokenizer=...)"
            raise InputError(Problem("no tokenizer of the base", name, found, fix=fix)) from error
    model.eval()
    return Base(name, model, tokenizer, getattr(model.config, "_commit_hash", None))


def _four_bit(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for weights in 4 bits.

    Raises:
        UsageError: bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        found, fix = "it is not installed", "pip install bitsandbytes, or leave out `load_in_4bit`"
        problem = Problem("cannot load in 4 bits", "`load_in_4bit`", found, "bitsandbytes", fix)
        raise UsageError(problem)
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )  # fmt: skip
    return {"quantization_config": config, "device_map": {"": device}}


def skeleton(folder: Path) -> Any:
    """The model that ``config.json`` describes, without weights; None if transformers has none."""
    from transformers import AutoConfig

    try:
        check_base(folder)
        with quiet_transformers(), torch.device("meta"):
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            return auto_class(config).from_config(config)
    except Exception:  # a config may be wrong in a dozen ways, and each raises another error
        return None


def named_device(name: str) -> torch.device:
    """The named device, if it is there.

    Raises:
        UsageError: torch does not know it, or this machine does not have it.
    """
    try:
        device = pick_device() if name == "auto" else torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:200]
        unknown = "device string" in reason or "Expected one of" in reason
        found = name if unknown else f"{name}: {reason}"
        expected = f"auto, cpu, cuda, cuda:N or mps; here it is {pick_device()}"
        fix = "give `device` auto"
        raise UsageError(Problem("no such device", "`device`", found, expected, fix)) from error
    return device


def _writes_no_text(name: str, config: Any, named: str) -> Problem | None:
    """The problem of an encoder or a classifier, which can be merged, and not scored or trained.

    An encoder for masked words would also load as a language model, and see the answers.

    Args:
        name: of the base.
        config: of the base.
        named: its class.
    """
    from transformers.models.auto import modeling_auto as known

    kind = type(config)
    causal = kind in known.MODEL_FOR_CAUSAL_LM_MAPPING
    sees = kind in known.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    writes = named.endswith(_WRITING) or getattr(config, "is_decoder", False)
    masked = kind in known.MODEL_FOR_MASKED_LM_MAPPING and not writes
    other = not (causal or sees) and kind.__module__.startswith("transformers.")
    if getattr(config, "auto_map", None) or not (masked or other or named.endswith(_OTHERS)):
        return None
    found = (
        f"{named or kind.__name__}: an encoder, a classifier or another model that writes no text"
    )
    fix = (
        "scan, check and merge take classifiers; to score and train, give a model that writes text"
    )
    return Problem("base writes no text", name, found, "a causal language model", fix)


def _cannot_load(name: str, attention: str, error: Exception) -> Problem:
    whole = " ".join(str(error).split())
    found = whole[:300]
    if attention != AUTO and "attention" in whole.lower():
        fix = "install what it needs, or give `attn_implementation` auto"
        expected = "what this model and machine can do: eager, sdpa, flash_attention_2"
        return Problem(
            "cannot attend like that", f"`attn_implementation` {attention}", found, expected, fix
        )
    if "trust_remote_code" in whole:
        fix = "read the model's code, then pass `trust_remote_code` if you trust it"
        return Problem("base model wants to run its own code", name, found, "a known model", fix)
    fix = "copy or download it again; mashup check tells more of a damaged file"
    found = found or type(error).__name__
    return Problem("cannot load base model", name, found, "a causal language model", fix)


def _incomplete(name: str, info: Mapping[str, Any]) -> Problem | None:
    """The problem of weights that transformers would fill with random numbers."""
    faults = [f"{tensor}: not in the files" for tensor in sorted(info["missing_keys"])]
    for tensor, stored, wanted in sorted(info["mismatched_keys"]):
        faults.append(f"{tensor}: {tuple(stored)} in the files, {tuple(wanted)} by config.json")
    if not faults:
        return None
    found = f"{len(faults)} tensors differ from config.json, the first {faults[0]}"
    fix = "copy or download it again: its files are not of one model, or not all there"
    expected, code = "all weights of the model", "base.incomplete"
    return Problem("base model is incomplete", name, found, expected, fix, code)


def _odd_length(name: str, tokenizer: Any) -> Problem | None:
    """The problem of a tokenizer whose length limit cannot be compared with a number."""
    limit = getattr(tokenizer, "model_max_length", None)
    if limit is None or isinstance(limit, int | float):
        return None
    fix = "copy tokenizer_config.json of the model again"
    return Problem("damaged tokenizer", name, f"model_max_length {limit!r:.40}", "a number", fix)


def weights_digest(model: nn.Module) -> str:
    """SHA-256 (hex) of the names, types, shapes and bytes of a model's parameters.

    Of a quantised model also of what else its state holds: scales are kept in buffers.
    """
    tensors: dict[str, Tensor] = dict(model.named_parameters())
    if getattr(model, "is_quantized", False):
        state = model.state_dict().items()
        tensors |= {name: value for name, value in state if isinstance(value, Tensor)}
    named = sorted(tensors.items())
    with ThreadPoolExecutor() as pool:
        digests = pool.map(lambda pair: _tensor_digest(pair[1]), named)
    whole = hashlib.sha256()
    for (name, tensor), digest in zip(named, digests, strict=True):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode() + digest)
    return whole.hexdigest()


def _tensor_digest(tensor: Tensor) -> bytes:
    data = tensor.detach().contiguous().view(-1).view(torch.uint8).cpu().numpy()
    return hashlib.sha256(data.data).digest()


def pick_device() -> torch.device:
    """CUDA, else MPS, else the CPU; of several processes each its own CUDA device."""
    if torch.cuda.is_available():
        own = os.environ.get("LOCAL_RANK")
        return torch.device("cuda" if own is None else f"cuda:{own}")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def hardware(device: torch.device) -> str:
    """What computes, in words that name no machine: "NVIDIA H200, 16 CPU cores"."""
    cores = f"{os.cpu_count()} CPU cores"
    return f"{torch.cuda.get_device_name(device)}, {cores}" if device.type == "cuda" else cores


def pick_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes in it natively, float32 elsewhere."""
    native = {
        "cuda": lambda: torch.cuda.get_device_capability(device)[0] >= 8,
        "cpu": cpu_has_bfloat16,
    }.get(device.type, lambda: False)
    return torch.bfloat16 if native() else torch.float32


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 natively (AVX512-BF16, AMX or Arm's BF16)."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)


def parse_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto``, ``bfloat16``, ``float16`` or ``float32`` as torch's type."""
    return pick_dtype(device) if name == "auto" else getattr(torch, name)


def slow_dtype(name: str, device: str) -> str:
    """A sentence for the user who asks for bfloat16 where it is slow, else empty.

    A CPU without instructions for it multiplies bfloat16 at about 1/75 of the speed of float32
    (0.8 and 61 GFLOP/s, matrices of 1024, one thread of an AMD EPYC with AVX2).
    """
    if name != "bfloat16" or named_device(device).type != "cpu" or cpu_has_bfloat16():
        return ""
    return "bfloat16 is many times slower than float32 on this CPU; `dtype` auto takes float32"


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Only errors within the block; levels, bars and warnings as they were after it."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
