"""Training and sampling on a GPU: one device, no wait of the host, float32 where half precision ends, no float64."""

import json
from pathlib import Path

import pytest
import torch
from conftest import CUDA
from fake_cuda import cuda_autocast
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from tiny_networks import STATE, NUM_OUTPUTS, PRESETS, tiny_network

from medsegdiff_auto.diffusion.configuration import PLANS_KEY, DiffusionConfiguration
from medsegdiff_auto.diffusion.losses import anchor_loss
from medsegdiff_auto.diffusion.objective import denoiser_loss
from medsegdiff_auto.networks.build import build_network
from medsegdiff_auto.networks.conditioner import Condition
from medsegdiff_auto.sampling.coherent import CoherentSampler
from medsegdiff_auto.sampling.conditions import Conditions
from medsegdiff_auto.sampling.process_memory import free_bytes
from medsegdiff_auto.sampling.seeds import noise_volume
from medsegdiff_auto.diffusion.latent_noise import LatentNoise
from medsegdiff_auto.sampling.tiling import Tiles
from medsegdiff_auto.sampling.volume_store import InMemory, Storage
from medsegdiff_auto.tables import SOLVERS

READY = sorted((Path(__file__).parents[2] / "plans" / "ready").glob("*.json"))
PLANNED = [(file, name) for file in READY
           for name, section in json.loads(file.read_text(encoding="utf-8"))["configurations"].items()
           if PLANS_KEY in section]
SIZES = {2: (16, 24), 3: (8, 16, 24)}


def on_the_device(gpu, network):
    """The network as it is, and what its building did forgotten."""
    assert {parameter.device.type for parameter in network.parameters()} == {"cuda"}
    forget(gpu)
    return network


def forget(gpu):
    gpu.waits.clear(), gpu.uploads.clear(), gpu.float64.clear()


def tiny(gpu, dimension, configuration, deep_supervision=False):
    with CUDA:
        network = tiny_network(dimension, configuration, deep_supervision)
    return on_the_device(gpu, network)


def planned(gpu, file, name, deep_supervision):
    """Network, input channels, outputs and patch of a ready plan."""
    section = json.loads(file.read_text(encoding="utf-8"))["configurations"][name]
    architecture, diffusion = section["architecture"], DiffusionConfiguration.from_plan(section[PLANS_KEY])
    num_inputs, num_outputs = 2, len(diffusion.loss.class_weights)
    with CUDA:
        unet = get_network_from_plans(architecture["network_class_name"], architecture["arch_kwargs"],
                                      architecture["_kw_requires_import"], num_inputs, num_outputs, allow_init=False,
                                      deep_supervision=deep_supervision)
        network = build_network(unet, num_outputs, diffusion, deep_supervision, num_inputs)
    return on_the_device(gpu, network), num_inputs, num_outputs, section["patch_size"]


def take_training_step(network, num_inputs, num_outputs, size):
    """Forward with recycling and both losses, under autocast as the trainer does it; backward needs a GPU."""
    network.train()
    image, x_start = torch.zeros(2, num_inputs, *size, device=CUDA), torch.zeros(2, num_outputs, *size, device=CUDA)
    valid = torch.ones(2, 1, *size, device=CUDA, dtype=torch.bool)
    with cuda_autocast():
        step = network(image, x_start, [0.3, 0.9], torch.randn_like(x_start), [1])
        loss = denoiser_loss(step.output.float(), x_start, step.x_t, step.log_snr, network.configuration, valid)
        if network.has_conditioner:
            loss = loss + anchor_loss(step.logits[0].float(), x_start, network.configuration.target, valid=valid)
    return step, loss


@pytest.mark.parametrize("target", ["classes", "regions"])
@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_training_step_waits_for_nothing(gpu, preset, dimension, target):
    network = tiny(gpu, dimension, preset.changed(target=target), deep_supervision=True)
    step, loss = take_training_step(network, 2, NUM_OUTPUTS, SIZES[dimension])
    assert step.output.dtype in (torch.bfloat16, torch.float32) and loss.dtype == torch.float32
    assert step.x_t.dtype == torch.float32 and step.log_snr.device.type == "cpu" and step.log_snr.dtype == torch.float64
    assert not gpu.waits and not gpu.float64


@pytest.mark.parametrize("file, name", PLANNED, ids=lambda value: getattr(value, "stem", value))
def test_a_training_step_of_every_ready_plan_waits_for_nothing(gpu, file, name):
    network, num_inputs, num_outputs, patch = planned(gpu, file, name, deep_supervision=True)
    take_training_step(network, num_inputs, num_outputs, patch)
    assert not gpu.waits and not gpu.float64


@pytest.mark.parametrize("solver", SOLVERS.names())
@pytest.mark.parametrize("target", ["classes", "regions"])
@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_samples_of_a_tile_wait_for_nothing_and_are_float32(gpu, preset, dimension, target, solver):
    network, size = tiny(gpu, dimension, preset.changed(target=target)).eval(), SIZES[dimension]
    predicted, noise = [], torch.randn(2, NUM_OUTPUTS, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), cuda_autocast():
        condition = network.condition(torch.zeros(2, 2, *size, device=CUDA))
        forget(gpu)
        drawn = network.sample_probabilities(condition, noise, 3, solver,
                                             lambda t, x_t, x_start: predicted.append(x_start))
        plain = network.conditioner_probabilities(condition)
    assert not gpu.waits and not gpu.float64
    assert {x.dtype for x in (*predicted, drawn, plain)} == {torch.float32} and drawn.device.type == "cuda"


