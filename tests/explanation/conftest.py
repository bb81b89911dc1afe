"""Networks of every preset, too small to have learned anything, and a tile with two nested balls."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from medsegdiff_auto.diffusion.configuration import section_of_preset
from medsegdiff_auto.nnunet.structures import Structure
from medsegdiff_auto.explanation.case import Tile, state_of
from medsegdiff_auto.explanation.plane import Plane
from medsegdiff_auto.networks.build import build_network
from medsegdiff_auto.planning.presets import load_preset

SIZES = {2: (40, 32), 3: (8, 40, 32)}
NUM_INPUTS, NUM_STEPS = 2, 3


def network_of(preset: str, dimension: int, target: str) -> nn.Module:
    """The preset's network with noise on every parameter, so that nothing is zero or the identity."""
    torch.manual_seed(0)
    fragment = load_preset("auto" if preset == "state" else preset)
    features, first_stage = (4, 8, 8), min(1, fragment["planning"]["first_stage_3d"])
    configuration = section_of_preset(fragment, target, structure_diameter_vox=(12.0, 16.0, 14.0)[-dimension:],
                                      num_steps=NUM_STEPS if fragment["network"]["sees_state"] else 1,
                                      first_stage=first_stage,
                                      features_per_stage=(8, 8) if first_stage else (8, 8, 16), num_mirrors=1)
    if preset == "state":
        configuration = configuration.changed(**WITH_A_STATE)
    num_outputs = 3 if target == "classes" else 2
    unet = PlainConvUNet(
        input_channels=NUM_INPUTS, n_stages=3, features_per_stage=features, kernel_sizes=[(3,) * dimension] * 3,
        conv_op={2: nn.Conv2d, 3: nn.Conv3d}[dimension], conv_bias=True, num_classes=num_outputs,
        strides=[(1,) * dimension] + [(2,) * dimension] * 2, n_conv_per_stage=1, n_conv_per_stage_decoder=1,
        norm_op={2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dimension], norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True})
    network = build_network(unet, num_outputs, configuration, False, NUM_INPUTS).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return network


def tile_of(dimension: int, target: str, num_samples: int = 2) -> Tile:
    """An organ of radius 10 with a core of radius 5, both displaced from the middle; noise of every sample."""
    size = SIZES[dimension]
    grid = np.indices(size)
    distance = np.sqrt(((grid - np.array([n / 2 + 1 for n in size]).reshape(-1, *[1] * dimension)) ** 2).sum(0))
    reference = (distance < 10).astype(np.int16) + (distance < 5)
    nested = target == "regions"
    structures = [Structure("organ", (1, 2), (1, 2), 0), Structure("core", 2, (2,), 1)] if nested else [
        Structure("organ", 1, (1,), 1), Structure("core", 2, (2,), 2)]
    num_outputs = 2 if nested else 3
    generator = torch.Generator().manual_seed(0)
    image = torch.from_numpy(reference).float() + 0.3 * torch.randn(NUM_INPUTS, *size, generator=generator)
    return Tile("ball", image, reference, state_of(reference, structures, target, num_outputs, None),
                torch.randn(num_samples, num_outputs, *size, generator=generator), structures, target, None,
                Plane.through(reference > 0, (1.0,) * dimension))


def predictor_of(network: nn.Module) -> SimpleNamespace:
    """What the explanation uses of the predictor, on the CPU."""
    return SimpleNamespace(network=network, condition_on=network.condition, draw=network.sample_probabilities,
                           num_steps=network.configuration.sampling.num_steps)


COMBINATIONS = [("auto", 2, "regions"), ("auto", 3, "classes"), ("paper", 2, "classes"), ("paper", 3, "regions"),
                ("paper_v2", 2, "regions"), ("simple_diffusion", 3, "classes"), ("state", 2, "classes")]
WITH_A_STATE = {"sees_state": True, "latent_scales": (), "latent_channels": 0, "dispersion": 0.0,
                "name": "cross_entropy", "num_training_draws": 1, "pure_noise_share": 0.0,
                "num_steps": NUM_STEPS}  # auto of earlier versions


@pytest.fixture(params=COMBINATIONS, ids=lambda values: "-".join(map(str, values)), scope="module")
def combination(request) -> tuple[str, int, str]:
    """Preset, dimension and target."""
    return request.param


@pytest.fixture(scope="module")
def preset(combination) -> str:
    return combination[0]


@pytest.fixture(scope="module")
def network(combination) -> nn.Module:
    return network_of(*combination)


@pytest.fixture(scope="module")
def tile(combination) -> Tile:
    return tile_of(*combination[1:])


@pytest.fixture(scope="module")
def predictor(network) -> SimpleNamespace:
    return predictor_of(network)


@pytest.fixture(scope="session")
def make():
    """The builders, for tests that want one combination."""
    return SimpleNamespace(network=network_of, tile=tile_of, predictor=predictor_of)
