"""One report of a whole experiment, written once for all tests that only read it."""

import pytest

from mashup._report.experiment import write_experiment_report
from studies import write_study


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return write_study(folder, seeds=(42, 43), budgets=(0.5, 1.0), singles=True)


@pytest.fixture(scope="session")
def written(study_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("report")
    write_experiment_report([study_folder], output)
    return output
