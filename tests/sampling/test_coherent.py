"""One state per sample over the whole volume: the same voxels however they are computed."""

import itertools
import sys
from pathlib import Path

import pytest
import torch

from medsegdiff_auto.diffusion import latent_noise
from medsegdiff_auto.diffusion.latent_noise import LatentNoise
from medsegdiff_auto.diffusion.schedules import trailing_times
from medsegdiff_auto.diffusion.solver import Step
from medsegdiff_auto.diffusion.solvers.ddim import ddim_step
from medsegdiff_auto.diffusion.state import probabilities_from_state
from medsegdiff_auto.networks import denoiser as denoiser_module
from medsegdiff_auto.sampling import coherent, volume_store
from medsegdiff_auto.sampling.coherent import CoherentSampler, shown_samples
from medsegdiff_auto.sampling.conditions import Conditions
from medsegdiff_auto.sampling.mirrors import from_the_end, mirror_views
from medsegdiff_auto.sampling.seeds import noise_volume
from medsegdiff_auto.sampling.tiling import Tiles
from medsegdiff_auto.sampling.volume_store import InMemory, Storage

sys.path.insert(0, str(Path(__file__).parents[1] / "networks"))
from tiny_networks import (STATE, LATENT, LINEAR, NUM_OUTPUTS, PAPER, SIMPLE_DIFFUSION, random_image,
                           randomised, tiny_network)

PATCH = {2: (16, 24), 3: (8, 16, 24)}
VOLUME = {2: (2, 22, 32), 3: (10, 20, 28)}
SAMPLES = tuple(range(8))


