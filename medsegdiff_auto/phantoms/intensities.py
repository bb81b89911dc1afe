"""CT-like, PET-like and MRI-like images of a phantom's geometry.

The noise-free image is a function of the posterior's parameters alone, never of an annotation. Tissue k is blended in
with the weight Phi((1 - rho_k) / (BLUR * delta_k)): the boundary's position shows the nominal radius, its width shows
delta_k, nothing shows z_k. The side lobe appears faintly, with the same contrast in every case.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.phantoms.posterior import Posterior
from medsegdiff_auto.phantoms.shapes import Blob, random_blob, random_unit_vector, voxel_centres_mm

BLUR = 2.0
"""Width of a boundary in the image over the spread delta of the annotated radius."""

LOBE_CONTRAST = 0.45
"""Contrast of the side lobe against the body, over the contrast of the organ."""


@dataclass(frozen=True)
class ChannelAppearance:
    """Mean intensities of air, body, distractors and the structures 1 ... 4, and the standard deviation of the noise.

    ``is_magnitude``: the noise is Rician and each case has its own scale and bias field (MRI), else the noise is
    Gaussian and the scale is fixed.
    """

    name: str
    air: float
    body: float
    distractor: float
    structures: tuple[float, float, float, float]
    noise: float
    is_magnitude: bool


CHANNELS = {
    "CT": (
        ChannelAppearance("CT", -1000.0, 20.0, 400.0, (100.0, 180.0, 0.0, 260.0), 14.0, False),
        ChannelAppearance("PET", 0.0, 0.25, 0.15, (0.50, 1.00, 0.10, 0.75), 0.07, True),
    ),
    "MRI": (
        ChannelAppearance("T1", 0.0, 0.40, 0.20, (0.70, 1.05, 0.15, 1.40), 0.045, True),
        ChannelAppearance("T2", 0.0, 0.50, 0.90, (0.30, 0.75, 1.00, 0.60), 0.045, True),
        ChannelAppearance("FLAIR", 0.0, 0.40, 0.25, (0.55, 0.95, 0.20, 0.70), 0.045, True),
        ChannelAppearance("T1c", 0.0, 0.40, 0.60, (0.60, 1.00, 0.30, 0.85), 0.045, True),
    ),
}


def channel_appearances(modality: str, num_channels: int) -> tuple[ChannelAppearance, ...]:
    """The first ``num_channels`` channels of ``modality`` ("CT" or "MRI").

    Raises:
        UserError: unknown modality, or fewer than one or more channels than it has.
    """
    if modality not in CHANNELS:
        raise UserError("The phantoms know no such modality.", found=str(modality), expected=" or ".join(CHANNELS),
                        fix="choose one of them")
    available = CHANNELS[modality]
    if not 1 <= num_channels <= len(available):
        names = ", ".join(appearance.name for appearance in available)
        raise UserError(f"{modality} phantoms do not have that many channels.", found=str(num_channels),
                        expected=f"1 to {len(available)} ({names})", fix="ask for fewer channels")
    return available[:num_channels]


def render(generator: np.random.Generator, posterior: Posterior,
           appearances: tuple[ChannelAppearance, ...]) -> np.ndarray:
    """The image, float32, shape ``(C, *shape)``: CT in HU, PET and MRI >= 0 on a scale of each case and channel."""
    body, distractors = _surroundings(generator, posterior)
    texture = _texture(generator, posterior.shape)
    return np.stack([
        _acquire(generator, posterior, appearance, _tissue(posterior, appearance, body, distractors, texture))
        for appearance in appearances
    ]).astype(np.float32)


def tissue_weights(posterior: Posterior) -> np.ndarray:
    """Blending weight of each structure, Phi((1 - rho_k) / (BLUR delta_k)), shape ``(K, *shape)``, in [0, 1]."""
    widths = BLUR * np.array([structure.delta for structure in posterior.structures])
    return norm.cdf((1.0 - posterior.normalised_radii) / widths.reshape(-1, *[1] * len(posterior.shape)))


def _surroundings(generator: np.random.Generator, posterior: Posterior) -> tuple[Blob, list[Blob]]:
    """The body outline and two small distractors between the organ and the body's surface."""
    dim = len(posterior.shape)
    field_of_view_mm = np.asarray(posterior.shape) * np.asarray(posterior.spacing_mm)
    body = random_blob(generator, field_of_view_mm / 2, 0.58 * field_of_view_mm, elongation=0.03, roughness=0.02)
    distractors = [random_blob(generator, body.point_mm(random_unit_vector(generator, dim), 0.85),
                               0.07 * field_of_view_mm) for _ in range(2)]
    return body, distractors


def _texture(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth random texture with zero mean and unit standard deviation, correlated over about 2 voxels."""
    texture = gaussian_filter(generator.standard_normal(shape), 2.0, mode="wrap")
    return (texture - texture.mean()) / texture.std()


def _tissue(posterior: Posterior, appearance: ChannelAppearance, body: Blob, distractors: list[Blob],
            texture: np.ndarray) -> np.ndarray:
    """Noise-free intensities: air, body, distractors, lobe, then the structures in the order of painting."""
    points = voxel_centres_mm(posterior.shape, posterior.spacing_mm)
    layers = [(norm.cdf((1.0 - body.normalised_radius(points)) / 0.02), appearance.body)]
    layers += [(norm.cdf((1.0 - blob.normalised_radius(points)) / 0.1), appearance.distractor) for blob in distractors]
    contrast = appearance.structures[0] - appearance.body
    if posterior.lobe is not None:
        weight = norm.cdf((1.0 - posterior.lobe.blob.normalised_radius(points)) / 0.1)
        layers.append((weight, appearance.body + LOBE_CONTRAST * contrast))
    layers += list(zip(tissue_weights(posterior), appearance.structures))
    image = np.full(posterior.shape, appearance.air)
    for weight, intensity in layers:
        image = image * (1.0 - weight) + intensity * weight
    return image + 0.04 * abs(contrast) * texture


def _acquire(generator: np.random.Generator, posterior: Posterior, appearance: ChannelAppearance,
             tissue: np.ndarray) -> np.ndarray:
    first = generator.normal(0.0, appearance.noise, posterior.shape)
    if not appearance.is_magnitude:
        return tissue + first
    second = generator.normal(0.0, appearance.noise, posterior.shape)
    biased = np.maximum(tissue, 0.0) * _bias_field(generator, posterior.shape)
    return np.exp(generator.uniform(np.log(100.0), np.log(2000.0))) * np.hypot(biased + first, second)


def _bias_field(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """exp of a random quadratic polynomial of the position, mostly in [0.75, 1.35], geometric mean 1."""
    axes = np.meshgrid(*[np.linspace(-1.0, 1.0, size) for size in shape], indexing="ij")
    log_field = sum(generator.uniform(-0.12, 0.12) * axis + generator.uniform(-0.12, 0.12) * axis ** 2 for axis in axes)
    return np.exp(log_field - log_field.mean())
