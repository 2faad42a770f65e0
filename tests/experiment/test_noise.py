"""A full checkpoint of noise is as far from its base as the merge that it is compared with."""

import pytest
from transformers import AutoModelForCausalLM

from mashup.experiment.work import noise_like
from wholes import relative_of, tensors_of


@pytest.mark.parametrize("base", ["tiny_base", "seeing_base"])
def test_noise_is_a_model_of_the_same_names_and_distances(base, request, tmp_path):
    folder = request.getfixturevalue(base)
    init = relative_of(folder, tmp_path / "init", seed=1)
    noise_like(AutoModelForCausalLM.from_pretrained(folder), init, tmp_path / "noise")
    own, merged, made = (tensors_of(f) for f in (folder, init, tmp_path / "noise"))
    assert made.keys() == own.keys()
    for name in own:
        size = float((merged[name] - own[name]).norm())
        assert float((made[name] - own[name]).norm()) == pytest.approx(size, rel=1e-3)
        assert not (made[name] == merged[name]).all()