def slicers(dimension):
    """Overlapping tiles of nnU-Net's kind; 2-D patches lie in the slices of a volume."""
    step = [n // 2 for n in PATCH[dimension]]
    starts = [sorted({min(a, n - p) for a in range(0, n - p + s, s)})
              for n, p, s in zip(VOLUME[dimension][-dimension:], PATCH[dimension], step)]
    places = [()]
    for along, size in zip(starts, PATCH[dimension]):
        places = [(*place, slice(a, a + size)) for place in places for a in along]
    first = [(d,) for d in range(VOLUME[2][0])] if dimension == 2 else [()]
    return [(slice(None), *d, *place) for d in first for place in places]


def network_of(dimension, configuration=STATE):
    return randomised(tiny_network(dimension, configuration)).eval()


def conditions_of(network, dimension, order=None, room=1e12, num_mirrors=2, image=None, storage=Storage(),
                  plain_weight=None):
    places = slicers(dimension)
    places = places if order is None else [
        places[i] for i in torch.randperm(len(places), generator=torch.Generator().manual_seed(order))
    ]
    image = random_image(*VOLUME[dimension], batch_size=1)[0] if image is None else image
    views = from_the_end(mirror_views(range(dimension), num_mirrors), dimension)
    return Conditions(network, InMemory(image), Tiles(VOLUME[dimension], PATCH[dimension], places), views,
                      torch.device("cpu"), lambda function, *inputs: function(*inputs), NUM_OUTPUTS, room, storage,
                      plain_weight)


def noise_of(dimension):
    return lambda sample, step, rows: noise_volume((NUM_OUTPUTS, *VOLUME[dimension]), 0, "case", sample, step, rows)


def latent_of(dimension, configuration=LATENT):
    cell = (2,) * dimension
    return lambda sample, step: LatentNoise(VOLUME[dimension], configuration, cell, 100 * sample + 10 * step)


def drawn(conditions, dimension, samples=SAMPLES, num_steps=3, solver="ddim", samples_per_call=1, storage=Storage()):
    latent = latent_of(dimension) if conditions.network.has_latent_noise else None
    with torch.inference_mode():
        return CoherentSampler(conditions, num_steps, solver, samples_per_call,
                               storage).draw(samples, noise_of(dimension), latent_of=latent).read()


@pytest.mark.parametrize("configuration", [STATE, LATENT], ids=["plain", "latent"])
@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize(
    "change",
    [{"samples_per_call": 2}, {"samples_per_call": 8}, {"order": 1}, {"order": 2}, {"room": 0}, {"room": 200_000}],
    ids=str)
def test_labels_do_not_depend_on_batch_size_tile_order_or_memory(dimension, change, configuration):
    network = network_of(dimension, configuration)
    with torch.inference_mode():
        usual, other = conditions_of(network, dimension), conditions_of(
            network, dimension, **{key: value for key, value in change.items() if key != "samples_per_call"})
    found = drawn(other, dimension, samples_per_call=change.get("samples_per_call", 1))
    expected = drawn(usual, dimension)
    assert torch.equal(found.argmax(1), expected.argmax(1))
    assert torch.allclose(found, expected, atol=1e-6)
    if "room" in change:
        assert other.num_forwards > usual.num_forwards


@pytest.mark.parametrize("solver, configuration", [("ddim", STATE), ("ddpm", STATE), ("dpm_solver_pp_2m", STATE),
                                                   ("ddim", LATENT)])
def test_a_sample_does_not_depend_on_the_samples_drawn_with_it(solver, configuration):
    network = network_of(2, configuration)
    with torch.inference_mode():
        conditions = conditions_of(network, 2)
    together = drawn(conditions, 2, solver=solver)
    alone = torch.cat([drawn(conditions, 2, (k,), solver=solver) for k in SAMPLES])
    assert torch.allclose(together, alone, atol=1e-6)
    assert (together[0] - together[1]).abs().max() > 0.01


@pytest.mark.parametrize("solver, num_steps, configuration", [
    ("ddim", 3, STATE), ("ddpm", 3, STATE), ("dpm_solver_pp_2m", 3, STATE), ("dpm_solver_pp_2m", 3, LATENT),
    ("ddim", 1, LATENT.changed(sees_state=False, num_steps=1))])
def test_samples_are_the_same_to_the_last_bit_in_memory_and_on_disk(solver, num_steps, configuration, tmp_path,
                                                                    monkeypatch):
    """In several blocks a row, and with kept features in one of them."""
    monkeypatch.setattr(volume_store, "ELEMENTS_PER_BLOCK", 4 * 20 * 28 * NUM_OUTPUTS)
    network, found = network_of(3, configuration), []
    for storage, room in ((Storage(), 1e12), (Storage(tmp_path), 0)):
        with torch.inference_mode():
            conditions = conditions_of(network, 3, room=room, storage=storage)
            sampler = CoherentSampler(conditions, num_steps, solver, 8, storage)
            found.append((conditions.plain.read(), sampler.draw((0, 1, 2), noise_of(3), latent_of(3)).read()))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    assert (found[0][1][0] - found[0][1][1]).abs().max() > 0.01


@pytest.mark.parametrize("on_disk, given_back", [(True, 3), (False, 0)])
def test_on_disk_freed_memory_goes_back_before_every_step(on_disk, given_back, tmp_path, monkeypatch):
    """The pieces that a shared first step leaves behind are too small for the next one's volumes: the peak was a tenth
    higher.
    """
    calls = []
    monkeypatch.setattr(coherent, "give_back_freed_memory", lambda: calls.append(True))
    with torch.inference_mode():
        drawn(conditions_of(network_of(2), 2), 2, storage=Storage(tmp_path) if on_disk else Storage())
    assert len(calls) == given_back


@pytest.mark.parametrize("dimension", [2, 3])
def test_one_step_over_the_volume_is_the_blended_prediction_of_the_tiles(dimension):
    """Written out: predict every tile, weight its state with the window, divide, take the step, and again."""
    network, volume, patch = network_of(dimension), VOLUME[dimension], PATCH[dimension]
    image = random_image(*volume, batch_size=1)[0]
    with torch.inference_mode():
        conditions = conditions_of(network, dimension, num_mirrors=1)
        window = conditions.tiles.window.reshape(patch)
        x_t, times = noise_of(dimension)(0, 0, slice(None))[None], trailing_times(2)
        for t, s in itertools.pairwise(times):
            total, weight = torch.zeros_like(x_t), torch.zeros(volume)
            for at in slicers(dimension):
                condition = network.condition(image[at][None])
                predicted = network.predict_x_start(x_t[(slice(None), *at)], t, condition)
                total[(slice(None), *at)] += predicted * window
                weight[at[1:]] += window
            x_start = total / weight
            x_t = ddim_step(Step(x_t, x_start, t, s, network.schedule)) if s > 0 else x_start
        found = CoherentSampler(conditions, 2, "ddim", 1).draw((0,), noise_of(dimension)).read()
    expected = probabilities_from_state(x_t, "classes")
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_sample_of_another_view_is_drawn_on_the_mirrored_tile_and_mirrored_back(dimension):
    """Written out for a volume of one tile, sample 1 and its view; and the mean that nnU-Net's mirroring takes."""
    network = network_of(dimension)
    size, axis = (1, *PATCH[dimension]) if dimension == 2 else PATCH[dimension], -dimension
    image, noise = random_image(*size, batch_size=1)[0], noise_volume((NUM_OUTPUTS, *size), 0, "case", 1)
    depth = (0,) if dimension == 2 else ()
    tiles = Tiles(size, PATCH[dimension], [(slice(None), *depth, *(slice(0, n) for n in PATCH[dimension]))])
    tile, start = (x[:, 0] if dimension == 2 else x for x in (image, noise))
    with torch.inference_mode():
        conditions = Conditions(network, InMemory(image), tiles, [(), (axis, )], torch.device("cpu"),
                                lambda f, *x: f(*x), NUM_OUTPUTS, 1e12)
        found = CoherentSampler(conditions, 3, "ddim", 8).draw((1,), lambda sample, step, rows: noise[:, rows]).read()
        mirrored = network.condition(tile.flip(axis)[None])
        expected = network.sample_probabilities(mirrored, start.flip(axis)[None], 3, "ddim").flip(axis)
        plain = (network.conditioner_probabilities(network.condition(tile[None]))
                 + network.conditioner_probabilities(mirrored).flip(axis)) / 2
    assert torch.allclose(found.reshape(expected.shape), expected, atol=1e-5)
    assert torch.allclose(conditions.plain.read().reshape(plain.shape), plain, atol=1e-6)


@pytest.mark.parametrize("configuration", [STATE, PAPER, SIMPLE_DIFFUSION], ids=lambda c: c.preset)
def test_a_volume_of_one_tile_is_sampled_as_the_network_samples_it(configuration):
    network, size = network_of(3, configuration), (8, 16, 24)
    image, noise = random_image(*size, batch_size=1), noise_volume((NUM_OUTPUTS, *size), 0, "case", 0)
    tiles = Tiles(size, size, [(slice(None), *(slice(0, n) for n in size))])
    with torch.inference_mode():
        conditions = Conditions(network, InMemory(image[0]), tiles, [()], torch.device("cpu"), lambda f, *x: f(*x),
                                NUM_OUTPUTS, 1e12)
        found = CoherentSampler(conditions, 3, "ddim", 8).draw((0,), lambda sample, step, rows: noise[:, rows]).read()
        expected = network.sample_probabilities(network.condition(image), noise[None], 3, "ddim")
    # a float32 state divided by alpha = 0.006
    tolerance = 1e-2 if configuration.network.parameterisation == "noise" else 1e-5
    assert torch.allclose(found, expected, atol=tolerance)


@pytest.mark.parametrize("target", ["classes", "regions"])
def test_a_tile_without_foreground_is_background_in_every_sample_and_costs_no_evaluation(target):
    network = network_of(2, STATE.changed(target=target))
    background = -20.0 if target == "regions" else 20.0
    with torch.no_grad():
        network.conditioner.unet.decoder.seg_layers[-1].weight.zero_()
        network.conditioner.unet.decoder.seg_layers[-1].bias.copy_(torch.tensor([background, -20.0, -20.0]))
    with torch.inference_mode():
        conditions = conditions_of(network, 2)
        sampler = CoherentSampler(conditions, 2, "ddim", 8)
        samples = sampler.draw((0, 1), noise_of(2)).read()
    assert not any(conditions.is_active) and sampler.num_evaluations == 0
    empty = torch.zeros_like(samples)
    empty[:, 0] = target == "classes"
    assert torch.allclose(samples, empty, atol=1e-5)


@pytest.mark.parametrize("num_steps, schedule, of_a_tile", [(3, {}, 2 + 2 * 8), (1, {}, 8), (3, LINEAR, 3 * 8)])
def test_evaluations_are_counted_per_tile_step_and_shown_sample(num_steps, schedule, of_a_tile):
    """Two views: from pure noise the first of several steps takes one evaluation of each."""
    network = network_of(3, STATE.changed(**schedule))
    with torch.inference_mode():
        conditions = conditions_of(network, 3)
        sampler = CoherentSampler(conditions, num_steps, "ddim", 2)
        sampler.draw(SAMPLES, noise_of(3))
    assert conditions.num_forwards == 2 * len(conditions.tiles)
    assert sampler.num_evaluations == of_a_tile * len(conditions.tiles)


@pytest.mark.parametrize("schedule, shared", [({}, True), (LINEAR, False)], ids=str)
def test_samples_share_a_first_step_only_where_the_state_holds_no_signal(schedule, shared):
    """DDPM's own linear schedule keeps alpha = 0.006 at its end."""
    network = network_of(2, STATE.changed(**schedule))
    first, second = [shown_samples(network, (5, 6, 7, 8, 9), 4, step, 2) for step in (0, 1)]
    assert list(first) == ([0, 1, 2, 3] if shared else [5, 6, 7, 8, 9]) and second == (5, 6, 7, 8, 9)
    assert list(shown_samples(network, (5, 9), 4, 0, 2)) == ([1] if shared else [5, 9])


def test_samples_that_share_a_first_step_continue_from_it_with_their_own_noise():
    """Written out for one tile and one view: sample 2 takes its first step from what the noise of sample 0 predicts."""
    network, size = network_of(3), (8, 16, 24)
    image, noise = random_image(*size,
                                batch_size=1), [noise_volume((NUM_OUTPUTS, *size), 0, "case", k) for k in range(3)]
    tiles = Tiles(size, size, [(slice(None), *(slice(0, n) for n in size))])
    start, middle, _ = trailing_times(2)
    with torch.inference_mode():
        conditions = Conditions(network, InMemory(image[0]), tiles, [()], torch.device("cpu"), lambda f, *x: f(*x),
                                NUM_OUTPUTS, 1e12)
        found = CoherentSampler(conditions, 2, "ddim", 8).draw((2,), lambda k, step, rows: noise[k][:, rows]).read()
        condition = network.condition(image)
        first = network.predict_x_start(noise[0][None], start, condition)
        x_t = ddim_step(Step(noise[2][None], first, start, middle, network.schedule))
        second = network.predict_x_start(x_t, middle, condition)
        own = network.predict_x_start(noise[2][None], start, condition)
    assert torch.allclose(found, probabilities_from_state(second, "classes"), atol=1e-5)
    assert (own - first).abs().max() > 0.01


def test_the_samples_of_neighbouring_tiles_agree_where_they_overlap():
    """With a denoiser that answers to the state, independent tiles would contradict each other under the window."""
    network = network_of(2)
    with torch.inference_mode():
        conditions = conditions_of(network, 2, num_mirrors=1)
        masks = drawn(conditions, 2, num_steps=3)
    spread = masks.std(0).mean(0)
    inside = torch.zeros(VOLUME[2])
    for at in slicers(2):
        inside[at[1:]] += 1
    assert spread[inside > 1].mean() > 0.5 * spread[inside == 1].mean()


@pytest.mark.parametrize("dimension", [2, 3])
def test_tiles_see_the_latent_noise_of_their_place_through_the_view_of_their_sample(dimension):
    """One step of one tile, written out: the field of the place, flipped as the image is, and the answer flipped back.
    """
    network, noise = network_of(dimension, LATENT), latent_of(dimension)
    with torch.inference_mode():
        conditions = conditions_of(network, dimension)
        sampler = CoherentSampler(conditions, 1, "ddim", 8)
        seen = []
        network.denoiser.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[3]))
        sampler.draw((2, 3), noise_of(dimension), latent_of=noise)
    places, views = conditions.tiles.places, conditions.views
    assert len(seen) == len(places) and views[1]
    for place, latent in zip(places, seen):
        for row, sample in enumerate((2, 3)):
            expected = noise(sample, 0).at(place)[0]
            expected = expected.squeeze(1) if dimension == 2 else expected
            assert torch.allclose(latent[row], expected.flip(views[sample % 2]) if views[sample % 2] else expected)


