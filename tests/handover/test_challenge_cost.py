"""What a container's README says beforehand follows from the plans and the memory plan."""

from dataclasses import replace

import pytest
from small_model import KEPT

from medsegdiff_auto.handover import challenge_cost
from medsegdiff_auto.handover.challenge_cost import CARD_GB, LIMIT_S, Planned, median_case, planned_costs
from medsegdiff_auto.handover.challenge_folder import Measured, _facts
from medsegdiff_auto.inference.expected_cost import CallCost
from medsegdiff_auto.inference.model import load_model
from medsegdiff_auto.sampling.case_size import CaseSize


@pytest.fixture(scope="module")
def model():
    return load_model(KEPT)


def test_the_median_case_is_that_of_the_plans(model):
    assert median_case(model) == CaseSize(1, 3, (1, 34, 31), (1, 34, 31))
    plans = model.plans_manager.plans | {"original_median_shape_after_transp": [7.0, 68.4, 62.0]}
    deeper = replace(model, plans_manager=replace_plans(model, plans))
    assert median_case(deeper) == CaseSize(1, 3, (7, 68, 62), (7, 34, 31)), "a 2-D network keeps the slices"


def replace_plans(model, plans: dict):
    return type(model.plans_manager)(plans)


def test_seconds_are_those_of_the_calls_that_each_speed_makes(model, monkeypatch):
    """34 x 31 voxels are 2 tiles of 32 x 32; a forward costs 1 s, an evaluation 100 s."""
    monkeypatch.setattr(challenge_cost, "time_calls", lambda predictor: CallCost(1.0, 100.0, 1.0))
    of_fast = 2 * 1 * 1 + 2 * (1 + 4) * 100  # tiles x views; tiles x (views share the first step, then 4 samples)
    of_default = 2 * 2 * 1 + 2 * (2 + 8) * 100
    of_best = 2 * 4 * 1 + 2 * (4 + 3 * 16) * 100  # 4 views, 16 samples, 4 steps
    assert [(one.speed, one.cpu_s) for one in planned_costs(model)] == [
        ("fast", of_fast), ("default", of_default), ("best", of_best)]


def test_the_card_holds_features_weights_and_states_and_not_more_than_it_has(model, monkeypatch):
    small = {one.speed: one.card_gb for one in planned_costs(model)}
    assert all(0.15 < value < 1 for value in small.values()), "libraries, and a tiny network"
    large = CaseSize(1, 3, (20, 700, 700), (20, 700, 700))
    monkeypatch.setattr(challenge_cost, "median_case", lambda model: large)
    assert all(small[one.speed] + 0.1 < one.card_gb <= CARD_GB + 0.01 for one in planned_costs(model))
    endless = CaseSize(1, 3, (900, 700, 700), (900, 700, 700))
    monkeypatch.setattr(challenge_cost, "median_case", lambda model: endless)
    assert next(one.row for one in planned_costs(model)) == "| fast | inf s | no | inf GB | no |"


def test_the_readme_names_the_speeds_that_fit_both_limits(model, monkeypatch):
    rows = [Planned("fast", LIMIT_S, CARD_GB), Planned("default", LIMIT_S + 1, 1.0), Planned("best", 1.0, CARD_GB + 1)]
    monkeypatch.setattr("medsegdiff_auto.handover.challenge_folder.planned_costs", lambda model: rows)
    facts = _facts(model, Measured(1.25, 0.5, (3, 4), 2))
    assert facts["planned"].splitlines() == ["| fast | 1200.00 s | yes | 16.00 GB | yes |",
                                             "| default | 1201.00 s | no | 1.00 GB | yes |",
                                             "| best | 1.00 s | yes | 17.00 GB | no |"]
    assert facts["advice"] == "By these numbers these fit both limits: fast."
    assert (facts["case"], facts["memory"], facts["median"]) == ("2 cases of 3 x 4 voxels", "0.50", "31 x 34 x 1")
    del rows[0]
    assert facts["advice"] != (none := _facts(model, Measured(1.0, 1.0, (1, )))["advice"]) and "none fits" in none
