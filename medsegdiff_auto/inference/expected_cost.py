"""What a case will cost, before it is drawn: network evaluations, and seconds from one timed call of each network.

    code          meaning
    T, V          tiles of the volume, mirrored views
    forwards      of nnU-Net's network: T V a fold, and again for tiles whose features the memory does not hold
    evaluations   of the denoiser: T samples a step and fold; T V, at most, of a first step that samples share

Both are upper bounds: tiles without foreground are left after their first look.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from collections.abc import Callable, Iterable, Sequence

import torch

from medsegdiff_auto.sampling.conditions import in_batches, num_bytes, views_per_call
from medsegdiff_auto.sampling.memory_plan import MemoryPlan
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor

LONG_CALL_S = 0.5


@dataclass(frozen=True)
class CallCost:
    """Price of one view of a tile through nnU-Net's network, and of one evaluation of the denoiser.

    Attributes:
        forward_s, evaluation_s: seconds, in batches as they will be.
        view_bytes: of the features that are kept of a view.
    """

    forward_s: float
    evaluation_s: float
    view_bytes: float


@dataclass(frozen=True)
class CaseCost:
    """Upper bounds for one case over all folds.

    Attributes:
        num_looks: views of tiles at which the network looks; ``num_forwards`` of nnU-Net's network, 0 for presets
            without one.
        num_evaluations: of the denoiser.
    """

    num_tiles: int
    num_looks: int
    num_forwards: int
    num_evaluations: int

    def seconds(self, calls: CallCost) -> float:
        """Seconds in the networks; what surrounds them (reading, resampling, writing) is not in it."""
        return self.num_looks * calls.forward_s + self.num_evaluations * calls.evaluation_s


def case_cost(predictor: MedSegDiffPredictor, image_shape: Sequence[int], calls: CallCost,
              memory: MemoryPlan) -> CaseCost:
    """The cost of a preprocessed image (C, *spatial) of this shape within its memory."""
    tiles = predictor.tiles_of(image_shape[1:])
    num_folds, num_views = len(predictor.list_of_parameters), len(predictor.views)
    num_kept = min(len(tiles), int(memory.terms_bytes // (calls.view_bytes * num_views)))
    shown = [samples for fold in range(num_folds) for samples in predictor.shown_samples(fold, memory)]
    in_a_call = predictor.samples_per_call if predictor.diffusion.network.sees_state else predictor.num_samples
    again = (len(tiles) - num_kept) * views_in_calls(shown, num_views, in_a_call)
    num_looks = num_folds * len(tiles) * num_views + again
    return CaseCost(len(tiles), num_looks, num_looks * predictor.network.has_conditioner,
                    len(tiles) * sum(map(len, shown)))


def views_in_calls(shown: Iterable[Sequence[int]], num_views: int, samples_per_call: int) -> int:
    """Views that the calls for a tile whose features are not kept ask for, given the samples that are shown at every
    step.
    """
    return sum(
        len({sample % num_views
             for sample in batch}) for samples in shown for batch in in_batches(samples, samples_per_call))


@torch.inference_mode()
def time_calls(predictor: MedSegDiffPredictor, clock: Callable[[], float] = perf_counter) -> CallCost:
    """One call of either network on a tile of the real size, in a batch as large as they will be."""
    network, device, patch = predictor.network, predictor.device, predictor.patch_size
    num_views = min(len(predictor.views), views_per_call(patch))
    num_samples = min(predictor.num_samples, predictor.samples_per_call)
    image = torch.zeros((num_views, predictor.num_inputs, *patch), device=device)

    def look():
        terms = predictor.evaluate(network.image_terms, predictor.evaluate(network.condition, image))
        if network.has_expected_mask:
            predictor.evaluate(network.expected_probabilities, terms)
        return terms

    terms, look_s = _timed(look, device, clock)
    latent = network.drawn_latents(num_samples, patch, device)
    if network.configuration.network.sees_state:
        x_t = torch.zeros((num_samples, predictor.label_manager.num_segmentation_heads, *patch), device=device)
        of_samples = terms.of([sample % num_views for sample in range(num_samples)])
        arguments = x_t, torch.tensor(1.0, dtype=torch.float64), of_samples, None, latent
    else:
        silent = network.silent_latents(num_samples, patch, device)
        arguments = silent if latent is None else latent, terms.of([0])

    def step():
        function = network.predict_x_start if network.configuration.network.sees_state else network.predict_draws
        return predictor.evaluate(function, *arguments)

    _, evaluation_s = _timed(step, device, clock)
    return CallCost(look_s / num_views, evaluation_s / num_samples, num_bytes(terms) / num_views)


def _timed(call: Callable, device: torch.device, clock: Callable[[], float]):
    """What the call returns, and its seconds; a short one is timed at its second time, when it is warm."""
    result, seconds = _seconds_of(call, device, clock)
    if device.type == "cuda" or seconds < LONG_CALL_S:
        result, seconds = _seconds_of(call, device, clock)
    return result, seconds


def _seconds_of(call: Callable, device: torch.device, clock: Callable[[], float]):
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = clock()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, clock() - start


def cost_statement(case: str, cost: CaseCost, calls: CallCost, predictor: MedSegDiffPredictor, num_cases: int) -> str:
    """The line that is printed before the first case."""
    seconds = cost.seconds(calls)
    folds, views = len(predictor.list_of_parameters), len(predictor.views)
    line = (f"{case}: at most {cost.num_forwards} evaluations of nnU-Net's network and {cost.num_evaluations} of the "
            "denoiser "
            f"(tiles {cost.num_tiles}, folds {folds}, views {views}, samples {predictor.num_samples}, steps "
            f"{predictor.num_steps}), "
            f"about {_rounded(seconds)} s")
    return line + (f"; {num_cases} cases of this size about {_rounded(num_cases * seconds)} s" if num_cases > 1 else "")


def _rounded(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}"
