"""One phantom: an image, its place in the world and the exact posterior of its annotation."""

from dataclasses import dataclass

import numpy as np

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.phantoms.anatomy import LOBE_PROBABILITY, SIZE_SPREADS, STRUCTURE_NAMES, random_posterior
from medsegdiff_auto.phantoms.intensities import channel_appearances, render
from medsegdiff_auto.phantoms.posterior import Posterior
from medsegdiff_auto.phantoms.shapes import random_rotation

DEFAULT_SHAPES = {2: (96, 96), 3: (40, 48, 40)}


@dataclass(frozen=True)
class Phantom:
    """A synthetic case.

    ``image (C, *shape)`` float32 and ``spacing_mm`` are in array axis order (z, y, x); ``origin_mm`` and the
    row-major ``direction`` are SimpleITK's, in the order (x, y, z).

    The posterior is conditioned on the noise-free geometry (surfaces and deltas). The noise leaves a remainder: at the
    default noise an ideal observer estimates a structure's radius to better than 0.7 % and its delta to better than 8 %
    of itself (Cramer-Rao bound, position estimated too), so the posterior given the noisy image is wider by less than
    1 % of its width (``tests/phantoms/test_phantom.py`` computes this).
    """

    image: np.ndarray
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: tuple[float, ...]
    posterior: Posterior


@dataclass(frozen=True)
class PhantomKind:
    """What the phantoms of a dataset have in common.

    Attributes:
        shape: in array axis order; None for that of ``DEFAULT_SHAPES``.
        spacing_mm: in array axis order; None for 1 mm. That of a case deviates from it by up to 8 % per axis.
        lobe_probability: that an annotator counts the side lobe to the organ.
        size_spreads: range of the relative standard deviation of a structure's size.
        shape_variation: up to which the shape of a case deviates, 0.1 for 10 %.

    Raises:
        UserError: dimension not 2 or 3, unknown modality, too many channels or structures, shape of another dimension.
    """

    dimension: int = 3
    modality: str = "MRI"
    num_channels: int = 1
    num_structures: int = 2
    shape: tuple[int, ...] | None = None
    spacing_mm: tuple[float, ...] | None = None
    lobe_probability: float = LOBE_PROBABILITY
    size_spreads: tuple[float, float] = SIZE_SPREADS
    shape_variation: float = 0.1

    def __post_init__(self):
        if self.dimension not in DEFAULT_SHAPES:
            raise UserError("Phantoms have two or three dimensions.", found=str(self.dimension), expected="2 or 3",
                            fix="choose 2 or 3")
        if not 1 <= self.num_structures <= len(STRUCTURE_NAMES):
            raise UserError("Phantoms do not have that many structures.", found=str(self.num_structures),
                            expected=f"1 to {len(STRUCTURE_NAMES)}", fix="ask for another number of structures")
        for name, values in (("shape", self.shape), ("spacing", self.spacing_mm)):
            if values is not None and len(values) != self.dimension:
                raise UserError(f"The {name} does not fit the dimension.",
                                found=f"{len(values)} values {tuple(values)}",
                                expected=f"{self.dimension} values", fix=f"give one value of the {name} per axis")
        channel_appearances(self.modality, self.num_channels)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the image's channels, in their order."""
        return tuple(appearance.name for appearance in channel_appearances(self.modality, self.num_channels))


def generate_phantom(seed: int | tuple[int, ...], kind: PhantomKind = PhantomKind()) -> Phantom:
    """The phantom that belongs to ``seed``; no annotation is drawn here, so the image cannot depend on one."""
    generator = np.random.default_rng(seed)
    shape = _vary_shape(generator, kind.shape or DEFAULT_SHAPES[kind.dimension], kind.shape_variation)
    spacing_mm = _vary_spacing(generator, kind.spacing_mm or (1.0,) * kind.dimension)
    origin_mm = tuple(float(value) for value in generator.uniform(-150.0, 150.0, kind.dimension))
    direction = _random_direction(generator, kind.dimension)
    posterior = random_posterior(generator, shape, spacing_mm, kind.num_structures, kind.lobe_probability,
                                 kind.size_spreads)
    image = render(generator, posterior, channel_appearances(kind.modality, kind.num_channels))
    return Phantom(image, spacing_mm, origin_mm, direction, posterior)


def _vary_shape(generator: np.random.Generator, shape: tuple[int, ...], variation: float) -> tuple[int, ...]:
    return tuple(round(size * generator.uniform(1.0 - variation, 1.0 + variation)) for size in shape)


def _vary_spacing(generator: np.random.Generator, spacing_mm: tuple[float, ...]) -> tuple[float, ...]:
    """Each axis times a factor in [0.92, 1.08], rounded to 1e-3 mm."""
    return tuple(round(float(step * generator.uniform(0.92, 1.08)), 3) for step in spacing_mm)


def _random_direction(generator: np.random.Generator, dimension: int) -> tuple[float, ...]:
    """An oblique orientation: a random signed axis flip in 3-D, times a random rotation; row-major."""
    rotation = random_rotation(generator, dimension)
    flips = np.diag(generator.choice([-1.0, 1.0], dimension)) if dimension == 3 else np.eye(dimension)
    return tuple(float(value) for value in (rotation @ flips).ravel())
