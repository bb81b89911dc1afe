"""The pictures of the forward process and of the schedule say what the plan says."""

import math
import re

import numpy as np
import pytest
import torch

from medsegdiff_auto.diffusion.schedules import Schedule
from medsegdiff_auto.explanation.forward import TIMES, ForwardState, box_of, forward_states, guess_by_averaging
from medsegdiff_auto.explanation.schedule import contributions, is_compared, schedule_section, structure_rows


@pytest.mark.parametrize("schedule", [Schedule("cosine", -3.0), Schedule("linear")], ids=["cosine", "linear"])
def test_a_forward_state_is_alpha_x_0_plus_sigma_eps_at_the_alpha_and_sigma_that_it_states(make, schedule):
    tile = make.tile(3, "classes")
    states = forward_states(tile.x_start, tile.noise[0], schedule)
    assert [state.t for state in states] == list(TIMES)
    for state in states:
        expected = state.alpha * tile.x_start.double() + state.sigma * tile.noise[0].double()
        torch.testing.assert_close(state.x_t, expected, rtol=0, atol=1e-12)
        assert state.alpha ** 2 + state.sigma ** 2 == pytest.approx(1)
        if 0 < state.t < 1:
            assert state.log_snr == pytest.approx(math.log(state.alpha ** 2 / state.sigma ** 2))
            assert f"{state.alpha:.2f}" in state.words() and f"{state.sigma:.2f}" in state.words()


def test_the_forward_process_begins_at_the_mask_and_ends_in_the_noise(make):
    tile = make.tile(2, "regions")
    first, *_, last = forward_states(tile.x_start, tile.noise[0], Schedule("cosine", -3.0))
    assert torch.equal(first.x_t, tile.x_start.double())
    torch.testing.assert_close(last.x_t, tile.noise[0].double(), rtol=0, atol=1e-12)
    assert "∞" in first.words() and "−∞" in last.words()


def test_the_guess_by_averaging_is_the_least_squares_estimate():
    """x_0 is +1 or -1 all over a box with even chances: the guess has the smallest mean squared error of all factors.
    """
    generator = np.random.default_rng(0)
    alpha, box = 0.2, (3, 3)
    sigma = math.sqrt(1 - alpha ** 2)
    signs = generator.choice([-1.0, 1.0], 20_000)
    x_t = torch.from_numpy(alpha * signs[:, None, None] + sigma * generator.normal(size=(20_000, 3, 3)))
    guess = guess_by_averaging(ForwardState(0.5, 0.0, alpha, sigma, x_t), box)[:, 1, 1]
    best = (guess * signs).mean() / (guess ** 2).mean()
    assert best == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("diameter, width", [(2.0, 1), (8.0, 5), (15.3, 7), (22.6, 11)])
def test_the_box_is_odd_and_about_half_a_structure_wide(diameter, width):
    assert box_of((diameter,)) == (width,)
    assert abs(width - diameter / 2) <= 1


def test_ref_and_the_parts_of_the_shift_are_those_of_the_planners_rule(make):
    diameters = (15.27, 22.61, 19.49)
    c = make.network("auto", 3, "classes").configuration.changed(structure_diameter_vox=diameters)
    assert contributions(c) == pytest.approx([math.log(5 / diameter) for diameter in diameters])
    assert sum(contributions(c)) == pytest.approx(c.noise.log_snr_shift, abs=5.1e-4)
    html = schedule_section(c, 3, []).html
    assert "15.27" in html and "−3.99" in html


def test_structures_are_listed_in_voxels_along_the_axes_of_the_network():
    fingerprint = {"structures": {"a": {"share_of_cases": 1.0, "diameter_mm": [30.0, 20.0, 10.0]},
                                  "absent": {"share_of_cases": 0}}}
    volume, plane = {"axis 0": 5.0, "axis 1": 6.0, "axis 2": 20.0}, {"axis 0": 6.0, "axis 1": 20.0}
    assert structure_rows(fingerprint, [2.0, 5.0, 1.0], [2, 0, 1]) == [{"name": "a"} | volume]
    assert structure_rows(fingerprint, [5.0, 1.0], [2, 0, 1]) == [{"name": "a"} | plane]
    assert structure_rows(None, [1.0], [0]) == []


def test_a_schedule_without_a_shift_is_said_to_have_none(make):
    paper = make.network("paper", 2, "regions").configuration
    assert is_compared(paper) and paper.noise.law.name == "linear"
    assert "does not shift" in schedule_section(paper, 3, []).html
    plain = paper.changed(schedule="cosine")
    assert not is_compared(plain)
    assert re.search(r"plan does not shift", schedule_section(plain, 3, []).html)