STATELESS = LATENT.changed(sees_state=False, num_steps=1)


@pytest.mark.parametrize("target", ["classes", "regions"])
@pytest.mark.parametrize("dimension", [2, 3])
@torch.no_grad()
def test_the_expected_mask_is_the_mean_of_many_samples_in_any_order_and_storage(dimension, target, tmp_path):
    network = network_of(dimension, STATELESS.changed(target=target))
    network.denoiser.latent_gain.weight.mul_(4)
    conditions = conditions_of(network, dimension)
    assert all(conditions.is_active)
    expected = conditions.expected.read()
    many = drawn(conditions, dimension, range(200), num_steps=1, samples_per_call=50)
    mean, of_eight = many.mean(0), many[:8].mean(0)
    assert many.std(0).mean() > 0.04
    assert (expected - mean).abs().mean() < 0.5 * (of_eight - mean).abs().mean()
    assert (expected - mean).mean().abs() < 0.005
    for other in (conditions_of(network, dimension, order=1),
                  conditions_of(network, dimension, storage=Storage(tmp_path))):
        assert torch.allclose(other.expected.read(), expected, atol=1e-6)
        assert torch.allclose(other.plain.read(), conditions.plain.read(), atol=1e-6)


@pytest.mark.parametrize("on_disk", [False, True])
@torch.no_grad()
def test_label_maps_and_the_fused_mean_come_without_the_volumes_that_they_are_made_of(on_disk, tmp_path, monkeypatch):
    monkeypatch.setattr(volume_store, "ELEMENTS_PER_BLOCK", 4 * 20 * 28 * NUM_OUTPUTS)
    storage, network = Storage(tmp_path if on_disk else None), network_of(3, STATELESS)
    apart, fused = (conditions_of(network, 3, storage=storage, plain_weight=weight) for weight in (None, 0.25))
    mean = 0.25 * apart.plain.read() + 0.75 * apart.expected.read()
    assert torch.allclose(fused.fused.read(), mean, atol=1e-6) and fused.plain is fused.expected is apart.fused is None
    sampler, latent = CoherentSampler(fused, 1, "ddim", 2, storage), latent_of(3)
    labels = sampler.draw_labels((3, 1), latent, lambda probabilities: probabilities.argmax(1).byte())
    expected = drawn(apart, 3, (3, 1), 1).argmax(1)
    assert torch.equal(labels.read().long(), expected) and len(expected.unique()) == NUM_OUTPUTS
    assert conditions_of(network_of(3), 3, plain_weight=0.25).fused is None


