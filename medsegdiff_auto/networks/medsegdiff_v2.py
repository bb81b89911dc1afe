"""The two conditions of MedSegDiff-V2 (arXiv 2301.11798): anchor attention and the spectrum-space transformer.

    code       paper      meaning
    f_image    f_c        features of the condition network
    f_mask     f_d        features of the diffusion network
    anchor     f_anc      max(f_c * k_gauss, f_c)

Read from a third party's description of the paper (the equations above and below); what it leaves open is decided here:
the filter of the spectrum-space transformer is real and depends on the frequency along each axis and on t.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsegdiff_auto.diffusion.precision import without_autocast
from medsegdiff_auto.networks.blocks import convolution, group_norm, require_divisible, zero_initialised
from medsegdiff_auto.networks.transformer import Perceptron, feature_map_of, position_embedding, tokens_of

GAUSSIAN_RADIUS_VOX = 2
FREQUENCY_CHANNELS = 16


class GaussianBlur(nn.Module):
    """A Gaussian of learned width per channel, (B, C, *spatial) to the same; constants stay as they are.

    Separable, 5 voxels wide along each axis; the width starts at a standard deviation of 1 voxel.
    """

    def __init__(self, dimension: int, channels: int):
        super().__init__()
        self.dimension = dimension
        self.log_deviation_vox = nn.Parameter(torch.zeros(channels))

    def kernel(self) -> Tensor:
        """(C, 5), each row with sum 1."""
        positions = torch.arange(-GAUSSIAN_RADIUS_VOX, GAUSSIAN_RADIUS_VOX + 1, device=self.log_deviation_vox.device)
        deviation = self.log_deviation_vox.exp()[:, None]
        return torch.softmax(-positions ** 2 / (2 * deviation ** 2), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        kernel, convolve = self.kernel().to(x.dtype), {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[self.dimension]
        for axis in range(self.dimension):
            shape = [1] * self.dimension
            shape[axis] = kernel.shape[1]
            padding = [0] * (2 * self.dimension)
            padding[2 * (self.dimension - 1 - axis):2 * (self.dimension - axis)] = [GAUSSIAN_RADIUS_VOX] * 2
            x = convolve(F.pad(x, padding, mode="replicate"), kernel.reshape(-1, 1, *shape), groups=x.shape[1])
        return x


class AnchorAttention(nn.Module):
    """f_d' = sigmoid(conv1x1(f_anc)) * f_d + f_d, f_anc = max(f_c * k_gauss, f_c); the same resolution on both sides.
    """

    def __init__(self, dimension: int, image_channels: int, channels: int):
        super().__init__()
        self.blur = GaussianBlur(dimension, image_channels)
        self.projection = convolution(dimension, image_channels, channels, 1)

    def image_gate(self, f_image: Tensor) -> Tensor:
        """sigmoid(conv1x1(f_anc)), (B, channels, *spatial): all that depends on the image."""
        return torch.sigmoid(self.projection(torch.maximum(self.blur(f_image), f_image)))

    def forward(self, f_mask: Tensor, image_gate: Tensor) -> Tensor:
        return image_gate * f_mask + f_mask


class TimeModulatedFilter(nn.Module):
    """x' = IFFT(A_t(f) FFT(x)) with a real A_t given by a perceptron of frequency and t; the identity at
    initialisation.

    A_t is even in each frequency, so that x' is real; being a function of the normalised frequency it serves any size.
    """

    def __init__(self, dimension: int, channels: int, embedding_size: int):
        super().__init__()
        self.of_frequency = nn.Linear(dimension, FREQUENCY_CHANNELS)
        self.of_time = nn.Linear(embedding_size, FREQUENCY_CHANNELS)
        self.gain = zero_initialised(nn.Linear(FREQUENCY_CHANNELS, channels))

    def response(self, size: torch.Size, embedding: Tensor) -> Tensor:
        """A_t at the frequencies of ``torch.fft.rfftn``, (B, C, *size with n // 2 + 1 last)."""
        axes = [2 * torch.fft.fftfreq(n, device=embedding.device).abs() for n in size[:-1]]
        axes.append(2 * torch.fft.rfftfreq(size[-1], device=embedding.device))
        frequency = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        time = self.of_time(embedding).reshape(len(embedding), *[1] * len(size), -1)
        return 1 + self.gain(F.silu(self.of_frequency(frequency) + time)).movedim(-1, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        axes = tuple(range(2, x.ndim))
        with without_autocast(x.device):
            frequencies = torch.fft.rfftn(x.float(), dim=axes)
            filtered = torch.fft.irfftn(frequencies * self.response(x.shape[2:], embedding.float()), s=x.shape[2:],
                                        dim=axes)
        return filtered.to(x.dtype)


class SpectrumAttention(nn.Module):
    """Cross-attention of the mask features to the image features; query and key pass the filter in Fourier space."""

    def __init__(self, dimension: int, image_channels: int, channels: int, num_heads: int, embedding_size: int,
                 dropout: float):
        super().__init__()
        require_divisible(channels, num_heads)
        self.num_heads, self.dropout = num_heads, dropout
        self.norm_mask, self.norm_image = group_norm(channels), group_norm(image_channels)
        self.query = convolution(dimension, channels, channels, 1)
        self.key = convolution(dimension, image_channels, channels, 1)
        self.value = convolution(dimension, image_channels, channels, 1)
        self.filter_query = TimeModulatedFilter(dimension, channels, embedding_size)
        self.filter_key = TimeModulatedFilter(dimension, channels, embedding_size)
        self.projection = zero_initialised(nn.Linear(channels, channels))
        self.perceptron = Perceptron(channels, dropout)

    def forward(self, f_mask: Tensor, f_image: Tensor, embedding: Tensor) -> Tensor:
        image = self.norm_image(f_image)
        positions = position_embedding(f_mask.shape[2:], f_mask.shape[1], f_mask.device).to(f_mask.dtype)
        query = tokens_of(self.filter_query(self.query(self.norm_mask(f_mask)), embedding)) + positions
        key = tokens_of(self.filter_key(self.key(image), embedding)) + positions
        query, key, value = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
                             for x in (query, key, tokens_of(self.value(image))))
        dropout = self.dropout if self.training else 0.0
        key, value = (x.expand(len(query), *x.shape[1:]) for x in (key, value))  # one image for all samples
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout).transpose(1, 2).flatten(-2)
        tokens = self.perceptron(tokens_of(f_mask) + self.projection(attended))
        return feature_map_of(tokens, f_mask.shape[2:])


class SpectrumTransformer(nn.Module):
    """SS-Former: ``num_layers`` of :class:`SpectrumAttention`; the identity at initialisation."""

    def __init__(self, dimension: int, image_channels: int, channels: int, num_layers: int, num_heads: int,
                 embedding_size: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(SpectrumAttention(dimension, image_channels, channels, num_heads, embedding_size,
                                                      dropout) for _ in range(num_layers))

    def forward(self, f_mask: Tensor, f_image: Tensor, embedding: Tensor) -> Tensor:
        for layer in self.layers:
            f_mask = layer(f_mask, f_image, embedding)
        return f_mask
