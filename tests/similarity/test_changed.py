"""What a delta changes beside its factors: values, rows, biases, as differences to the base."""

import pytest
import torch

from mashup.delta import Delta
from mashup.similarity.changed import changes
from mashup.similarity.products import cosine, delta_inner


def test_saved_values_without_the_base_are_refused():
    with pytest.raises(ValueError, match="takes the base's"):
        cosine(Delta({}, saved={"norm.weight": torch.ones(3)}), Delta({}))


def test_rows_that_the_base_lacks_are_changes_as_a_whole():
    base = {"embed.weight": torch.ones(2, 3)}
    grown = Delta({}, saved={"embed.weight": 2 * torch.ones(3, 3), "head.weight": torch.ones(1)})
    found = dict(changes(grown, base.get))
    assert found["embed.weight"].tolist() == [[1, 1, 1], [1, 1, 1], [2, 2, 2]]
    assert found["head.weight"].tolist() == [1]
    longer = Delta({}, saved={"embed.weight": 3 * torch.ones(4, 3)})
    assert delta_inner(grown, longer, base.get) == 3 * (1 * 2 + 1 * 2 + 2 * 3)


def test_rows_of_tokens_meet_by_their_ids():
    base = {"embed.weight": torch.ones(5, 2)}
    one = Delta({}, rows={"embed.weight": ((1, 7), torch.tensor([[2.0, 1.0], [4.0, 0.0]]))})
    other = Delta({}, rows={"embed.weight": ((7, 3), torch.tensor([[0.5, 9.0], [1.0, 2.0]]))})
    assert delta_inner(one, other, base.get) == 4 * 0.5
    onto_saved = Delta({}, saved={"embed.weight": torch.zeros(5, 2)}, rows=one.rows)
    assert dict(changes(onto_saved, base.get))["embed.weight[1]"].tolist() == [2, 1]


def test_a_bias_that_is_saved_and_shifted_changes_by_the_sum():
    base = {"q.bias": torch.tensor([1.0, 1.0])}
    saved, shift = torch.tensor([3.0, 1.0]), (0.5, torch.tensor([2.0, 4.0]))
    both = Delta({}, saved={"q.bias": saved}, biases={"q.bias": shift})
    assert dict(changes(both, base.get))["q.bias"].tolist() == [3, 2]
    assert saved.tolist() == [3, 1]
