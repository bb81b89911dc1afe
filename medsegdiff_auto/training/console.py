"""What a training says on the console."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """``1:02:03``."""
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d}:{int(seconds % 60):02d}"


def epoch_line(trainer, epoch: int) -> str:
    """``epoch 12/50 | loss ... | patch Dice ... | 31 s | 0:19:38 left`` of a trainer that has just ended an epoch."""
    log = trainer.logger
    seconds = log.get_value("epoch_end_timestamps", step=-1) - log.get_value("epoch_start_timestamps", step=-1)
    seconds = max(0.0, seconds)  # by a clock that may be set back
    left = (trainer.num_epochs - epoch - 1) * seconds
    if trainer.max_hours:
        left = min(left, max(0.0, (trainer.max_hours - trainer.hours) * 3600))
    dice = " ".join(f"{value:.3f}" for value in log.get_value("dice_per_class_or_region", step=-1))
    denoiser = [f"denoiser loss {loss:.4f} | " for loss in getattr(trainer, "denoiser_losses", ())[-1:]]
    return (f"epoch {epoch + 1}/{trainer.num_epochs} | loss {log.get_value('train_losses', step=-1):.3f} | "
            f"validation loss {log.get_value('val_losses', step=-1):.3f} | {''.join(denoiser)}"
            f"patch Dice {dice} | {seconds:.0f} s | {clock(left)} left")
