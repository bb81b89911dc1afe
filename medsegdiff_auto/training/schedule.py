"""How long a training lasts, and the learning rate that follows from it."""

from __future__ import annotations

from dataclasses import dataclass

from torch.optim import Optimizer

POLYNOMIAL_EXPONENT = 0.9
ITERATIONS_PER_EPOCH = 250
FEWEST_EPOCHS, FINEST_EPOCHS, FINEST_ITERATIONS_PER_EPOCH = 10, 30, 50
VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class TrainingLength:
    """Epochs and iterations per epoch.

    nnU-Net's default is 1,000 epochs of 250 training and 50 validation iterations.
    """

    num_epochs: int = 1000
    num_iterations_per_epoch: int = ITERATIONS_PER_EPOCH

    @classmethod
    def of_iterations(cls, num_iterations: int) -> TrainingLength:
        """Exactly or just above ``num_iterations``, in epochs of 250, or shorter ones where these would be few.

        The learning rate falls from epoch to epoch, so that its last value follows from their number: there are up to
        30 epochs of at least 50 iterations, and ten in any case.
        """
        num_epochs = min(FINEST_EPOCHS, max(FEWEST_EPOCHS, num_iterations // FINEST_ITERATIONS_PER_EPOCH))
        per_epoch = min(ITERATIONS_PER_EPOCH, -(-num_iterations // num_epochs))
        return cls(-(-num_iterations // per_epoch), per_epoch)

    @property
    def num_val_iterations_per_epoch(self) -> int:
        """A fifth of the training iterations, as in nnU-Net."""
        return max(1, round(VALIDATION_SHARE * self.num_iterations_per_epoch))

    def give_to(self, trainer) -> None:
        """Sets the length of a trainer, nnU-Net's or ours."""
        trainer.num_epochs = self.num_epochs
        trainer.num_iterations_per_epoch = self.num_iterations_per_epoch
        trainer.num_val_iterations_per_epoch = self.num_val_iterations_per_epoch


def training_progress(epoch: int, num_epochs: int, hours: float, max_hours: float | None) -> float:
    """Share of the training that is over, by epochs or by hours, whichever is further, in [0, 1]."""
    by_hours = hours / max_hours if max_hours else 0.0
    return min(1.0, max(epoch / num_epochs, by_hours))


def polynomial_learning_rate(initial: float, progress: float) -> float:
    """nnU-Net's decay, initial * (1 - progress)^0.9."""
    return initial * (1 - progress) ** POLYNOMIAL_EXPONENT


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Sets the rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
