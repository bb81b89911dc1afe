"""Coherent sampling: every tile predicts, the predictions are blended over the volume, and the volume takes the step.

Independent noise per tile would make overlapping tiles draw different hypotheses, which blending smears. Here there is
one noise volume and one state per sample, so that a sample is one mask from border to border.

The first of several steps from pure noise is predicted once per view and not once per sample: at signal-to-noise ratio
zero the posterior mean does not depend on the state, and what a network's answers to two noises differ by is its error.
The noise shown there is that of the samples whose numbers are those of the views.

A denoiser that sees no state needs none: its samples are blended as they are predicted, and become label maps slab by
slab where no more is asked for.

A tile in which the plain network sees no foreground is background in every sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from medsegdiff_auto.diffusion.sampling import sample
from medsegdiff_auto.diffusion.latent_noise import LatentNoise, LatentNoises
from medsegdiff_auto.diffusion.schedules import trailing_times
from medsegdiff_auto.diffusion.state import background_state, probabilities_from_state
from medsegdiff_auto.diffusion.transfer import entries, on_device
from medsegdiff_auto.heap import give_back_freed_memory
from medsegdiff_auto.networks.denoiser import VALUES_AT_ONCE, in_few_operations
from medsegdiff_auto.networks.sampling_network import SamplingNetwork
from medsegdiff_auto.sampling.conditions import Conditions, in_batches
from medsegdiff_auto.sampling.mirrors import flipped
from medsegdiff_auto.sampling.volume_store import WHOLE, InMemory, SlabReader, Storage, VolumeStore, blocks
from medsegdiff_auto.tables import SOLVERS

# sample, step, rows -> (K, rows, *rest) on the CPU; step 0 is the start
NoiseOfStep = Callable[[int, int, slice], Tensor]
LatentOfStep = Callable[[int, int], LatentNoise]  # sample, step
Decode = Callable[[Tensor], Tensor]  # states (S, K, rows, *rest) -> labels (S, rows, *rest)
Intervention = Callable[[Tensor], Tensor]


def shown_samples(network: SamplingNetwork, samples: Sequence[int], num_views: int, step: int,
                  num_steps: int) -> Sequence[int]:
    """The samples whose states the denoiser is shown at a step: all, or one per view where all states are pure noise.

    A single step is not shared: nothing would be left by which samples differ. Nor is one with latent noise, which
    draws a mask at every step.
    """
    is_shared = step == 0 and num_steps > 1 and not network.has_latent_noise
    if is_shared and network.schedule.is_pure_noise(trailing_times(num_steps)[0]):
        return sorted({sample % num_views for sample in samples})
    return samples


@dataclass(frozen=True)
class Noise:
    """The noise of some samples before a step, made on the CPU as it is read and sent in one copy: (S, K, rows, *rest).
    """

    samples: Sequence[int]
    noise_of: NoiseOfStep
    step: int
    device: torch.device

    def read(self, rows: slice = WHOLE) -> Tensor:
        one = self.noise_of(self.samples[0], self.step, rows)
        noise = torch.empty((len(self.samples), *one.shape))
        noise[0] = one
        for row, sample_number in enumerate(self.samples[1:], 1):  # one by one: all at once would take the memory twice
            noise[row] = self.noise_of(sample_number, self.step, rows)
        return on_device(noise, self.device)


@dataclass(frozen=True)
class Entries:
    """Some entries of a volume of states, read as they are: (S, K, rows, *rest)."""

    states: VolumeStore
    indices: Sequence[int]

    def read(self, rows: slice = WHOLE) -> Tensor:
        return torch.stack([self.states[index].read(rows) for index in self.indices])


class CoherentSampler:
    """Joint masks of one volume by one network.

    Attributes:
        num_evaluations: of the denoiser so far, one per tile, step and shown sample.

    Args:
        conditions: of the volume.
        num_steps: network evaluations per sample.
        solver: a row of :data:`~medsegdiff_auto.tables.SOLVERS`.
        samples_per_call: samples in one call of the network; the masks do not depend on it.
        storage: where the states are; the masks do not depend on it.
        intervention: what the denoiser is shown in the place of the states (S, K, *spatial), for the audit.
    """

    def __init__(self, conditions: Conditions, num_steps: int, solver: str, samples_per_call: int,
                 storage: Storage = Storage(), intervention: Intervention | None = None):
        self.conditions, self.network, self.tiles = conditions, conditions.network, conditions.tiles
        self.num_steps, self.samples_per_call, self.solver = num_steps, samples_per_call, SOLVERS.row(solver)
        self.storage, self.intervention, self.device = storage, intervention, torch.device(storage.device)
        self.num_evaluations = 0

    def draw(self, samples: Sequence[int], noise_of: NoiseOfStep, latent_of: LatentOfStep | None = None) -> VolumeStore:
        """The masks of these samples together, (S, K, *spatial) probabilities, float32.

        Sample k looks through view k modulo the number of views. ``latent_of`` is needed where the network has latent
        noise; without it that is 0.
        """
        configuration = self.network.configuration
        volume = (len(samples), self.conditions.num_outputs, *self.tiles.shape)
        finish = partial(probabilities_from_state, target=configuration.target)
        x_t = self.storage.empty(volume)
        if not configuration.network.sees_state:
            for rows, x_start in self._stateless(samples, latent_of):
                x_t.write(rows, finish(x_start))
            return x_t
        start = Noise(samples, noise_of, 0, self.device)
        for rows in x_t.blocks():
            x_t.write(rows, start.read(rows))

        def predict(step: int, t: Tensor) -> Iterator[tuple[slice, Tensor]]:
            if self.storage.is_on_disk:
                # of steps that hold other numbers of states: these volumes do not fit into its pieces
                give_back_freed_memory()
            shown = shown_samples(self.network, samples, len(self.conditions.views), step, self.num_steps)
            states: VolumeStore | Entries | Noise = x_t
            if shown is not samples:  # pure noise, drawn already where the sample of the view is one of these
                drawn = set(shown) <= set(samples)
                states = Entries(x_t, [samples.index(k)
                                       for k in shown]) if drawn else Noise(shown, noise_of, 0, self.device)
            return self._predictions(samples, shown, states, t, self._latents(shown, step, latent_of))

        def draw_noise(step: int, rows: slice) -> Tensor:
            return Noise(samples, noise_of, step, self.device).read(rows)

        sample(x_t, predict, self.num_steps, self.solver, self.network.schedule, draw_noise, finish,
               lambda: self.storage.empty(volume))
        return x_t

    def draw_labels(self, samples: Sequence[int], latent_of: LatentOfStep | None, decode: Decode) -> VolumeStore:
        """The label maps of these samples, (S, *spatial), of a denoiser that sees no state; no volume of their
        probabilities is made.
        """
        labels: VolumeStore | None = None
        for rows, x_start in self._stateless(samples, latent_of):
            decoded = decode(x_start)
            labels = labels or self.storage.empty((len(samples), *self.tiles.shape), decoded.dtype)
            labels.write(rows, decoded)
        assert labels is not None, self.tiles.shape
        return labels

    def _stateless(self, samples: Sequence[int], latent_of: LatentOfStep | None) -> Iterator[tuple[slice, Tensor]]:
        """Rows and x_0 of these samples there, (S, K, rows, *rest), by a denoiser that sees no state."""
        latents = self._latents(samples, 0, latent_of)
        return self._predictions(samples, samples, None, trailing_times(1)[0], latents)

    def _latents(self, samples: Sequence[int], step: int, latent_of: LatentOfStep | None) -> LatentNoises:
        """That of each sample, where the networks run; none for a network without."""
        is_silent = latent_of is None or not self.network.has_latent_noise
        return LatentNoises([] if is_silent else [latent_of(k, step) for k in samples], self.conditions.device)

    def _predictions(self, samples: Sequence[int], shown: Sequence[int], states: VolumeStore | Entries | Noise | None,
                     t: Tensor, latents: LatentNoises) -> Iterator[tuple[slice, Tensor]]:
        """Rows and the blended x_0 of all samples there, (S, K, rows, *rest), no more at once than is computed voxel by
        voxel.

        A row of tiles reads slices that no earlier row has left behind: those may change meanwhile.

        Args:
            states: of the samples that are shown; None for a denoiser that sees none.
        """
        instead = None if self.intervention is None or states is None else InMemory(self.intervention(states.read()))
        slabs = [None if store is None else SlabReader(store) for store in (states, instead)]
        shares = None if shown is samples else [shown.index(k % len(self.conditions.views)) for k in samples]

        def of_tile(index: int) -> Tensor:
            return self._tile(index, shown, t, slabs, latents)

        for at, blended in self.tiles.sweep((len(shown), self.conditions.num_outputs), of_tile, self.device):
            for rows in blocks(at, len(samples) * blended[0, :, 0].numel()):
                values = blended[:, :, rows.start - at.start:rows.stop - at.start]
                yield rows, values if shares is None else entries(values, shares)

    def _tile(self, index: int, samples: Sequence[int], t: Tensor, slabs: Sequence[SlabReader | None],
              latents: LatentNoises) -> Tensor:
        """x_0 of one tile for these samples, (S, K, *patch) on the states' device; background without foreground.

        Args:
            slabs: of the states, and of what the denoiser is shown in their place.
        """
        at, size = self.tiles.places[index][0], (self.conditions.num_outputs, *self.tiles.patch_size)
        if not self.conditions.is_active[index]:
            return background_state(size, self.network.configuration.target, self.device).expand(len(samples), *size)
        predicted = torch.empty((len(samples), *size), device=self.device)
        self.num_evaluations += len(samples)
        if not self.network.configuration.network.sees_state:
            self._draw_tile(index, samples, latents, predicted)
            return predicted
        cut = [None if slab is None else self.tiles.cut_slab(slab(at), index) for slab in slabs]
        for some in in_batches(range(len(samples)), self.samples_per_call):
            views = [samples[row] % len(self.conditions.views) for row in some]
            rows = slice(some[0], some[-1] + 1)
            x_t, instead = [
                None if x is None else on_device(self._mirrored(x[rows], views), self.conditions.device) for x in cut
            ]
            x_start = self.conditions.evaluate(self.network.predict_x_start, x_t, t,
                                               self.conditions.terms(index, views), instead,
                                               self._latent(index, latents, some, views))
            for row, of_sample, view in zip(some, x_start.to(predicted), views):
                predicted[row] = flipped(of_sample, self.conditions.views[view])
        return predicted

    def _draw_tile(self, index: int, samples: Sequence[int], latents: LatentNoises, predicted: Tensor) -> None:
        """Writes x_0 of one tile for these samples, (S, K, *patch), by a denoiser that sees no state: view by view, all
        that looks through it; on a GPU all views together where they are small and as many samples look through each.
        """
        views = [number % len(self.conditions.views) for number in samples]
        of_views = sorted(set(views))
        rows_of_views = [[row for row, of_row in enumerate(views) if of_row == view] for view in of_views]
        terms = self.conditions.terms(index, of_views)
        are_small = predicted.numel() <= VALUES_AT_ONCE and in_few_operations(terms.logits)
        if are_small and len(set(map(len, rows_of_views))) == 1:
            calls = [(range(len(of_views)), [row for draw in zip(*rows_of_views) for row in draw])]
        else:
            calls = [(range(number, number + 1), rows) for number, rows in enumerate(rows_of_views)]
        for numbers, rows in calls:
            latent = self._latent(index, latents, rows, [views[row] for row in rows])
            if latent is None:  # for the audit, and of its twin
                latent = self.network.silent_latents(len(rows), self.tiles.patch_size, self.conditions.device)
            states = self.conditions.evaluate(self.network.predict_draws, latent, terms.of(numbers))
            for row, state in zip(rows, states.to(predicted)):
                predicted[row] = flipped(state, self.conditions.views[views[row]])

    def _latent(self, index: int, latents: LatentNoises, rows: Sequence[int], views: Sequence[int]) -> Tensor | None:
        """The latent noise of some samples in a tile, each through its view, (S, fields, *cells)."""
        if not latents:
            return None
        of_tile = latents.at(rows, self.tiles.places[index])
        return self._mirrored(of_tile.squeeze(-3) if self.tiles.flat else of_tile, views)

    def _mirrored(self, x: Tensor, views: Sequence[int]) -> Tensor:
        """Every row of x (S, K, *patch) through its own view."""
        if not any(self.conditions.views[view] for view in views):
            return x.contiguous()
        return torch.stack([flipped(row, self.conditions.views[view]) for row, view in zip(x, views)])
