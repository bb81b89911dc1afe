"""From the network's grid to the image's as nnU-Net goes: resample, decode, uncrop, transpose; channel by channel, slab
by slab.

nnU-Net does it with all channels of a volume at once, in memory. Its own functions resample and decode here, on less at
a time; both act on each channel and each voxel alone.

    code     meaning
    cropped  the grid that resampling leads to: the image's axes in nnU-Net's order, cropped to what is not 0
    image    (z, y, x), as nnU-Net reads the file
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from medsegdiff_auto.decision.decoder import labels_by_channel
from medsegdiff_auto.diffusion.state import logits_from_probabilities
from medsegdiff_auto.nnunet.managers import ConfigurationManager, PlansManager
from medsegdiff_auto.nnunet.properties import crop_of, cropped_shape, spacing_of, whole_shape
from medsegdiff_auto.nnunet.resampling import in_plan_order, network_spacing
from medsegdiff_auto.sampling.volume_store import Storage, VolumeStore


class ImageGrid:
    """The way of one case.

    Args:
        properties: of nnU-Net's preprocessing.
        storage: where volumes of K channels are kept.
    """

    def __init__(self, properties: dict, plans_manager: PlansManager, configuration_manager: ConfigurationManager,
                 dataset_json: dict, storage: Storage = Storage()):
        self.properties, self.plans_manager = properties, plans_manager
        self.configuration_manager = configuration_manager
        self.dataset_json, self.storage = dataset_json, storage
        self.label_manager = plans_manager.get_label_manager(dataset_json)
        self.target = "regions" if self.label_manager.has_regions else "classes"
        self.cropped_shape = cropped_shape(properties)

    def decoder_of(self, network_shape: Sequence[int]) -> Callable[[Tensor], Tensor] | None:
        """Labels (S, rows, *rest) of states (S, K, rows, *rest) in [-1, 1] on the network's grid (*spatial), where that
        is the cropped one; else None.
        """
        if tuple(network_shape) != tuple(self.cropped_shape):
            return None
        return lambda states: labels_by_channel(states.unbind(1), self.label_manager, even=0.0)

    def logits(self, probabilities: VolumeStore, in_place: bool = False) -> VolumeStore:
        """Logits on the cropped grid, (K, *cropped), of probabilities on the network's, (K, *spatial).

        Args:
            in_place: the probabilities may be given up for them, where the grids are the same.
        """
        shape = (probabilities.shape[0], *self.cropped_shape)
        is_room = in_place and probabilities.can_be_written and tuple(probabilities.shape) == shape
        logits = probabilities if is_room else self.storage.empty(shape)
        for channel, values in enumerate(self.channels_of_logits(probabilities)):
            logits[channel].write(logits.all_rows, values)
        return logits

    def channels_of_logits(self, probabilities: VolumeStore) -> Iterator[Tensor]:
        """:meth:`logits`, one channel (*cropped) after the other."""
        return (self._resampled(probabilities[channel]) for channel in range(probabilities.shape[0]))

    def _resampled(self, channel: VolumeStore) -> torch.Tensor:
        """Logits of one channel (*spatial) on the cropped grid."""
        values = torch.empty((1, *channel.shape))
        for rows in channel.blocks():
            values[0, rows] = logits_from_probabilities(channel.values(rows), self.target)
        spacing = in_plan_order(spacing_of(self.properties), self.plans_manager)
        from_spacing = network_spacing(spacing, self.configuration_manager)
        resample = self.configuration_manager.resampling_fn_probabilities
        return torch.as_tensor(resample(values.numpy(), self.cropped_shape, from_spacing, spacing))[0]

    def to_probabilities(self, logits: VolumeStore) -> VolumeStore:
        """Replaces the logits of a store by nnU-Net's softmax or sigmoid of them, and returns it."""
        for rows in logits.blocks():
            logits.write(rows, self.label_manager.apply_inference_nonlin(logits.values(rows)))
        return logits

    def labels(self, logits: Iterable[Tensor]) -> np.ndarray:
        """Label map of the image, (z, y, x), of the logits of one channel (*cropped) after the other; 0 outside of what
        was cropped.
        """
        if self.label_manager.has_regions:
            logits = map(self.label_manager.apply_inference_nonlin, logits)
        return self.on_image(labels_by_channel(logits, self.label_manager).numpy())

    def on_image(self, volume: np.ndarray, outside: float = 0) -> np.ndarray:
        """A volume (*cropped) as (z, y, x), ``outside`` where the image was cropped."""
        whole = np.full(whole_shape(self.properties), outside, volume.dtype)
        whole[crop_of(self.properties)] = volume
        return whole.transpose(self.plans_manager.transpose_backward)

    def on_cropped(self, volume: np.ndarray) -> np.ndarray:
        """What :meth:`on_image` made, (z, y, x), back on the cropped grid; a view."""
        return volume.transpose(self.plans_manager.transpose_forward)[crop_of(self.properties)]

    def channel_on_image(self, probabilities: VolumeStore, channel: int) -> np.ndarray:
        """One channel of probabilities (K, *cropped) as (z, y, x); what was cropped is background."""
        is_background = channel == 0 and self.target == "classes"
        return self.on_image(probabilities[channel].read().numpy(), float(is_background))
