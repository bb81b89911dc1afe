"""Building blocks of the denoiser, in any number of spatial dimensions.

Shapes are (B, C, *spatial); embeddings are (B, E).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
CONVOLUTIONS: dict[int, Callable[..., Convolution]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
MAX_NORM_GROUPS = 8
Layer = TypeVar("Layer", bound=nn.Module)


def convolution(dimension: int, channels_in: int, channels_out: int, kernel_size: Sequence[int] | int,
                stride: Sequence[int] | int = 1, bias: bool = True) -> Convolution:
    """A convolution with "same" padding for odd kernels."""
    kernel = (kernel_size,) * dimension if isinstance(kernel_size, int) else tuple(kernel_size)
    stride = (stride,) * dimension if isinstance(stride, int) else tuple(stride)
    padding = tuple(k // 2 for k in kernel)
    return CONVOLUTIONS[dimension](channels_in, channels_out, kernel, stride, padding, bias=bias)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with the largest number of groups up to 8 that divides the channels."""
    groups = max(g for g in range(1, MAX_NORM_GROUPS + 1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


def zero_initialised(module: Layer) -> Layer:
    """The module with all parameters set to zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class FiLMResidualBlock(nn.Module):
    """Two convolutions with a residual; the time embedding scales and shifts between them (FiLM, Perez et al. 2018)."""

    def __init__(self, dimension: int, channels_in: int, channels_out: int, kernel_size: Sequence[int],
                 embedding_size: int, dropout: float = 0.0):
        super().__init__()
        self.norm_in = group_norm(channels_in)
        self.convolution_in = convolution(dimension, channels_in, channels_out, kernel_size)
        self.film = zero_initialised(nn.Linear(embedding_size, 2 * channels_out))
        self.norm_out = group_norm(channels_out)
        self.dropout = nn.Dropout(dropout)
        self.convolution_out = zero_initialised(convolution(dimension, channels_out, channels_out, kernel_size))
        self.skip = nn.Identity() if channels_in == channels_out else convolution(dimension, channels_in,
                                                                                  channels_out, 1)
        self.activation = nn.SiLU()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.convolution_in(self.activation(self.norm_in(x)))
        scale, shift = self.film(embedding).reshape(len(x), 2, -1, *[1] * (x.ndim - 2)).unbind(1)
        h = self.norm_out(h) * (1 + scale) + shift
        return self.skip(x) + self.convolution_out(self.dropout(self.activation(h)))


def require_divisible(channels: int, num_heads: int) -> None:
    """Attention heads share the channels equally.

    Raises:
        ValueError: they cannot.
    """
    if channels % num_heads:
        raise ValueError(f"{channels} channels do not divide into {num_heads} attention heads")


class SpatialAttention(nn.Module):
    """Pre-norm multi-head self-attention over all positions, residual, for feature maps of low resolution."""

    def __init__(self, channels: int, num_heads: int):
        super().__init__()
        require_divisible(channels, num_heads)
        self.norm = group_norm(channels)
        self.attention = nn.MultiheadAttention(channels, num_heads, batch_first=True)
        zero_initialised(self.attention.out_proj)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        attended, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return x + attended.transpose(1, 2).reshape(x.shape)


def space_to_depth(x: Tensor, factor: Sequence[int]) -> Tensor:
    """(B, C, n_i f_i) to (B, C prod f_i, n_i): every cell of f_i voxels becomes one position with more channels."""
    batch, channels, *size = x.shape
    d = len(size)
    cells = [n // f for n, f in zip(size, factor)]
    split = x.reshape(batch, channels, *[v for n, f in zip(cells, factor) for v in (n, f)])
    order = [0, 1, *range(3, 3 + 2 * d, 2), *range(2, 2 + 2 * d, 2)]
    return split.permute(order).reshape(batch, -1, *cells)


def depth_to_space(x: Tensor, factor: Sequence[int]) -> Tensor:
    """The inverse of :func:`space_to_depth`."""
    batch, _channels, *cells = x.shape
    d = len(cells)
    split = x.reshape(batch, -1, *factor, *cells)
    order = [0, 1, *[axis for i in range(d) for axis in (2 + d + i, 2 + i)]]
    return split.permute(order).reshape(batch, split.shape[1], *[n * f for n, f in zip(cells, factor)])


def between_cells(x: Tensor, cell: Sequence[int]) -> Tensor:
    """Values of cells, (B, C, *cells), at their voxels, (B, C, *spatial): linear between the centres of cells."""
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(cell)]
    factors = [float(size) for size in cell]
    return x if set(cell) == {1} else nn.functional.interpolate(x, scale_factor=factors, mode=mode)


def between_cells_but_last(x: Tensor, cell: Sequence[int]) -> Tensor:
    """:func:`between_cells` along every axis but the last, along which there are cells still; :func:`along_last` does
    the rest, a few rows at a time.
    """
    for axis, size in enumerate(cell[:-1], 2):
        if size > 1:  # as a product of matrices: torch's interpolation along three axes takes several times as long
            weights = along_last(torch.eye(x.shape[axis], dtype=x.dtype, device=x.device), size)
            x = (x.movedim(axis, -1) @ weights).movedim(-1, axis)
    return x


def along_last(x: Tensor, size: int) -> Tensor:
    """Values of cells of so many voxels along the last axis at their voxels: linear between the centres of cells."""
    if size == 1:
        return x
    lines = nn.functional.interpolate(x.reshape(1, -1, x.shape[-1]), scale_factor=float(size), mode="linear")
    return lines.reshape(*x.shape[:-1], -1)


def convolve_cells(convolve: Convolution, x: Tensor, cell: Sequence[int]) -> Tensor:
    """``convolve(space_to_depth(x, cell))`` of x (B, C, *spatial).

    Of 3-D weights in channels-last order it is computed as a convolution of the voxels with the cells' strides, whose
    weights are rearranged instead of the volume, which a CPU would have to rearrange twice.
    """
    weight, num_axes = convolve.weight, len(cell)
    if num_axes != 3 or not weight.is_contiguous(memory_format=torch.channels_last_3d):
        return convolve(space_to_depth(x, cell))
    of_voxels = weight.reshape(len(weight), x.shape[1], *cell, *weight.shape[2:])
    order = [0, 1, *[axis for i in range(num_axes) for axis in (2 + num_axes + i, 2 + i)]]
    size = [kernel * n for kernel, n in zip(weight.shape[2:], cell)]
    of_voxels = of_voxels.permute(order).reshape(len(weight), x.shape[1], *size)
    x, of_voxels = (values.contiguous(memory_format=torch.channels_last_3d) for values in (x, of_voxels))
    padding = [kernel // 2 * n for kernel, n in zip(weight.shape[2:], cell)]
    return nn.functional.conv3d(x, of_voxels, convolve.bias, tuple(cell), padding)
