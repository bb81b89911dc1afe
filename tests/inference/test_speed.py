"""One word picks samples, steps and mirrors; what is asked for explicitly, and what was fitted, wins."""

from types import SimpleNamespace

import pytest

from medsegdiff_auto.inference.options import SamplingOptions
from medsegdiff_auto.inference.speed import at_speed


def model(num_samples=8, num_steps=6, axes=(0, 1, 2), fitted=None, sees_state=True):
    sampling = SimpleNamespace(num_samples=num_samples, num_steps=num_steps, num_mirrors=4)
    planned = SimpleNamespace(sampling=sampling, noise=SimpleNamespace(num_train_steps=1000),
                              network=SimpleNamespace(sees_state=sees_state))
    return SimpleNamespace(diffusion=planned, mirroring_axes=axes, fitted=fitted)


def picked(speed, options=SamplingOptions(), **planned):
    found = at_speed(speed, options, model(**planned))
    return found.num_samples, found.num_steps, found.num_mirrors


def test_fast_is_half_of_the_plan_without_mirrors_and_best_twice_with_all():
    assert picked("fast") == (4, 3, 1)
    assert picked("default") == (None, None, None)
    assert picked("best") == (16, 12, 8)
    assert picked("best", axes=(0, 1)) == (16, 12, 4) and picked("best", axes=None) == (16, 12, 1)


def test_fast_keeps_two_samples_and_two_steps_where_the_plan_has_them():
    assert picked("fast", num_samples=3, num_steps=3) == (2, 2, 1)
    assert picked("fast", num_samples=1, num_steps=1) == (1, 1, 1)


def test_a_discrete_schedule_has_no_more_steps_than_it_was_trained_with():
    assert picked("best", num_steps=1000)[1] == 1000


@pytest.mark.parametrize("option, place, value", [("num_samples", 0, 5), ("num_steps", 1, 7), ("num_mirrors", 2, 2)])
def test_an_explicit_number_wins_and_leaves_the_others(option, place, value):
    expected = [16, 12, 8]
    expected[place] = value
    assert list(picked("best", SamplingOptions(**{option: value}))) == expected


def test_a_denoiser_that_sees_no_state_keeps_its_one_step():
    assert picked("best", num_steps=1, sees_state=False) == (16, 1, 8)


@pytest.mark.parametrize("speed", ["fast", "best"])
def test_a_fitted_model_keeps_the_steps_of_the_fit(speed):
    assert picked(speed, fitted=object())[1] == 6
    assert picked(speed, SamplingOptions(num_steps=9), fitted=object())[1] == 9
