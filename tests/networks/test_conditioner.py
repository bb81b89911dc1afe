"""The conditioner is nnU-Net's network."""

import pytest
import torch
from tiny_networks import ANISOTROPIC, random_image, randomised, tiny_network, tiny_unet

from medsegdiff_auto.networks.conditioner import Condition, Conditioner

UNETS = [(2, None, (8, 12)), (3, None, (4, 8, 12)), (3, ANISOTROPIC, (2, 12, 8))]
PARAMETERS = [(residual, *unet) for unet in UNETS for residual in (False, True)]


@pytest.mark.parametrize("residual, dimension, strides, size", PARAMETERS, ids=str)
def test_the_conditioner_repeats_its_network_bit_for_bit(residual, dimension, strides, size):
    unet = tiny_unet(dimension, residual, strides, deep_supervision=True)
    conditioner, image = Conditioner(unet), random_image(*size)
    logits, expected = conditioner.train()(image).logits, unet(image)
    assert len(logits) == len(expected) == 2
    assert all(torch.equal(a, b) for a, b in zip(logits, expected))
    unet.decoder.deep_supervision = False
    evaluated = conditioner.eval()(image).logits
    assert len(evaluated) == 1 and torch.equal(evaluated[0], unet(image))


@pytest.mark.parametrize("residual", [False, True])
def test_the_pyramid_ends_in_the_bottleneck_of_the_encoder(residual):
    unet, image = tiny_unet(3, residual, ANISOTROPIC), random_image(2, 12, 8)
    conditioner = Conditioner(unet)
    pyramid = conditioner(image).pyramid
    assert torch.equal(pyramid[-1], unet.encoder(image)[-1])
    assert [x.shape[1:] for x in pyramid] == [(8, 2, 6, 4), (8, 1, 3, 2)]
    assert conditioner.pyramid_channels == [8, 8]
    assert conditioner.strides == ANISOTROPIC


@pytest.mark.parametrize("residual", [False, True])
def test_weights_of_a_trained_nnunet_network_load_into_the_conditioner(residual):
    trained = randomised(tiny_unet(2, residual), seed=7)
    network, image = tiny_network(2, residual=residual), random_image(8, 12)
    network.conditioner.unet.load_state_dict(trained.state_dict())
    assert torch.equal(network.eval().condition(image).logits[0], trained.eval()(image))


@pytest.mark.parametrize("training", [True, False])
def test_deep_supervised_logits_are_those_of_nnunet_in_either_mode(training):
    network, image = tiny_network(2, deep_supervision=True).train(training), random_image(8, 12)
    expected = network.conditioner.unet.train(training)(image)
    assert len(expected) == 2
    assert all(torch.equal(a, b) for a, b in zip(network(image), expected))


def test_a_repeated_condition_has_every_sample_several_times_in_a_row():
    condition = Condition([torch.tensor([[1.0], [2.0]]), torch.tensor([[5.0], [6.0]])], [torch.tensor([[3.0], [4.0]])])
    repeated = condition.repeated(2)
    assert len(repeated.logits) == 1
    assert repeated.logits[0].flatten().tolist() == [1, 1, 2, 2]
    assert repeated.pyramid[0].flatten().tolist() == [3, 3, 4, 4]
