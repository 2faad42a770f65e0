"""Tiny random models that see, with their processors, and rows with pictures for them."""

from __future__ import annotations

import base64
import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import (
    Gemma3Processor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from helpers import make_tokenizer
from seeing import MAKERS

#: The processors of the last two need packages that are not always there.
_NEED_MORE = ("qwen2-vl", "smolvlm")
_HAS_MORE = all(map(importlib.util.find_spec, ("torchvision", "num2words")))
FAMILIES = ("gemma3", "idefics3", "llava", *(_NEED_MORE if _HAS_MORE else ()))
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}"
    "{{ m['content'] }}{% else %}{% for p in m['content'] %}{% if p['type'] == 'image' %}IMAGE"
    "{% else %}{{ p['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_WIDTHS = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 1024, "bos_token_id": None,
}  # fmt: skip
_TOWER = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip


def picture(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    """Noise of one main colour, which the seed decides."""
    generator = np.random.default_rng(seed)
    colour = generator.integers(0, 200, 3)
    noise = generator.integers(0, 56, (height, width, 3))
    return Image.fromarray((colour + noise).astype(np.uint8))


def save_picture(path: Path, seed: int = 0, **size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed, **size).save(path)
    return path


def data_url(seed: int) -> str:
    stream = io.BytesIO()
    picture(seed).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def picture_rows(folder: Path, count: int, answers: tuple[str, ...] = ("dark", "light")) -> list:
    """Rows with a picture each; its brightness decides the answer."""
    made = []
    for number in range(count):
        label = number % len(answers)
        noise = np.random.default_rng(number).integers(0, 60, (20 + number % 3, 24, 3))
        path = folder / f"pictures/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        bright = 190 * label // max(1, len(answers) - 1)
        Image.fromarray((bright + noise).astype(np.uint8)).save(path)
        parts = [{"type": "image", "path": f"pictures/{number}.png"}, {"type": "text", "text": "?"}]
        turns = [
            {"role": "user", "content": parts},
            {"role": "assistant", "content": answers[label]},
        ]
        made.append({"messages": turns})
    return made


def write_sighted(folder: Path, family: str, seed: int = 0) -> Path:
    """Write a random model that sees with its processor: two layers of text, 32 wide."""
    processor = _PROCESSORS[family]()
    tokenizer = processor.tokenizer
    text = _WIDTHS | {
        "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _MODELS[family](text, tokenizer)
        for name, parameter in model.named_parameters():  # what is seen is to matter
            if "projector" in name or "connector" in name:
                parameter.data.normal_(0, 0.5)
        model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _tokenizer(*special: str) -> Any:
    made = make_tokenizer()
    made.model_max_length = 1024
    made.add_special_tokens({"extra_special_tokens": list(special)})
    return made


def _template(mark: str) -> str:
    return _TEMPLATE.replace("IMAGE", mark)


def _gemma3_processor() -> Any:
    names = {
        "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }  # fmt: skip
    tokenizer = _tokenizer(*names.values())
    tokenizer._set_model_specific_special_tokens(names)
    made = transformers.models.gemma3.image_processing_pil_gemma3.Gemma3ImageProcessorPil
    images = made(size={"height": 28, "width": 28})
    template = _template("<start_of_image>")
    return Gemma3Processor(images, tokenizer, image_seq_length=1, chat_template=template)


def _gemma3(text: dict[str, Any], tokenizer: Any) -> Any:
    model = MAKERS["gemma3"](text, len(tokenizer))
    place = tokenizer.convert_tokens_to_ids("<image_soft_token>")
    model.config.image_token_id = model.config.image_token_index = place
    return model


def _idefics3_processor() -> Any:
    tokenizer = _tokenizer(
        "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"
    )
    made = transformers.models.idefics3.image_processing_pil_idefics3.Idefics3ImageProcessorPil
    images = made(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
    return Idefics3Processor(images, tokenizer, image_seq_len=1, chat_template=_template("<image>"))


def _idefics3(text: dict[str, Any], tokenizer: Any) -> Any:
    made = Idefics3Config(
        text_config={"model_type": "llama"} | text, vision_config=_TOWER, scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return Idefics3ForConditionalGeneration(made)


def _llava_processor() -> Any:
    made = transformers.models.clip.image_processing_pil_clip.CLIPImageProcessorPil
    images = made(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    return LlavaProcessor(
        images, _tokenizer("<image>"), patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=_template("<image>"),
    )  # fmt: skip


def _llava(text: dict[str, Any], tokenizer: Any) -> Any:
    made = LlavaConfig(
        text_config={"model_type": "llama"} | text,
        vision_config={"model_type": "clip_vision_model", "projection_dim": 16} | _TOWER,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), vision_feature_layer=-1,
    )  # fmt: skip
    return LlavaForConditionalGeneration(made)


def _qwen2_vl_processor() -> Any:
    from transformers import Qwen2VLImageProcessor, Qwen2VLProcessor
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    marks = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
    sizes = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 4}
    images = Qwen2VLImageProcessor(patch_size=14, merge_size=1, temporal_patch_size=1, size=sizes)
    return Qwen2VLProcessor(
        images, _tokenizer(*marks, "<|video_pad|>"), Qwen2VLVideoProcessor(),
        chat_template=_template("".join(marks)),
    )  # fmt: skip


def _qwen2_vl(text: dict[str, Any], tokenizer: Any) -> Any:
    model = MAKERS["qwen2-vl"](text, len(tokenizer))
    names = {
        "image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>",
    }  # fmt: skip
    for name, token in names.items():
        setattr(model.config, name, tokenizer.convert_tokens_to_ids(token))
    return model


def _smolvlm_processor() -> Any:
    from transformers import SmolVLMImageProcessor, SmolVLMProcessor
    from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

    marks = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    sizes = {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28}}
    films = {"fps": 1, "max_frames": 2, "video_size": {"longest_edge": 28}}
    return SmolVLMProcessor(
        SmolVLMImageProcessor(**sizes), _tokenizer(*marks, "<video>"),
        SmolVLMVideoProcessor(**sizes, num_frames=2, fps=1, video_sampling=films),
        image_seq_len=1, chat_template=_template("<image>"),
    )  # fmt: skip


def _smolvlm(text: dict[str, Any], tokenizer: Any) -> Any:
    model = MAKERS["smolvlm"](text, len(tokenizer))
    place = tokenizer.convert_tokens_to_ids("<image>")
    model.config.image_token_id = model.model.image_token_id = place
    return model


_PROCESSORS = {
    "gemma3": _gemma3_processor, "idefics3": _idefics3_processor, "llava": _llava_processor,
    "qwen2-vl": _qwen2_vl_processor, "smolvlm": _smolvlm_processor,
}  # fmt: skip
_MODELS = {
    "gemma3": _gemma3, "idefics3": _idefics3, "llava": _llava, "qwen2-vl": _qwen2_vl,
    "smolvlm": _smolvlm,
}  # fmt: skip
