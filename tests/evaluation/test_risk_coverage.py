"""Area under the risk-coverage curve, against what is worked out by hand."""

import numpy as np
import pytest

from medsegdiff_auto.evaluation.risk_coverage import aurc, best_aurc, risk_by_coverage


def test_cases_are_kept_from_the_surest_on():
    risks, estimates = [0.1, 0.5, 0.3], [0.9, 0.2, 0.6]
    np.testing.assert_allclose(risk_by_coverage(estimates, risks), [0.1, 0.2, 0.3])
    assert aurc(estimates, risks) == pytest.approx(0.2) == best_aurc(risks)
    assert aurc([0.2, 0.9, 0.6], risks) == pytest.approx((0.5 + 0.4 + 0.3) / 3)


def test_equal_estimates_say_nothing_whatever_the_order_of_the_cases():
    risks = np.random.default_rng(0).random(50)
    assert aurc(np.ones(50), risks) == pytest.approx(risks.mean())
    assert aurc(np.round(risks), risks) == pytest.approx(aurc(np.round(risks)[::-1], risks[::-1]))


def test_no_estimate_is_better_than_the_best_and_a_random_one_is_near_the_mean_risk():
    rng = np.random.default_rng(1)
    risks = rng.random(40)
    of_random = [aurc(rng.random(40), risks) for _ in range(400)]
    assert min(of_random) >= best_aurc(risks) and np.mean(of_random) == pytest.approx(risks.mean(), abs=0.01)


@pytest.mark.parametrize("estimates, risks", [([], []), ([np.nan], [0.5]), ([0.5], [np.inf])])
def test_what_is_no_number_is_refused(estimates, risks):
    with pytest.raises(ValueError, match="finite"):
        risk_by_coverage(estimates, risks)
