"""Coherent sampling: every tile predicts, the predictions are blended over the volume, and the volume takes the step.

Independent noise per tile would make overlapping tiles draw different hypotheses, which blending smears. Here there is one
noise volume and one state per sample, so that a sample is one mask from border to border.
"""

from __future__ import annotations

from typing import Callable, Sequence

import torch
from torch import Tensor

from medsegdiff_auto.diffusion.guidance import StateGuidance
from medsegdiff_auto.diffusion.process import q_sample
from medsegdiff_auto.diffusion.samplers import Solver, trailing_times
from medsegdiff_auto.diffusion.state import probabilities_from_state
from medsegdiff_auto.inference.conditions import Conditions, in_batches
from medsegdiff_auto.inference.mirrors import flipped
from medsegdiff_auto.inference.smooth_field import SmoothField, dispersed

NoiseOfStep = Callable[[int, int], Tensor]  # sample, step -> (K, *spatial); step 0 is the start
FieldOfSample = Callable[[int], SmoothField]
Intervention = Callable[[Tensor], Tensor]


class CoherentSampler:
    """Joint masks of one volume by one network.

    Attributes:
        num_evaluations: of the denoiser so far, one per tile, sample and step.

    Args:
        conditions: of the volume.
        num_steps, solver: as in the plan.
        samples_per_call: samples in one call of the network; the masks do not depend on it.
        intervention: what the denoiser is shown in the place of the states (S, K, *spatial), for the audit.
    """

    def __init__(self, conditions: Conditions, num_steps: int, solver: str, samples_per_call: int,
                 state_device: torch.device | str = "cpu", intervention: Intervention | None = None):
        self.conditions, self.network, self.tiles = conditions, conditions.network, conditions.tiles
        self.num_steps, self.solver, self.samples_per_call = num_steps, solver, samples_per_call
        self.state_device, self.intervention = state_device, intervention
        self.num_evaluations = 0

    def draw(self, samples: Sequence[int], noise_of: NoiseOfStep, field_of: FieldOfSample | None = None) -> Tensor:
        """The masks of these samples together, (S, K, *spatial) probabilities, float32.

        Sample k looks through view k modulo the number of views. ``field_of`` is needed where the dispersion is above 0.
        """
        c, schedule = self.network.configuration, self.network.schedule
        times = trailing_times(self.num_steps, c.start_time)
        x_t = self._noise(samples, noise_of, 0)
        if c.start_time < 1:
            prior = self.conditions.plain_state.to(x_t)
            x_t = q_sample(prior.expand(x_t.shape), x_t, *schedule.alpha_sigma(times[:1].expand(len(x_t))))
        rows = [(Solver(self.solver, schedule), StateGuidance(c.state_guidance, c.target)) for _ in range(self.tiles.num_rows)]
        fields = [field_of(k) for k in samples] if c.dispersion else []
        previous = None
        for step, (t, s) in enumerate(zip(times[:-1], times[1:])):
            noise = self._noise(samples, noise_of, step + 1) if rows[0][0].is_stochastic and s > 0 else None
            seen = x_t if self.intervention is None else self.intervention(x_t)
            predicted = torch.empty_like(x_t) if c.self_conditioning else None
            sweep = self.tiles.sweep(x_t.shape[:2], lambda index: self._tile(index, samples, x_t, seen, t, previous),
                                     self.state_device)
            for (solve, guide), (at, x_start) in zip(rows, sweep, strict=True):
                where = (slice(None), slice(None), at)
                x_start = guide(x_start)
                if fields:
                    x_start = dispersed(x_start, fields, at, c)
                if predicted is not None:
                    predicted[where] = x_start
                x_t[where] = solve(x_t[where], x_start, t, s, None if noise is None else noise[where])
            previous = predicted
        return probabilities_from_state(x_t, c.target)

    def _noise(self, samples: Sequence[int], noise_of: NoiseOfStep, step: int) -> Tensor:
        return torch.stack([noise_of(k, step) for k in samples]).to(self.state_device)

    def _tile(self, index: int, samples: Sequence[int], x_t: Tensor, seen: Tensor, t: Tensor,
              previous: Tensor | None) -> Tensor:
        """x_0 of one tile for every sample, (S, K, *patch) on the state's device; the plain network's without foreground."""
        if not self.conditions.is_active[index]:
            plain = self.tiles.cut(self.conditions.plain_state, index).to(self.state_device)
            return plain.expand(len(samples), *plain.shape)
        tile_x_t, tile_seen = self.tiles.cut(x_t, index), self.tiles.cut(seen, index) if seen is not x_t else None
        tile_previous = None if previous is None else self.tiles.cut(previous, index)
        predicted = torch.empty_like(tile_x_t)
        for rows in in_batches(range(len(samples)), self.samples_per_call):
            views = [samples[row] % len(self.conditions.views) for row in rows]
            mirrored = [None if x is None else self._mirrored(x[list(rows)], views).to(self.conditions.device)
                        for x in (tile_x_t, tile_previous, tile_seen)]
            x_start = self.conditions.evaluate(self.network.predict_step, mirrored[0], t, self.conditions.terms(index, views),
                                               *mirrored[1:])
            predicted[list(rows)] = self._mirrored(x_start.to(predicted), views)
            self.num_evaluations += len(rows)
        return predicted

    def _mirrored(self, x: Tensor, views: Sequence[int]) -> Tensor:
        """Every row of x (S, K, *patch) through its own view; its own inverse."""
        if not any(self.conditions.views[view] for view in views):
            return x
        return torch.stack([flipped(row, self.conditions.views[view]) for row, view in zip(x, views)])
