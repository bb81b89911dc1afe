"""What the posterior of a phantom says about volumes and overlap: the numbers that a perfect method would reach."""

import numpy as np
from scipy.stats import norm, qmc

from medsegdiff_auto.overlap import dice
from medsegdiff_auto.phantoms.posterior import Latent, Posterior, paint

LOG2_NUM_NODES = 11


def latent_nodes(posterior: Posterior, log2_num_nodes: int = LOG2_NUM_NODES) -> list[Latent]:
    """2^log2_num_nodes equally likely annotators that cover the space of (z_1 ... z_K, b) evenly.

    A Sobol sequence without scrambling, shifted by half a step off the origin: deterministic, and an average over it
    differs from the expectation by far less than that of as many random draws.
    """
    num_structures = len(posterior.structures)
    sobol = qmc.Sobol(num_structures + 1, scramble=False).random_base2(log2_num_nodes)
    uniform = sobol + 0.5 / 2 ** log2_num_nodes
    z = norm.ppf(uniform[:, :num_structures])
    probability = 0.0 if posterior.lobe is None else posterior.lobe.probability
    return [Latent(tuple(map(float, row)), bool(coin < probability)) for row, coin in zip(z, uniform[:, -1])]


def sizes(posterior: Posterior, labels: tuple[int, ...], log2_num_nodes: int = LOG2_NUM_NODES) -> np.ndarray:
    """Sorted sizes (ml in 3-D, mm^2 in 2-D) of the union of ``labels`` over ``latent_nodes``, shape ``(num_nodes,)``.

    Their mean and quantiles are those of the size distribution on the voxel grid, up to the spacing of the nodes.
    """
    probabilities = posterior.probabilities()
    is_certain = probabilities.max(axis=0) > 1.0 - 1e-6
    num_certain = int(np.isin(probabilities.argmax(axis=0)[is_certain], labels).sum())
    radii, lobe = posterior.normalised_radii[:, ~is_certain], posterior.lobe_mask[~is_certain]
    label_lists = (paint(radii, lobe, posterior.structures, node) for node in latent_nodes(posterior, log2_num_nodes))
    counts = [num_certain + int(np.isin(listed, labels).sum()) for listed in label_lists]
    return np.sort(counts) * posterior.voxel_size


def size_quantiles(posterior: Posterior, labels: tuple[int, ...], quantiles: tuple[float, ...]) -> np.ndarray:
    """Quantiles of the size (ml in 3-D, mm^2 in 2-D) of the union of ``labels``, shape ``(len(quantiles),)``."""
    return np.quantile(sizes(posterior, labels), quantiles)


def expected_dice(posterior: Posterior, labels: tuple[int, ...], prediction: np.ndarray | None = None,
                  log2_num_nodes: int = 8) -> float:
    """Expected Dice, in [0, 1], between ``prediction`` and an annotation, for the union of ``labels``.

    ``prediction`` is a label map; None stands for the mean-thresholded posterior P(label in labels) > 0.5.
    """
    if prediction is None:
        predicted = posterior.probabilities()[list(labels)].sum(axis=0) > 0.5
    else:
        predicted = np.isin(prediction, labels)
    annotations = [np.isin(posterior.label_map(latent), labels) for latent in latent_nodes(posterior, log2_num_nodes)]
    return float(np.mean([dice(predicted, annotation) for annotation in annotations]))


def expected_dice_between_annotators(posterior: Posterior, labels: tuple[int, ...], num_pairs: int,
                                     generator: np.random.Generator) -> float:
    """Expected Dice, in [0, 1], between two independent annotations of the union of ``labels`` (Monte Carlo)."""
    pairs = ((posterior.sample(generator), posterior.sample(generator)) for _ in range(num_pairs))
    return float(np.mean([dice(np.isin(a, labels), np.isin(b, labels)) for a, b in pairs]))
