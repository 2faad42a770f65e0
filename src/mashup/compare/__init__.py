"""Was it worth it? Arms and controls on the same task, budget, seeds and splits."""

from mashup.compare.comparison import Comparison, compare
from mashup.compare.parity import Parity, fair_parity, paper_parity
from mashup.compare.records import Record, read_records
from mashup.compare.statistics import Difference, paired_bootstrap
from mashup.settings import ARMS

__all__ = [
    "ARMS",
    "Comparison",
    "Difference",
    "Parity",
    "Record",
    "compare",
    "fair_parity",
    "paired_bootstrap",
    "paper_parity",
    "read_records",
]
