import pytest

from mashup.checkpoint import AdapterConfig
from mashup.checkpoint.keys import Key, read_key
from mashup.checkpoint.targets import Targets

PLAIN = AdapterConfig("", None, 4, 8)
SAVED = AdapterConfig("", None, 4, 8, targets=Targets(modules=("q",), saved=("head",)))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("base_model.model.a.b.lora_A.weight", Key("A", "a.b")),
        ("base_model.model.a.b.lora_B.default.weight", Key("B", "a.b")),
        ("a.b.lora_B.weight", Key("B", "a.b")),
        ("a.base_layer.base_layer.lora_A.weight", Key("A", "a", 2)),
        ("a.lora_embedding_A", Key("eA", "a")),
        ("a.lora_embedding_B.default", Key("eB", "a")),
        ("a.token_adapter.trainable_tokens_delta", Key("rows", "a")),
        ("model.embed_tokens.base_layer.weight", Key("written", "model.embed_tokens.weight")),
        ("lm_head.weight", Key("written", "lm_head.weight")),
        ("a.b.lora_magnitude_vector", None),
        ("a.lora_embedding_A.weight", None),
        ("a.lora_A.bias", None),
        ("a.lora_B.bias", None),
        ("a.bias", None),
        ("a.base_layer.bias", None),
        ("norm.weight", None),
        ("a.original_module.weight", None),
        ("a.lora_diag", None),
        ("a.ia3_l", None),
    ],
)
def test_tensor_names_as_peft_writes_them(name, key):
    assert read_key(name, PLAIN) == key


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("model.head.weight", Key("copied", "model.head.weight")),
        ("model.head.inner.bias", Key("copied", "model.head.inner.bias")),
        ("model.head.original_module.bias", Key("original", "model.head.bias")),
        ("model.head.modules_to_save.bias", Key("spare", "model.head.bias")),
        ("model.tail.weight", None),
    ],
)
def test_modules_that_are_saved_whole(name, key):
    assert read_key(name, SAVED) == key


@pytest.mark.parametrize(
    ("bias", "name", "is_read"),
    [
        ("all", "norm.bias", True),
        ("all", "q.base_layer.bias", True),
        ("lora_only", "q.base_layer.bias", True),
        ("lora_only", "norm.bias", False),
    ],
)
def test_biases_are_read_where_the_settings_train_them(bias, name, is_read):
    key = read_key(name, AdapterConfig("", None, 4, 8, bias=bias))
    assert key == (Key("written", name.replace(".base_layer", "")) if is_read else None)
