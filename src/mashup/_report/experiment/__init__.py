"""The report of leave-one-out experiments: records in; pages, tables and pictures out."""

from mashup._report.experiment.write import write_experiment_report

__all__ = ["write_experiment_report"]
