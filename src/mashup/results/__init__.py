"""Results: records of runs, curves, and the statistics over them; numpy and scipy only."""

from mashup.results.curve import Point, read_curve
from mashup.results.parity import Parity, fair_parity, paper_parity
from mashup.results.records import Record, read_records
from mashup.results.statistics import Difference, paired_bootstrap

__all__ = [
    "Difference",
    "Parity",
    "Point",
    "Record",
    "fair_parity",
    "paired_bootstrap",
    "paper_parity",
    "read_curve",
    "read_records",
]
