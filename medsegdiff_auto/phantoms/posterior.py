"""The exact joint distribution of the annotation, given the geometry that the image shows.

Notation
    k           structure, 1 ... K; also its label
    rho_k(v)    normalised radius of voxel v with respect to structure k (``shapes.Blob``)
    z_k         N(0, 1), one per structure and annotator: how generously the annotator draws structure k
    delta_k     spread of the relative radius of structure k
    b           Bernoulli(p): does the annotator count the side lobe L to the organ (structure 1)
    M_k         binary mask of structure k

An annotator draws z_1 ... z_K and b independently and annotates

    M_1 = {v: rho_1(v) <= 1 + delta_1 z_1}  united with L where b = 1
    M_k = {v: rho_k(v) <= 1 + delta_k z_k}                              k = 2 ... K

and the label of v is the largest k with v in M_k, else 0: a later structure is painted over the earlier ones. Hence,
with the marginals q_k = Phi((1 - rho_k) / delta_k), and for voxels of the lobe 1 - q_1 replaced by (1 - p)(1 - q_1),

    P(label = k) = q_k * prod_{j > k} (1 - q_j)        P(label = 0) = prod_j (1 - q_j).

Neighbouring voxels share z_k and b, so a sample is one coherent mask and the volume varies with z_k and b.
"""

from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from scipy.stats import norm

from medsegdiff_auto.phantoms.shapes import Blob, Ripple, voxel_centres_mm


@dataclass(frozen=True)
class PhantomStructure:
    """One structure: its nominal surface and the spread ``delta`` (> 0) of its relative radius."""

    blob: Blob
    delta: float


@dataclass(frozen=True)
class Lobe:
    """The side lobe of structure 1: a region with a fixed surface that an annotator includes with ``probability``."""

    blob: Blob
    probability: float


@dataclass(frozen=True)
class Latent:
    """One annotator's hidden choices: ``z (K,)`` standard normal, and whether the lobe is included."""

    z: tuple[float, ...]
    has_lobe: bool


@dataclass(frozen=True)
class Posterior:
    """P(label map | image) of one case on the grid ``shape`` with ``spacing_mm`` (array axis order)."""

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    structures: tuple[PhantomStructure, ...]
    lobe: Lobe | None = None

    @property
    def voxel_size(self) -> float:
        """Volume of a voxel in ml in 3-D, area of a pixel in mm^2 in 2-D."""
        size = float(np.prod(self.spacing_mm))
        return size / 1000.0 if len(self.shape) == 3 else size

    @cached_property
    def normalised_radii(self) -> np.ndarray:
        """rho_k(v), shape ``(K, *shape)``, float64, >= 0."""
        points = voxel_centres_mm(self.shape, self.spacing_mm)
        return np.stack([structure.blob.normalised_radius(points) for structure in self.structures])

    @cached_property
    def lobe_mask(self) -> np.ndarray:
        """The side lobe L, bool, shape ``shape``; empty where the case has none."""
        if self.lobe is None:
            return np.zeros(self.shape, dtype=bool)
        return self.lobe.blob.normalised_radius(voxel_centres_mm(self.shape, self.spacing_mm)) <= 1.0

    def mask_probabilities(self) -> np.ndarray:
        """P(v in M_k), shape ``(K, *shape)``, float64 in [0, 1]: the structures before one is painted over another."""
        deltas = np.array([structure.delta for structure in self.structures])
        q = norm.cdf((1.0 - self.normalised_radii) / deltas.reshape(-1, *[1] * len(self.shape)))
        if self.lobe is not None:
            q[0][self.lobe_mask] = 1.0 - (1.0 - self.lobe.probability) * (1.0 - q[0][self.lobe_mask])
        return q

    def probabilities(self) -> np.ndarray:
        """P(label = k), k = 0 ... K, shape ``(K + 1, *shape)``, float32 in [0, 1], summing to one over k."""
        remaining = np.ones(self.shape)
        per_label = []
        for q in self.mask_probabilities()[::-1]:
            per_label.append(remaining * q)
            remaining = remaining * (1.0 - q)
        return np.stack([remaining, *per_label[::-1]]).astype(np.float32)

    def draw_latent(self, generator: np.random.Generator) -> Latent:
        """Draws z_1 ... z_K, then b (also where the case has no lobe, so that the stream does not depend on it)."""
        z = tuple(map(float, generator.standard_normal(len(self.structures))))
        coin = float(generator.random())
        return Latent(z=z, has_lobe=self.lobe is not None and coin < self.lobe.probability)

    def label_map(self, latent: Latent) -> np.ndarray:
        """The annotation that ``latent`` leads to, uint8 in 0 ... K, shape ``shape``."""
        return paint(self.normalised_radii, self.lobe_mask, self.structures, latent)

    def sample(self, generator: np.random.Generator) -> np.ndarray:
        """One joint draw from the posterior: a label map, uint8 in 0 ... K, shape ``shape``."""
        return self.label_map(self.draw_latent(generator))

    def to_dict(self) -> dict:
        """All parameters as plain numbers, lists and dicts; ``from_dict`` gives an equal posterior back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "Posterior":
        """The inverse of ``to_dict``, also after a round trip through JSON."""
        lobe = values["lobe"]
        return cls(shape=tuple(values["shape"]), spacing_mm=tuple(values["spacing_mm"]),
                   structures=tuple(PhantomStructure(_blob(entry["blob"]), entry["delta"])
                                    for entry in values["structures"]),
                   lobe=None if lobe is None else Lobe(_blob(lobe["blob"]), lobe["probability"]))


def paint(radii: np.ndarray, lobe_mask: np.ndarray, structures: tuple[PhantomStructure, ...],
          latent: Latent) -> np.ndarray:
    """The labels, uint8 in 0 ... K, that ``latent`` gives to voxels of ``radii (K, *any)`` and ``lobe_mask (*any)``."""
    labels = np.zeros(lobe_mask.shape, dtype=np.uint8)
    for index, structure in enumerate(structures):
        mask = radii[index] <= 1.0 + structure.delta * latent.z[index]
        if index == 0 and latent.has_lobe:
            mask |= lobe_mask
        labels[mask] = index + 1
    return labels


def _blob(values: dict) -> Blob:
    ripples = tuple(Ripple(direction=tuple(entry["direction"]), frequency=entry["frequency"], phase=entry["phase"],
                           amplitude=entry["amplitude"]) for entry in values["ripples"])
    return Blob(centre_mm=tuple(values["centre_mm"]), axes_mm=tuple(map(tuple, values["axes_mm"])), ripples=ripples)
