"""Leave-one-out experiments: a YAML file in, jobs that survive a kill, records out."""

from typing import TYPE_CHECKING

from mashup import lazily
from mashup.loo.experiment import ARMS, Experiment
from mashup.loo.read import read_experiment

if TYPE_CHECKING:
    from mashup.loo.run import Prepared, prepare, run_experiment

__all__ = ["ARMS", "Experiment", "Prepared", "prepare", "read_experiment", "run_experiment"]

lazily(__name__, {"mashup.loo.run": ("Prepared", "prepare", "run_experiment")})
