"""What settings may be called is what the steps know."""

from typing import get_args

import pytest

from mashup import settings
from mashup._merge.methods import METHODS
from mashup.cli.common import MergeOptions, ScoreOptions
from mashup.experiment.settings import Choosing, Merging


def test_words_are_those_of_the_library():
    assert set(get_args(settings.MethodName)) == set(METHODS)
    factors = settings.MergeSettings.model_fields["factors"].annotation
    assert get_args(factors) == settings.FACTOR_STYLES


@pytest.mark.parametrize(
    ("flags", "yaml", "own"),
    [
        (MergeOptions, Merging, {"weights"}),
        (
            ScoreOptions,
            Choosing,
            {"max_length", "all_checkpoints", "accept_base", "strict", "skip_bad", "cache_limit"},
        ),
    ],
)
def test_flags_and_experiments_have_the_same_settings(flags, yaml, own):
    ours, theirs = flags.model_fields, yaml.model_fields
    assert ours.keys() - theirs.keys() <= own
    for name in (ours.keys() & theirs.keys()) - own:
        assert repr(ours[name]) == repr(theirs[name])


def test_weights_are_words_in_experiments_and_numbers_too_as_flags():
    for given in (("0.5", "2"), [0.5, 2], "0.5, 2", "0.5 2", ["0.5,2"]):
        assert MergeOptions(weights=given).merging()["weights"] == (0.5, 2.0)
    for word in settings.WEIGHTS:
        assert MergeOptions(weights=word).merging()["weights"] == word
        assert MergeOptions(weights=[word]).merging()["weights"] == word
        assert Merging(weights=word).weights == word
    assert MergeOptions().merging() == Merging().options()
    with pytest.raises(ValueError, match="uniform"):
        Merging(weights=(0.5, 2.0))


def test_a_run_whose_steps_are_given_has_the_digest_of_one_with_one_epoch_by_default():
    assert settings.TrainSettings(max_steps=5).model_dump()["epochs"] == 1.0
    assert settings.TrainSettings().model_dump()["epochs"] is None
    for values in ({}, {"max_steps": 5}):
        made = settings.TrainSettings(**values)
        assert settings.TrainSettings.model_validate(made.model_dump()) == made
    copied = settings.TrainSettings().model_copy(update={"max_steps": 5})
    assert copied.model_dump() == settings.TrainSettings(max_steps=5).model_dump()
