"""Every target answers yes, no and not resolved where it should, on scores that are made up for it."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from medsegdiff_auto.comparison.measured import ALL, Measured
from medsegdiff_auto.comparison.methods import Methods
from medsegdiff_auto.comparison.patients import Patients
from medsegdiff_auto.comparison.quality import area_difference, estimates_of, judged
from medsegdiff_auto.comparison.summary import means_of
from medsegdiff_auto.comparison.targets import answers, share_interval

CASES = 60
NOISE = np.random.default_rng(0).normal(0, 1, CASES)
SPREAD = np.random.default_rng(1).uniform(0, 1, CASES)


def measured(**scores: dict[str, np.ndarray | float]) -> Measured:
    """One structure and :data:`CASES` cases from values by method and metric."""
    names = [name.replace("_T", "+T") for name in scores]
    rows = [{"method": name, "case": f"c{number}", "structure": "organ", "reliability": None,
             **{metric: float(np.broadcast_to(values, CASES)[number]) for metric, values in of_method.items()}}
            for name, of_method in zip(names, scores.values()) for number in range(CASES)]
    patients = Patients({f"c{number}": f"c{number}" for number in range(CASES)}, "")
    return Measured(rows, Methods({name: Path(name) for name in names}, "nnunet"), ["organ"], patients)


def answer(target: str, of: Measured) -> dict:
    """The answer to the target that begins so."""
    return next(one for one in answers(of, means_of(of, [ALL])[ALL], estimates_of(of))
                if one["target"].startswith(target))


@pytest.mark.parametrize("difference, expected", [
    (-0.002 + 1e-4 * NOISE, "yes"), (-0.004 + 1e-4 * NOISE, "no"), (-0.003 + 0.01 * NOISE, "not resolved"),
    (0.1 + 1e-4 * NOISE, "yes")], ids=["little", "much", "noise", "better"])
def test_dice_may_be_three_tenths_of_a_point_below(difference, expected):
    found = answer("Dice not below by 0.3 points", measured(auto={"dice": 0.8 + difference}, nnunet={"dice": 0.8}))
    assert found["answer"] == expected and found["value"] == pytest.approx(difference.mean())
    assert found["low"] <= found["value"] <= found["high"] and found["num"] == CASES


@pytest.mark.parametrize("difference, expected", [
    (-0.1 + 0.01 * NOISE, "yes"), (0.1 + 0.01 * NOISE, "no"), (NOISE - NOISE.mean(), "not resolved"), (0.0, "yes")],
    ids=["below", "above", "noise", "equal"])
def test_nll_is_compared_with_the_reference_at_its_temperature(difference, expected):
    found = answer("NLL not worse", measured(auto={"nll": 0.5 + difference}, nnunet={"nll": 9}, nnunet_T={"nll": 0.5}))
    assert (found["answer"], found["against"]) == (expected, "nnunet+T")


@pytest.mark.parametrize("best, expected", [(0.5, "yes"), (0.3, "no"), (0.4, "not resolved")])
def test_the_energy_score_must_beat_the_best_plain_method_and_no_other(best, expected):
    ours = 0.4 + 0.05 * (NOISE - NOISE.mean())
    found = answer("Energy score better", measured(
        auto={"energy_score": ours}, nnunet={"energy_score": 0.9}, resenc={"energy_score": best},
        twin={"energy_score": 0.1}))
    assert (found["answer"], found["against"]) == (expected, "resenc")


def test_few_cases_resolve_nothing():
    of = measured(auto={"dice": 0.9, "energy_score": 0.1}, nnunet={"dice": 0.8, "energy_score": 0.5})
    few = Measured([row for row in of.rows if int(row["case"][1:]) < 5], of.methods, of.structures, of.patients)
    assert answer("Dice", few)["answer"] == answer("Energy", few)["answer"] == "not resolved"


@pytest.mark.parametrize("num_held, expected", [(54, "yes"), (42, "no"), (58, "not resolved"), (50, "not resolved")])
def test_intervals_must_hold_about_nine_in_ten(num_held, expected):
    held = (np.arange(CASES) < num_held).astype(float)
    of = measured(auto={"dice": 0.9, "reference_volume_in_interval": held}, nnunet={"dice": 0.9})
    found = answer("90 % intervals", of)
    assert found["answer"] == expected and found["value"] == pytest.approx(num_held / CASES)


def test_a_share_of_few_cases_is_not_known_however_well_it_fits():
    of = measured(auto={"dice": 0.9, "reference_volume_in_interval": (np.arange(CASES) % 10 > 0) * 1.0},
                  nnunet={"dice": 0.9})
    few = Measured([row for row in of.rows if int(row["case"][1:]) < 20], of.methods, of.structures, of.patients)
    assert answer("90 % intervals", few)["value"] == pytest.approx(0.9)
    assert answer("90 % intervals", few)["answer"] == "not resolved"


@pytest.mark.parametrize("num_held, num", [(54, 60), (60, 60), (0, 7)])
def test_the_interval_of_a_share_is_wilson_s(num_held, num):
    expected = binomtest(num_held, num).proportion_ci(method="wilson")
    assert share_interval(num_held / num, num) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_intervals_of_a_plain_method_that_are_wider_are_beaten():
    of = measured(auto={"dice": 0.9, "interval_width": 0.3}, nnunet={"dice": 0.9, "interval_width": 0.5})
    assert answer("intervals narrower", of)["answer"] == "yes"
    alone = measured(auto={"dice": 0.9, "interval_width": 0.3}, nnunet={"dice": 0.9})
    found = answer("intervals narrower", alone)
    assert found["answer"] == "not measured" and math.isnan(found["value"])


@pytest.mark.parametrize("ours, theirs, expected", [
    (SPREAD, -SPREAD, "yes"), (-SPREAD, SPREAD, "no"), (SPREAD, SPREAD, "not resolved")], ids=["yes", "no", "equal"])
def test_the_expected_dice_must_order_masks_better_than_the_best_plain_estimate(ours, theirs, expected):
    of = measured(auto={"dice": SPREAD, "expected_dice": ours, "soft_dice": 0 * SPREAD},
                  nnunet={"dice": SPREAD, "soft_dice": theirs, "mean_uncertainty": 1 + SPREAD})
    found = answer("AURC", of)
    assert found["answer"] == expected
    assert found["against"] == ("nnunet, soft Dice" if theirs is SPREAD else "nnunet, 1 - mean uncertainty") or \
        expected == "yes"


def test_the_same_order_and_risks_have_the_same_area_for_every_drawing_of_patients():
    of = measured(auto={"dice": SPREAD, "soft_dice": 0.5 + 0.5 * SPREAD}, nnunet={"dice": SPREAD, "soft_dice": SPREAD})
    found = area_difference(judged(of, "auto", "soft_dice"), judged(of, "nnunet", "soft_dice"))
    assert (found.mean_difference, found.low, found.high, found.num_cases) == (0, 0, 0, CASES)


def test_a_mask_without_an_estimate_is_not_judged():
    estimates = np.where(np.arange(CASES) < 10, np.nan, SPREAD)
    of = measured(auto={"dice": SPREAD, "soft_dice": estimates}, nnunet={"dice": SPREAD})
    assert len(judged(of, "auto", "soft_dice").dice) == CASES - 10 and judged(of, "nnunet", "soft_dice") is None


def test_patients_with_several_cases_count_once():
    of = measured(auto={"dice": np.arange(CASES) % 2}, nnunet={"dice": 0.25})
    of = Measured(of.rows, of.methods, of.structures, Patients({f"c{n}": str(n // 2) for n in range(CASES)}, ""))
    values, left_out = of.units("dice", ["auto", "nnunet"])
    assert values.tolist() == [[0.5, 0.25]] * (CASES // 2) and left_out == 0
