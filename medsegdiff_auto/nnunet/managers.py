"""nnU-Net's classes over plans and labels, and the network that a configuration states."""

from __future__ import annotations

import numpy as np
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import (LabelManager, convert_labelmap_to_one_hot,
                                                              determine_num_input_channels)
from nnunetv2.utilities.plans_handling import plans_handler
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from medsegdiff_auto.networks.cpu_speed import FASTER_NORMS
from medsegdiff_auto.nnunet.inheritance import NETWORK, network_arguments
from medsegdiff_auto.nnunet.known_names import require_known_names

__all__ = ["HIGHEST_OF_A_BYTE", "ConfigurationManager", "LabelManager", "PlansManager",
           "determine_num_input_channels", "planned_network", "previous_stage_channels", "with_faster_norm"]

HIGHEST_OF_A_BYTE = 255  # label maps with higher labels take two bytes a voxel


class PlansManager(plans_handler.PlansManager):
    """nnU-Net's, which resolves no name of a class or function before :mod:`~medsegdiff_auto.nnunet.known_names` knows
    it.
    """

    def __init__(self, plans_file_or_dict: str | dict):
        super().__init__(plans_file_or_dict)
        require_known_names(self.plans)


def planned_network(configuration: dict, num_inputs: int, num_outputs: int) -> nn.Module:
    """nnU-Net's network of a configuration of the plans on torch's current device, without deep supervision."""
    planned = configuration[NETWORK]
    return get_network_from_plans(planned["network_class_name"], planned["arch_kwargs"], planned["_kw_requires_import"],
                                  num_inputs, num_outputs, allow_init=False, deep_supervision=False)


def with_faster_norm(configuration: dict) -> dict:
    """The planned configuration whose instance norms are those of :mod:`~medsegdiff_auto.networks.cpu_speed`.

    One with another norm comes back as it is.
    """
    arguments = network_arguments(configuration)
    if arguments.get("norm_op") not in FASTER_NORMS:
        return configuration
    arguments = arguments | {"norm_op": FASTER_NORMS[arguments["norm_op"]]}
    return configuration | {NETWORK: configuration[NETWORK] | {"arch_kwargs": arguments}}


def previous_stage_channels(segmentation: np.ndarray, labels: LabelManager, dtype: np.dtype) -> np.ndarray:
    """The first stage's label map (*spatial) as a cascade's network sees it, one channel per foreground label."""
    return convert_labelmap_to_one_hot(segmentation, labels.foreground_labels, dtype)
