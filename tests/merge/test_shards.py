"""Casting refuses exactly what the written type cannot hold."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mashup import InputError
from mashup._merge.shards import cast

HUGE = [3.4e38, 3.39e38, 1.8e19, 65504.0, 65520.0, 70000.0, 1e300]
ODD = [float("inf"), float("-inf"), float("nan")]
NUMBERS = st.floats(width=64) | st.sampled_from([*HUGE, *(-n for n in HUGE), *ODD])
TYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@given(
    st.lists(NUMBERS, min_size=1, max_size=6),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from(TYPES),
    st.booleans(),
)
def test_a_number_is_refused_if_and_only_if_its_type_cannot_hold_it(numbers, wide, dtype, placed):
    rows = torch.tensor(numbers, dtype=torch.float64).to(wide)
    place = torch.empty(len(rows), dtype=dtype) if placed else None
    if torch.isfinite(rows.to(dtype)).all():
        assert torch.equal(cast(rows, dtype, "here", place), rows.to(dtype))
    else:
        with pytest.raises(InputError, match="result is not finite"):
            cast(rows, dtype, "here", place)
