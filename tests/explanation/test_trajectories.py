"""A trajectory is what the sampler did, and ends in the sample."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from medsegdiff_auto.diffusion.schedules import trailing_times
from medsegdiff_auto.diffusion.solver import Step
from medsegdiff_auto.diffusion.solvers.ddim import ddim_step
from medsegdiff_auto.diffusion.state import probabilities_from_state
from medsegdiff_auto.explanation.record import RecordedStep, Trajectory, draw
from medsegdiff_auto.explanation.reverse import agreement_by_step, drawn_steps, reverse_section
from medsegdiff_auto.explanation.samples import agreement, spread
from medsegdiff_auto.tables import SOLVERS


def test_the_last_prediction_of_a_trajectory_is_the_sample_of_the_same_noise(network, predictor, tile):
    """Where the schedule begins at pure noise, the first step is that of the first sample, but for latent noise."""
    drawing = draw(predictor, tile)
    alpha = network.schedule.alpha_sigma(torch.ones((), dtype=torch.float64))[0]
    shown_first = tile.noise[:1] if alpha < 1e-12 and not network.has_latent_noise else None
    first = [trajectory.steps[0].x_start for trajectory in drawing.trajectories]
    assert all(np.array_equal(x_start, first[0]) for x_start in first) == (shown_first is not None)
    with torch.inference_mode():
        condition = network.condition(tile.image[None])
        for noise, trajectory in zip(tile.noise, drawing.trajectories, strict=True):
            expected = network.sample_probabilities(condition, noise[None], shown_first=shown_first)[0]
            np.testing.assert_array_equal(trajectory.probabilities, expected.numpy())
            last = torch.from_numpy(trajectory.steps[-1].x_start)[None].double()
            found = probabilities_from_state(last, tile.target)[0].numpy()
            np.testing.assert_allclose(found, tile.plane.cut(expected.numpy()), atol=1e-6)


def test_the_states_of_a_trajectory_begin_with_the_noise_and_follow_the_solver(network, predictor, tile):
    steps = draw(predictor, tile).trajectories[1].steps
    expected = trailing_times(network.configuration.sampling.num_steps)[:-1].tolist()
    assert [step.t for step in steps] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(steps[0].x_t, tile.plane.cut(tile.noise[1].numpy()), atol=1e-6)
    for step, following in pairwise(steps):
        x_t, x_start = (torch.from_numpy(x)[None].double() for x in (step.x_t, step.x_start))
        t, s = (torch.tensor(x.t, dtype=torch.float64) for x in (step, following))
        expected = ddim_step(Step(x_t, x_start, t, s, network.schedule))[0]
        np.testing.assert_allclose(following.x_t, expected.numpy(), atol=1e-4)
    assert all(np.abs(step.x_start).max() <= 1 for step in steps)


def test_the_plain_network_is_drawn_where_there_is_one(network, predictor, tile):
    plain = draw(predictor, tile).plain
    if not network.has_conditioner:
        assert plain is None
        return
    with torch.inference_mode():
        expected = network.conditioner_probabilities(network.condition(tile.image[None]))[0]
    np.testing.assert_array_equal(plain, expected.numpy())


def test_samples_agree_wholly_with_themselves_and_not_at_all_with_an_empty_mask(make):
    tile = make.tile(2, "regions")
    x_start, empty = tile.x_start.numpy(), -np.ones_like(tile.x_start.numpy())
    same, other = (Trajectory([RecordedStep(1.0, x, x)], (x + 1) / 2) for x in (x_start, empty))
    assert agreement_by_step(tile, [same, same]) == [1.0]
    assert agreement_by_step(tile, [same, other]) == [0.0]
    assert agreement(tile, [same.probabilities, other.probabilities]) == (0.0, 0.5)
    assert spread(np.stack([same.probabilities, other.probabilities])).max() == 0.5


@pytest.mark.parametrize("solver, words", [("ddim", "equation 12"), ("ddpm", "replaced by new noise"),
                                           ("dpm_solver_pp_2m", "extrapolated")])
def test_the_page_shows_the_step_of_the_solver_and_where_it_comes_from(make, solver, words):
    tile, network = make.tile(2, "regions"), make.network("auto", 2, "regions")
    trajectories = draw(make.predictor(network), tile).trajectories
    page = reverse_section(tile, trajectories, network.configuration, solver).html
    assert words in page and SOLVERS.row(solver).equation in page and SOLVERS.row(solver).source in page


@pytest.mark.parametrize("preset, shared", [("state", True), ("paper", False)])
def test_the_page_says_whether_the_samples_share_their_first_prediction(make, preset, shared):
    tile, network = make.tile(2, "classes"), make.network(preset, 2, "classes")
    page = reverse_section(tile, draw(make.predictor(network), tile).trajectories, network.configuration, "ddim").html
    assert ("they share one prediction" in page) == shared and ("says almost nothing" in page) == (not shared)


@pytest.mark.parametrize("num_steps, expected", [(1, [0]), (3, [0, 1, 2]), (50, [0, 10, 20, 29, 39, 49])])
def test_at_most_six_steps_are_drawn_and_the_first_and_the_last_are_among_them(num_steps, expected):
    assert drawn_steps(num_steps) == expected
