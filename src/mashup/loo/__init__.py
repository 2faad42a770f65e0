"""Leave-one-out experiments: a YAML file in, jobs that survive a kill, records out."""

from mashup.loo.experiment import ARMS, Experiment
from mashup.loo.read import read_experiment
from mashup.loo.run import Prepared, prepare, run_experiment

__all__ = ["ARMS", "Experiment", "Prepared", "prepare", "read_experiment", "run_experiment"]
