"""Under autocast to float16 no value of the denoiser ends at 65,504."""

import pytest
import torch
from tiny_networks import LATENT, PRESETS, STATE, random_image, random_state, randomised, tiny_network

from medsegdiff_auto.diffusion.precision import wide_range, widened

TIMES = torch.tensor([0.4, 1.0], dtype=torch.float64)
STATELESS = LATENT.changed(sees_state=False, num_steps=1)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def supported(monkeypatch):
    """A GPU with bfloat16, or without; what stands for it here is the CPU's autocast."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)


def with_large_stream(network, factor):
    """Features grow by the factor behind the first convolution; the norms take it out again before the logits."""
    with torch.no_grad():
        for name in ("state_stem", "image_stem"):
            for parameter in getattr(network.denoiser, name).parameters():
                parameter *= factor
    return network


@pytest.mark.parametrize("configuration", [STATE, LATENT, STATELESS], ids=["state", "latent", "stateless"])
@torch.no_grad()
def test_features_beyond_the_range_of_float16_stay_finite_and_right(configuration):
    network = with_large_stream(randomised(tiny_network(2, configuration)).eval(), 1e6)
    image, x_t = random_image(8, 12), random_state(8, 12)
    latent = network.latents((1, 2), (8, 12), CPU)
    exact = network.predict_x_start(x_t, TIMES, network.condition(image), latent=latent)
    with torch.autocast("cpu", torch.float16):
        condition = network.condition(image)
        assert condition.logits[0].dtype == torch.float16
        narrow = network.denoiser(x_t.half(), TIMES.float(), condition)
        found = network.predict_x_start(x_t, TIMES, condition, latent=latent)
        terms = network.image_terms(condition)
        again = network.predict_x_start(x_t, TIMES, terms, latent=latent)
    assert not narrow.isfinite().all()  # what it is about
    assert found.isfinite().all() and found.dtype == torch.float32
    assert (found - exact).abs().max() < 0.1 and (again - exact).abs().max() < 0.1


@torch.no_grad()
def test_draws_and_their_mean_take_the_wide_range_too():
    network = with_large_stream(randomised(tiny_network(2, STATELESS)).eval(), 1e6)
    image, latent = random_image(8, 12, batch_size=1), network.latents((1, 2, 3), (8, 12), CPU)

    def of_all():
        terms = network.image_terms(network.condition(image))
        return network.predict_draws(latent, terms), network.expected_probabilities(terms), *network.latent_response(
            terms)

    exact = of_all()
    with torch.autocast("cpu", torch.float16):
        found = of_all()
    for one, expected in zip(found, exact, strict=True):
        assert one.dtype == torch.float32 and (one - expected).abs().max() < 0.02 * expected.abs().max() + 0.02


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_training_step_learns_from_features_beyond_float16(preset):
    network = tiny_network(2, preset, deep_supervision=True)
    x_start = random_state(8, 12).sign()
    with torch.autocast("cpu", torch.float16, cache_enabled=False):
        step = network(random_image(8, 12), x_start, [0.3, 1.0], torch.randn_like(x_start), [])
    assert step.output.dtype in (torch.bfloat16, torch.float32)
    step.output.float().square().mean().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())


def test_outside_of_float16_nothing_changes_and_older_gpus_take_float32(monkeypatch):
    with torch.autocast("cpu", torch.bfloat16), wide_range(CPU):
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
    with wide_range(CPU):
        assert not torch.is_autocast_enabled("cpu")
    with wide_range(torch.device("meta")):
        pass
    monkeypatch.setattr("medsegdiff_auto.diffusion.precision.wide_type", lambda device: torch.float32)
    with torch.autocast("cpu", torch.float16):
        with wide_range(CPU):
            assert not torch.is_autocast_enabled("cpu")
        assert torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.float16


def test_only_float16_is_widened():
    half, other = torch.zeros(2, dtype=torch.float16), torch.zeros(2, dtype=torch.bfloat16)
    found = widened(([half, other], None))
    assert found[0][0].dtype == torch.float32 and found[0][1] is other and found[1] is None
