"""The faster instance norm gives torch's values and gradients, in any order of memory, and stands in for it in the
planned network.
"""

import copy

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from medsegdiff_auto.networks.cpu_speed import InstanceNorm2d, InstanceNorm3d
from medsegdiff_auto.nnunet.managers import with_faster_norm

PAIRS = {
    2: (nn.InstanceNorm2d, InstanceNorm2d, torch.channels_last),
    3: (nn.InstanceNorm3d, InstanceNorm3d, torch.channels_last_3d)
}


@pytest.mark.parametrize("dimension, size", [(2, (96, 120)), (3, (24, 40, 56))])
@pytest.mark.parametrize("is_channels_last", [False, True])
@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_values_and_gradients_are_those_of_torch_in_double_precision(dimension, size, is_channels_last, mean):
    torch.manual_seed(0)
    exact, faster, channels_last = PAIRS[dimension]
    norm = faster(6, eps=0.5, affine=True)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    reference = exact(6, eps=0.5, affine=True).double()
    reference.load_state_dict(norm.state_dict())
    x, towards = 3 * torch.randn(2, 6, *size) + mean, torch.randn(2, 6, *size)
    given = (x.contiguous(memory_format=channels_last) if is_channels_last else x).detach().requires_grad_()
    expected = x.double().requires_grad_()
    (norm(given) * towards).sum().backward()
    (reference(expected) * towards.double()).sum().backward()
    torch.testing.assert_close(norm(given).double(), reference(expected), rtol=0, atol=1e-5)
    torch.testing.assert_close(given.grad.double(), expected.grad, rtol=0, atol=1e-5)
    torch.testing.assert_close(norm.weight.grad.double(), reference.weight.grad, rtol=1e-4, atol=1e-2)


def configuration_of(norm: str, residual: bool) -> dict:
    name, blocks = ("ResidualEncoderUNet", "n_blocks_per_stage") if residual else ("PlainConvUNet", "n_conv_per_stage")
    return {"architecture": {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": {"n_stages": 3, "features_per_stage": [4, 8, 8], "conv_op": "torch.nn.modules.conv.Conv2d",
                        "kernel_sizes": [[3, 3]] * 3, "strides": [[1, 1], [2, 2], [2, 2]], blocks: [1, 1, 1],
                        "n_conv_per_stage_decoder": [1, 1], "conv_bias": True, "norm_op": norm,
                        "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
                        "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True}},
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"]}}


@pytest.mark.parametrize("residual", [False, True])
def test_the_planned_network_has_the_faster_norm_and_answers_as_nnunets_with_the_same_weights(residual):
    configuration = configuration_of("torch.nn.modules.instancenorm.InstanceNorm2d", residual)
    before = copy.deepcopy(configuration)
    plain, ours = (nnUNetTrainer.build_network_architecture(None, ConfigurationManager(one), 2, 3, False).eval()
                   for one in (configuration, with_faster_norm(configuration)))
    assert configuration == before
    ours.load_state_dict(plain.state_dict(), strict=True)
    norms = [module for module in ours.modules() if isinstance(module, nn.InstanceNorm2d)]
    assert norms and all(type(norm) is InstanceNorm2d for norm in norms)
    assert not any(type(module) is InstanceNorm2d for module in plain.modules())
    image = torch.randn(2, 2, 64, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(image), plain(image), rtol=0, atol=1e-5)


def test_plans_with_another_norm_stay_as_they_are():
    configuration = configuration_of("torch.nn.modules.batchnorm.BatchNorm2d", False)
    assert with_faster_norm(configuration) is configuration
