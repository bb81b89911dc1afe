"""The planner's memory model against torch's own record of a training step."""

import json

import pytest
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from medsegdiff_auto.planning.memory import predicted_peak_gb
from medsegdiff_auto.benchmarks.training_memory import allocated_peak_gb, train


def test_the_predicted_peak_of_training_is_what_the_allocator_records(chain):
    plans = json.loads((chain.model / "plans.json").read_text(encoding="utf-8"))
    dataset_json = json.loads((chain.model / "dataset.json").read_text(encoding="utf-8"))
    manager = PlansManager(plans)
    predicted = predicted_peak_gb(manager, manager.get_configuration(chain.configuration), dataset_json, False)
    measured = allocated_peak_gb(lambda: train(plans, chain.configuration, dataset_json))
    assert predicted == pytest.approx(measured, rel=0.15)
