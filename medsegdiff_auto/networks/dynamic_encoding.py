"""Dynamic conditional encoding: the image features attend to the current mask (arXiv 2211.00611, eq. 3 and 4)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from medsegdiff_auto.networks.blocks import convolution
from medsegdiff_auto.networks.ff_parser import FFParser


def layer_norm(channels: int, affine: bool = True) -> nn.GroupNorm:
    """LN over channels and positions; its scale and shift are per channel, so that any size works."""
    return nn.GroupNorm(1, channels, affine=affine)


def attentive_fusion(image_features: Tensor, normalised_image: Tensor, normalised_mask: Tensor) -> Tensor:
    """A(m_I, m_x) = (LN(m_I) * LN(m_x)) * m_I, element-wise; the last factor is not normalised."""
    return (normalised_image * normalised_mask) * image_features


class FusionTerms(NamedTuple):
    """The factors of the fusion that do not depend on the mask; B is 1 where samples share the image.

    Attributes:
        gate: LN(m_I) * m_I, (B, C, *spatial).
        shown: W_I m_I, (B, C, *spatial).
    """

    gate: Tensor
    shown: Tensor


class DynamicConditionalEncoding(nn.Module):
    """Adds to the mask features what the image shows there: m_x + W_A A(m_I, FF-Parser(m_x)) + W_I m_I.

    The paper's fusion vanishes where the mask features are flat; m_I beside it keeps the image visible there.

    Args:
        image_channels: channels of the image features m_I at this resolution, first projected to ``channels``.
        channels: channels of the mask features m_x.
    """

    def __init__(self, dimension: int, image_channels: int, channels: int, filter_grid_size: int):
        super().__init__()
        self.image_projection = convolution(dimension, image_channels, channels, 1)
        self.ff_parser = FFParser(dimension, channels, filter_grid_size)
        self.norm_image = layer_norm(channels)
        self.norm_mask = layer_norm(channels)
        self.attended_projection = convolution(dimension, channels, channels, 1)
        self.shown_projection = convolution(dimension, channels, channels, 1)

    def image_terms(self, image_features: Tensor) -> FusionTerms:
        """What the fusion needs of the image, once for all steps and samples."""
        m_image = self.image_projection(image_features)
        return FusionTerms(self.norm_image(m_image) * m_image, self.shown_projection(m_image))

    def forward(self, mask_features: Tensor, image: FusionTerms) -> Tensor:
        attended = image.gate * self.norm_mask(self.ff_parser(mask_features))
        return mask_features + self.attended_projection(attended) + image.shown