def conditions_on_the_device(gpu, network, size, num_outputs, num_inputs, dimension):
    """Two overlapping tiles along the first axis of the patch, two views, states and plain probabilities on the device.
    """
    shape = (2, *size) if dimension == 2 else (size[0] + 2, *size[1:])
    whole = tuple(slice(0, n) for n in size)
    places = [(slice(None), d, *whole) for d in range(2)] if dimension == 2 else [
        (slice(None), slice(start, start + size[0]), *whole[1:]) for start in (0, 2)]
    tiles, storage = Tiles(shape, size, places), Storage(None, CUDA)
    image = torch.zeros(num_inputs, *shape)

    def evaluate(function, *inputs):
        with cuda_autocast():
            return function(*inputs)

    conditions = Conditions(network, InMemory(image), tiles, [(), (-1,)], CUDA, evaluate, num_outputs, 1e12, storage)
    return conditions, storage, shape


def draw_coherently(gpu, network, size, num_inputs, num_outputs, dimension, solver):
    """Probabilities of four samples in three steps; recorded is what happens between the first look and the masks."""
    with torch.inference_mode():
        conditions, storage, shape = conditions_on_the_device(gpu, network, size, num_outputs, num_inputs, dimension)
        assert conditions.plain.read().device.type == "cuda" and conditions.plain.read().dtype == torch.float32
        forget(gpu)
        sampler = CoherentSampler(conditions, 3, solver, 2, storage)
        drawn = sampler.draw(
            (0, 1, 2, 3), lambda k, step, rows: noise_volume((num_outputs, *shape), 0, "case", k, step, rows),
            lambda k, step: LatentNoise(shape, network.configuration, network.cell, 10 * k + step)).read()
    return drawn


@pytest.mark.parametrize("preset, solver",
                         [(STATE, solver)
                          for solver in SOLVERS.names()] + [(preset, "ddim")
                                                            for preset in PRESETS.values() if preset is not STATE],
                         ids=lambda value: getattr(value, "preset", value))
@pytest.mark.parametrize("dimension, target", [(2, "regions"), (3, "classes")])
def test_coherent_samples_with_states_on_the_device_wait_for_nothing(gpu, monkeypatch, preset, dimension, target,
                                                                     solver):
    # one number per tile, before the loop
    monkeypatch.setattr(Conditions, "_has_foreground", lambda self, probabilities: True)
    network = tiny(gpu, dimension, preset.changed(target=target)).eval()
    drawn = draw_coherently(gpu, network, SIZES[dimension], 2, NUM_OUTPUTS, dimension, solver)
    assert drawn.shape[:2] == (4, NUM_OUTPUTS) and drawn.device.type == "cuda" and drawn.dtype == torch.float32
    assert not gpu.waits and not gpu.float64


@pytest.mark.parametrize("file, name", PLANNED, ids=lambda value: getattr(value, "stem", value))
def test_coherent_samples_of_every_ready_plan_wait_for_nothing(gpu, monkeypatch, file, name):
    monkeypatch.setattr(Conditions, "_has_foreground", lambda self, probabilities: True)
    network, num_inputs, num_outputs, patch = planned(gpu, file, name, deep_supervision=False)
    network.configuration = network.configuration.changed(dispersion=1.0)
    draw_coherently(gpu, network.eval(), tuple(patch), num_inputs, num_outputs, len(patch), "ddim")
    assert not gpu.waits and not gpu.float64


def test_the_first_look_waits_for_one_number_per_tile(gpu, monkeypatch):
    """Whether a tile has foreground decides whether the denoiser looks at it at all."""
    network, asked = tiny(gpu, 3, STATE).eval(), []
    monkeypatch.setattr(Conditions, "_has_foreground",
                        lambda self, probabilities: asked.append(probabilities.device.type) or True)
    with torch.inference_mode():
        conditions_on_the_device(gpu, network, SIZES[3], NUM_OUTPUTS, 2, 3)
    assert asked == ["cuda", "cuda"] and not gpu.waits


@pytest.mark.parametrize("solver, copies", [("ddim", 1), ("ddpm", 1 + 2 * 2)])
def test_the_noise_of_all_samples_goes_to_the_device_in_one_copy(gpu, monkeypatch, solver, copies):
    """Once at the start, and for a stochastic solver once per block of the volume before every step but the last."""
    monkeypatch.setattr(Conditions, "_has_foreground", lambda self, probabilities: True)
    draw_coherently(gpu, tiny(gpu, 3, STATE).eval(), SIZES[3], 2, NUM_OUTPUTS, 3, solver)
    assert sum(count for place, count in gpu.uploads.items() if "on_device(noise" in place) == copies


def test_what_torch_keeps_on_the_gpu_for_its_next_tensors_counts_as_free(monkeypatch):
    """Another process has 3 GB of 10; torch holds 5, of which tensors fill 1."""
    for name, value in (("mem_get_info", (2e9, 10e9)), ("memory_reserved", 5e9), ("memory_allocated", 1e9)):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert free_bytes(CUDA) == 6e9


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("target", ["classes", "regions"])
def test_half_precision_ends_before_the_softmax_and_the_sigmoid(target, dtype):
    """In float16 a sigmoid and the state after it turn the logits -9 and 9 into -8.3 and 13.8."""
    logits = torch.tensor([[-9.0], [-8.0], [9.0]])[None, :, None].expand(1, 3, 4, 4).to(dtype)
    network = tiny_network(2, STATE.changed(target=target))
    network.denoise = lambda *inputs: logits
    x_start = network.predict_x_start(torch.zeros(1, 3, 4, 4), torch.tensor(1.0, dtype=torch.float64), None)
    plain = network.conditioner_probabilities(Condition([logits], []))
    exact = logits.double().softmax(1) if target == "classes" else logits.double().sigmoid()
    for found in ((x_start + 1) / 2, plain):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), exact, rtol=2e-3, atol=1e-7)