@pytest.mark.parametrize("configuration", [STATE, LATENT, PAPER], ids=["plain", "with a state", "paper"])
@torch.no_grad()
def test_there_is_no_expected_mask_where_more_than_latent_noise_tells_samples_apart(configuration):
    assert conditions_of(network_of(2, configuration), 2).expected is None


def test_with_latent_noise_no_step_is_shared_and_every_step_draws_its_own():
    network = network_of(2, LATENT)
    assert list(shown_samples(network, SAMPLES, 2, 0, 3)) == list(SAMPLES)
    asked = []
    with torch.inference_mode():
        conditions = conditions_of(network, 2)
        CoherentSampler(conditions, 2, "ddim", 8).draw(
            (0, 1), noise_of(2), latent_of=lambda *k: asked.append(k) or latent_of(2)(*k))
    assert asked == [(0, 0), (1, 0), (0, 1), (1, 1)]


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_denoiser_that_sees_no_state_asks_for_no_noise_and_draws_the_blended_predictions(dimension):
    """Written out: predict every tile with the noise of its place, weight with the window, divide."""
    network, volume, patch = network_of(dimension, STATELESS), VOLUME[dimension], PATCH[dimension]
    image, latent = random_image(*volume, batch_size=1)[0], latent_of(dimension, STATELESS)
    with torch.inference_mode():
        conditions = conditions_of(network, dimension, num_mirrors=1)
        found = CoherentSampler(conditions, 1, "ddim", 8).draw(
            (3,), lambda *_: pytest.fail("noise was drawn"), latent).read()
        window, total, weight = conditions.tiles.window.reshape(patch), torch.zeros(found.shape), torch.zeros(volume)
        for place, at in zip(conditions.tiles.places, sorted(slicers(dimension), key=place_starts)):
            of_tile = latent(3, 0).at(place)
            of_tile = of_tile.squeeze(-3) if dimension == 2 else of_tile
            x_t = torch.randn(1, NUM_OUTPUTS, *patch, dtype=torch.float64)  # whatever it is
            predicted = network.predict_x_start(x_t, torch.ones((), dtype=torch.float64),
                                                network.condition(image[at][None]), latent=of_tile)
            total[(slice(None), *at)] += (predicted + 1) / 2 * window
            weight[at[1:]] += window
    assert torch.allclose(found, total / weight, atol=1e-5)


