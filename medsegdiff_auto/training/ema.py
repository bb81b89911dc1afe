"""The weight average that predicts."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

WARM_UP_OFFSET = 10


def ema_decay(step: int, num_steps: int, relative_length: float) -> float:
    """Decay of step ``step`` (from 0): an average over ``relative_length`` of the training so far planned.

    beta = 1 - 1 / (relative_length * num_steps), held below (1 + step) / (10 + step) so that the random
    initialisation is forgotten at once. A length relative to the training follows Karras et al. 2024 (EDM2).
    """
    longest = max(1.0, relative_length * num_steps)
    return min(1 - 1 / longest, (1 + step) / (WARM_UP_OFFSET + step))


class EMA:
    """Exponential moving average of all parameters and buffers of a network, by torch's AveragedModel."""

    def __init__(self, network: nn.Module, num_steps: int, relative_length: float):
        self.num_steps, self.relative_length = num_steps, relative_length
        self.averaged = AveragedModel(network, use_buffers=True)

    @property
    def network(self) -> nn.Module:
        """The network with the averaged weights."""
        return self.averaged.module

    def update(self, network: nn.Module) -> None:
        """One step of the average towards the weights of ``network``."""
        decay = ema_decay(int(self.averaged.n_averaged), self.num_steps, self.relative_length)
        self.averaged.multi_avg_fn = get_ema_multi_avg_fn(decay)
        self.averaged.update_parameters(network)

    def state_dict(self) -> dict:
        """Weights and number of updates."""
        return {"weights": self.network.state_dict(), "num_updates": int(self.averaged.n_averaged)}

    def load_state_dict(self, state: dict) -> None:
        """Restores :meth:`state_dict`."""
        self.network.load_state_dict(state["weights"])
        self.averaged.n_averaged.fill_(state["num_updates"])
