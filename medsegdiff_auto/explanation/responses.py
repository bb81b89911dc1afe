"""The response of the network's learned filters to every frequency, before and after training.

A response is measured, not read off the parameters: a single impulse passes the module, and the Fourier transform of
what comes out is what the module does to every frequency. An impulse of extent 1 along the first axis shows the plane
of zero frequency along it.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from medsegdiff_auto.networks.ff_parser import FFParser
from medsegdiff_auto.networks.medsegdiff_v2 import SpectrumTransformer
from medsegdiff_auto.networks.sampling_network import SamplingNetwork

NUM_FREQUENCIES = 33
TIME_OF_MODULATED_FILTERS = 0.5


@dataclass(frozen=True)
class Response:
    """A filter's response before and after training, complex, (C, 33, 33), zero frequency in the middle."""

    name: str
    before: np.ndarray
    after: np.ndarray

    @property
    def most_changed(self) -> int:
        """The channel whose response has moved furthest."""
        return int((np.abs(self.after - self.before) ** 2).sum(axis=(1, 2)).argmax())


def frequencies() -> np.ndarray:
    """Frequencies of the maps, in cycles per voxel, increasing, (33,)."""
    return np.fft.fftshift(np.fft.fftfreq(NUM_FREQUENCIES))


@torch.inference_mode()
def response(filtered: Callable[[Tensor], Tensor], channels: int, dimension: int, device: torch.device) -> np.ndarray:
    """The response of a linear map of features (1, C, *spatial) to the frequencies of a plane."""
    size = (1,) * (dimension - 2) + (NUM_FREQUENCIES,) * 2
    impulse = torch.zeros(1, channels, *size, device=device)
    impulse[..., 0, 0] = 1
    answer = filtered(impulse)[0].reshape(channels, NUM_FREQUENCIES, NUM_FREQUENCIES).double().cpu().numpy()
    return np.fft.fftshift(np.fft.fft2(answer), axes=(1, 2))


def parser_response(parser: FFParser) -> np.ndarray:
    """The response of an FF-Parser."""
    return response(parser, len(parser.filter_real), parser.dimension, parser.filter_real.device)


def responses(network: SamplingNetwork) -> list[Response]:
    """Responses of every learned filter, finest stage first; empty where the network has none."""
    found = []
    for module in network.modules():
        if isinstance(module, FFParser):
            fresh = FFParser(module.dimension, *module.filter_real.shape[:2]).to(module.filter_real.device)
            found.append(Response(f"stage {len(found) + 1}", parser_response(fresh), parser_response(module)))
        elif isinstance(module, SpectrumTransformer):
            found += modulated_responses(module, network)
    return found


def modulated_responses(transformer: SpectrumTransformer, network: SamplingNetwork) -> list[Response]:
    """Responses of the filters of MedSegDiff-V2's SS-Former, which depend on t, at t = 1/2."""
    found, device = [], next(transformer.parameters()).device
    time = torch.full((1,), TIME_OF_MODULATED_FILTERS, device=device)
    with torch.inference_mode():
        embedding = network.denoiser.time_embedding(time)
    for index, layer in enumerate(transformer.layers, 1):
        for name, module in (("query", layer.filter_query), ("key", layer.filter_key)):
            fresh = untrained(module)
            channels, dimension = module.gain.out_features, module.of_frequency.in_features
            maps = [response(lambda x, of=of: of(x, embedding), channels, dimension, device) for of in (fresh, module)]
            found.append(Response(f"layer {index}\n{name}", *maps))
    return found


def untrained(module: nn.Module) -> nn.Module:
    """A copy of a time-modulated filter whose gain is 0 again, as at initialisation."""
    fresh = deepcopy(module)
    nn.init.zeros_(fresh.gain.weight)
    nn.init.zeros_(fresh.gain.bias)
    return fresh


def profile(magnitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Radii up to 1/2 cycle per voxel, and the mean of every channel (C, 33, 33) on the ring around each, (C, radii).
    """
    rows, columns = np.meshgrid(frequencies(), frequencies(), indexing="ij")
    ring = np.rint(np.hypot(rows, columns) * NUM_FREQUENCIES).astype(int)
    rings = range(NUM_FREQUENCIES // 2 + 1)
    return np.array(rings) / NUM_FREQUENCIES, np.stack([magnitude[:, ring == r].mean(1) for r in rings], axis=1)