def place_starts(slicer):
    return [one.start if isinstance(one, slice) else one for one in slicer[1:]]


@pytest.mark.parametrize("samples", [(0, 1, 2, 3, 4, 5), (0, 3, 1, 4), (0, 1, 2)], ids=["equally", "as maps", "not"])
@pytest.mark.parametrize("values", [2 ** 24, 1], ids=["all at once", "few at once"])
@pytest.mark.parametrize("dimension", [2, 3])
def test_what_a_gpu_computes_in_few_operations_is_what_a_cpu_computes_in_blocks(dimension, values, samples,
                                                                                monkeypatch):
    """Draws, their mean and the latent noise, with two of two views, of which each has as many samples or not."""
    network = network_of(dimension, LATENT.changed(sees_state=False, num_steps=1))
    found = []
    for _ in range(2):
        with torch.inference_mode():
            conditions = conditions_of(network, dimension)
        calls = []
        monkeypatch.setattr(network, "predict_draws", lambda latent, terms, calls=calls:
                            calls.append(len(latent)) or type(network).predict_draws(network, latent, terms))
        found.append((drawn(conditions, dimension, samples), conditions.expected.read(), max(calls)))
        monkeypatch.setattr(denoiser_module, "COMPUTED_IN_BLOCKS", ("meta", ))
        monkeypatch.setattr(latent_noise, "ONE_BY_ONE", ())
        for module in (denoiser_module, coherent):
            monkeypatch.setattr(module, "VALUES_AT_ONCE", values)
    (by_blocks, mean_by_blocks, few), (at_once, mean, many) = found
    assert torch.allclose(at_once, by_blocks, atol=1e-4) and torch.allclose(mean, mean_by_blocks, atol=1e-4)
    assert (many > few) == (values > 1 and len(samples) % len(conditions.views) == 0)
