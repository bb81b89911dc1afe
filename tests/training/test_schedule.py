"""Length and learning rate."""

import pytest

from medsegdiff_auto.training.schedule import TrainingLength, polynomial_learning_rate, training_progress


@pytest.mark.parametrize("iterations, epochs, per_epoch", [
    (1500, 30, 50), (900, 18, 50), (300, 10, 30), (20_000, 80, 250),
    (250_000, 1000, 250), (10, 10, 1), (7, 7, 1), (25, 9, 3)])
def test_iterations_become_epochs_of_at_most_250(iterations, epochs, per_epoch):
    length = TrainingLength.of_iterations(iterations)
    assert (length.num_epochs, length.num_iterations_per_epoch) == (epochs, per_epoch)
    assert iterations <= epochs * per_epoch < iterations + per_epoch


def test_validation_takes_a_fifth_as_in_nnunet():
    assert TrainingLength().num_val_iterations_per_epoch == 50
    assert TrainingLength(10, 2).num_val_iterations_per_epoch == 1


def test_progress_is_by_epochs_or_by_hours_whichever_is_further():
    assert training_progress(5, 10, 1.0, None) == 0.5
    assert training_progress(5, 10, 1.5, 2.0) == 0.75
    assert training_progress(9, 10, 30.0, 2.0) == 1.0


def test_the_learning_rate_is_nnunets_polynomial():
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
    from torch import nn
    from torch.optim import SGD

    optimizer = SGD(nn.Linear(1, 1).parameters(), 0.01)
    scheduler = PolyLRScheduler(optimizer, 0.01, 50)
    for epoch in (0, 7, 49):
        scheduler.step(epoch)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(polynomial_learning_rate(0.01, epoch / 50))
