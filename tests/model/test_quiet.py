"""Silence is temporary."""

import warnings

import pytest
from transformers.utils import logging

from mashup.model.base import quiet_transformers


def test_levels_bars_and_warnings_come_back():
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with quiet_transformers():
        assert logging.get_verbosity() == logging.ERROR
        warnings.warn("not seen", UserWarning, stacklevel=1)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (level, bars)
    with pytest.warns(UserWarning, match="seen"):
        warnings.warn("seen", UserWarning, stacklevel=1)
