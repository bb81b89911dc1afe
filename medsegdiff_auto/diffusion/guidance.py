"""State guidance: the one scalar that draws samples further apart, or closer together, than the network itself does."""

from __future__ import annotations

from torch import Tensor

from medsegdiff_auto.diffusion.state import logits_from_probabilities, probabilities_from_logits, state_from_probabilities


class StateGuidance:
    """l(first) + gamma (l(x_t) - l(first)) over the steps of a sample, l the logits of the predicted x_0.

    The first prediction sees (almost) nothing but the image; what later ones differ by, they owe to the state. The form is
    that of classifier-free guidance (Ho and Salimans 2022), with the state in the place of the class. Predictions are states
    (B, K, *spatial) in [-1, 1]; probabilities below 1e-6 count as 1e-6.
    """

    def __init__(self, gamma: float, target: str):
        self.gamma, self.target = gamma, target
        self.first: Tensor | None = None

    def logits(self, x_start: Tensor) -> Tensor:
        """l of a state."""
        return logits_from_probabilities((x_start + 1) / 2, self.target)

    def __call__(self, x_start: Tensor) -> Tensor:
        """The guided prediction; the first one stays as it is."""
        if self.gamma == 1:
            return x_start
        if self.first is None:
            self.first = self.logits(x_start)
            return x_start
        return self.guided(x_start, self.first)

    def guided(self, x_start: Tensor, first: Tensor) -> Tensor:
        """The guided prediction, given the logits of the first one."""
        logits = first + self.gamma * (self.logits(x_start) - first)
        return state_from_probabilities(probabilities_from_logits(logits, self.target))
