"""The FF-Parser of MedSegDiff (arXiv 2211.00611, eq. 5 and 6).

    code     paper   meaning
    x        m       mask features, real, (B, C, *spatial)
    filter   A       learned complex map, one value per channel and frequency
    forward  m'      IFFT(A * FFT(m))

The paper ties A to one square size. Here A is stored on a grid over the normalised frequencies [-1/2, 1/2] cycles per
voxel ([0, 1/2] on the last axis, by the symmetry of real signals) and interpolated linearly to any size, so that one
filter serves every patch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsegdiff_auto.diffusion.precision import without_autocast


class FFParser(nn.Module):
    """A learned complex filter in the Fourier domain; the identity at initialisation; real output; any size.

    Computed in float32 outside autocast: half-precision FFTs lose small frequencies and need sizes that are powers of
    2.

    Args:
        dimension: number of spatial axes.
        channels: C.
        grid_size: points of the stored filter over the full frequency range of an axis; odd, so that zero is one.
    """

    def __init__(self, dimension: int, channels: int, grid_size: int = 9):
        super().__init__()
        if grid_size % 2 == 0 or grid_size < 3:
            raise ValueError(f"grid_size is {grid_size}, expected an odd number of at least 3")
        self.dimension = dimension
        shape = (grid_size,) * (dimension - 1) + (grid_size // 2 + 1,)
        self.filter_real = nn.Parameter(torch.ones(channels, *shape))
        self.filter_imaginary = nn.Parameter(torch.zeros(channels, *shape))
        self._kept: tuple[tuple, Tensor] | None = None

    def filter_at(self, size: tuple[int, ...]) -> Tensor:
        """A at the frequencies of ``torch.fft.rfftn`` for feature maps of this size, (C, *size with n // 2 + 1 last).
        """
        device = self.filter_real.device
        axes = [2 * torch.fft.fftfreq(n, device=device) for n in size[:-1]]
        axes.append(4 * torch.fft.rfftfreq(size[-1], device=device) - 1)
        stored = torch.cat([self.filter_real, self.filter_imaginary])[None]
        if self.dimension == 1:
            axes, stored = [torch.zeros(1, device=device), *axes], stored[:, :, None]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)[None]
        values = F.grid_sample(stored.float(), grid.float(), mode="bilinear", padding_mode="border",
                               align_corners=True)[0]
        values = values[:, 0] if self.dimension == 1 else values
        real, imaginary = values.chunk(2)
        return torch.complex(real, imaginary)

    def _filter(self, size: tuple[int, ...]) -> Tensor:
        """Returns :meth:`filter_at`, in inference mode that of the call before until the size or the stored filter
        changes.
        """
        stored = self.filter_real, self.filter_imaginary
        if not torch.is_inference_mode_enabled() or any(values.is_inference() for values in stored):
            return self.filter_at(size)  # tensors made in inference mode do not count their changes
        key = size, *((values.data_ptr(), values._version) for values in stored)
        if self._kept is None or self._kept[0] != key:
            self._kept = key, self.filter_at(size)
        return self._kept[1]

    def forward(self, x: Tensor) -> Tensor:
        axes = tuple(range(2, x.ndim))
        with without_autocast(x.device):
            frequencies = torch.fft.rfftn(x.float(), dim=axes)
            filtered = torch.fft.irfftn(frequencies * self._filter(tuple(x.shape[2:])), s=x.shape[2:], dim=axes)
        return filtered.to(x.dtype)
