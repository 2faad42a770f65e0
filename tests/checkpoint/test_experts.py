import pytest

from helpers import refused
from mashup.checkpoint import LoraModule, laid_out

E = "mlp.experts"


def lora(leaf, d_in, d_out):
    name = f"{E}.{leaf}"
    return {
        name: LoraModule(name, 2, d_in, d_out, 1.0, "experts", None, None, "parameter", experts=3)
    }


@pytest.mark.parametrize(
    ("shape", "layout"), [((3, 8, 4), "experts"), ((3, 4, 8), "experts_transposed")]
)
def test_the_base_tells_which_way_round_its_experts_are(shape, layout):
    modules = lora("gate_up_proj", 4, 8) | lora("down_proj", 4, 4)
    shapes = {f"{E}.gate_up_proj": shape, f"{E}.down_proj": (3, 4, 4)}
    found = laid_out(modules, shapes)
    assert {module.layout for module in found.values()} == {layout}


def test_a_square_parameter_alone_says_neither():
    with refused("cannot tell the experts' layout", where="down_proj"):
        laid_out(lora("down_proj", 4, 4), {f"{E}.down_proj": (3, 4, 4)})


def test_other_kinds_stay_as_they_are():
    plain = {"q": LoraModule("q", 2, 4, 4, 1.0, "linear", None, None)}
    assert laid_out(plain, {"q.weight": (4, 4)}) == plain
