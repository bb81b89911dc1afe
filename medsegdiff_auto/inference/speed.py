"""``--speed``: samples, steps and mirrored views by one word, relative to what was planned.

    word      samples      steps          mirrored views
    fast      half         half           none
    default   the plan's   the plan's     the plan's
    best      twice        twice          all that training mirrored

``fast`` keeps two samples and two steps where there are as many: one sample has no spread, and one step from pure noise
predicts almost the same mask for every sample. What was fitted for a number of steps holds for these alone: a fitted
model keeps them, and one whose denoiser sees no state has one.
"""

from __future__ import annotations

from dataclasses import replace

from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.options import SamplingOptions

FEWEST = 2


def at_speed(speed: str, options: SamplingOptions, model: TrainedModel) -> SamplingOptions:
    """The options with what they leave open (None) filled in.

    Args:
        speed: one of :data:`~medsegdiff_auto.inference.options.SPEEDS`.
    """
    if speed == "default":
        return options
    planned, num_views = model.diffusion, 2 ** len(model.mirroring_axes or ())
    if speed == "fast":
        samples, steps, mirrors = _halved(planned.sampling.num_samples), _halved(planned.sampling.num_steps), 1
    else:
        samples, steps, mirrors = 2 * planned.sampling.num_samples, min(2 * planned.sampling.num_steps,
                                                                        planned.noise.num_train_steps), num_views
    if model.fitted is not None or not planned.network.sees_state:
        steps = planned.sampling.num_steps
    return replace(options, num_samples=options.num_samples or samples, num_steps=options.num_steps or steps,
                   num_mirrors=options.num_mirrors or mirrors)


def _halved(planned: int) -> int:
    return min(planned, max(FEWEST, planned // 2))
