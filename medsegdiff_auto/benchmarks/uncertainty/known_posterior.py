"""Phantoms of which the posterior is known: are the probabilities true, and are samples as large as annotations would
be?

The test cases of ``medsegdiff_phantoms`` are predicted as a user would; nothing was trained or fitted on them. The size
of a sample is looked up in the true distribution of sizes: where samples are draws from the posterior, these ranks are
uniform.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure

from medsegdiff_auto import paths
from medsegdiff_auto.benchmarks.trained_model import model_of, model_parser
from medsegdiff_auto.cores import compute_on_cpu
from medsegdiff_auto.evaluation.calibration import NUM_BINS, Reliability, reliability, relevant_mask
from medsegdiff_auto.nnunet.structures import Structure, structures_of
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.prediction import Prediction, Source, fused_case, prepare_case
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions
from medsegdiff_auto.overlap import expected_dice_between_samples
from medsegdiff_auto.phantoms.expectations import expected_dice_between_annotators, sizes
from medsegdiff_auto.phantoms.posterior import Posterior
from medsegdiff_auto.phantoms.posterior_file import load_posterior

NUM_ANNOTATOR_PAIRS = 200
NUM_RANK_BINS = 10
COLUMNS = {
    "size_bias": "mean size, sampled over true, - 1", "spread_ratio": "standard deviation of size, sampled over true",
    "in_interval": "true sizes in the 90 % interval", "between_samples": "Dice between samples",
    "between_annotators": "between annotations"
}


def test_cases(dataset: str, num_cases: int | None) -> Iterator[tuple[str, list[Path], Posterior]]:
    """Name, image files and posterior of the phantoms' test cases."""
    raw = paths.require_folder("nnUNet_raw") / paths.resolve_dataset(dataset)
    for file in sorted((raw / "labelsTs").glob("*.nii.gz"))[:num_cases]:
        case = file.name.removesuffix(".nii.gz")
        yield case, sorted(
            (raw / "imagesTs").glob(f"{case}_*.nii.gz")), load_posterior(raw / "posterior" / f"{case}.npz")


def predicted(predictor: MedSegDiffPredictor, model: TrainedModel, case: str, files: list[Path]) -> Prediction:
    """One case on the grid of its image."""
    image, properties = prepare_case(model, files)
    return fused_case(predictor, Source(case, properties, files[0]), predictor.draw_case(image, case))


def mid_ranks(values: np.ndarray, distribution: np.ndarray) -> np.ndarray:
    """Share of a sorted distribution below each value, half of the ties counted; in [0, 1]."""
    return (np.searchsorted(distribution, values, "left") +
            np.searchsorted(distribution, values, "right")) / (2 * len(distribution))


def distance_from_uniform(ranks: np.ndarray) -> float:
    """Largest distance between the share of ranks up to u and u (Kolmogorov-Smirnov), in [0, 1]."""
    ranks, shares = np.sort(ranks), np.arange(len(ranks) + 1) / len(ranks)
    return float(np.maximum(np.abs(ranks - shares[1:]), np.abs(ranks - shares[:-1])).max())


def row_of(prediction: Prediction, posterior: Posterior, structure: Structure, generator: np.random.Generator) -> dict:
    """One structure's sizes and probabilities beside the true ones; sizes in ml, in 2-D in mm^2."""
    true_sizes, found = sizes(posterior, structure.labels), prediction.volumes[structure.name]
    masks = structure.mask(prediction.samples)
    sampled = masks.reshape(len(masks), -1).sum(1) * posterior.voxel_size
    true = structure.posterior(posterior.probabilities()).reshape(prediction.segmentation.shape)
    fused = prediction.probabilities[structure.channel]
    near = relevant_mask(true > 0.5, fused > 0.5)
    return {
        "ranks": mid_ranks(sampled, true_sizes), "reliability": reliability(fused[near], true[near], NUM_BINS),
        "size_bias": sampled.mean() / true_sizes.mean() - 1, "spread_ratio": sampled.std(ddof=1) / true_sizes.std(),
        "in_interval": np.mean((found.lower <= true_sizes) & (true_sizes <= found.upper)),
        "between_samples": expected_dice_between_samples(masks), "between_annotators": expected_dice_between_annotators(
            posterior, structure.labels, NUM_ANNOTATOR_PAIRS, generator)
    }


def print_table(rows: dict[str, list[dict]]) -> None:
    """Medians over cases and structures; calibration and ranks of all of them together."""
    print(f"| method | ECE against the posterior | {' | '.join(COLUMNS.values())} | distance of the ranks from uniform "
          "|")
    print("|---" * (len(COLUMNS) + 3) + "|")
    for method, of_method in rows.items():
        values = [np.median([row[key] for row in of_method]) for key in COLUMNS]
        print(f"| {method} | {curve_of(of_method).expected_calibration_error:.4f} | "
              f"{' | '.join(f'{value:.3f}' for value in values)} "
              f"| {distance_from_uniform(np.concatenate([row['ranks'] for row in of_method])):.3f} |")


def curve_of(rows: list[dict]) -> Reliability:
    """Reliability of all cases and structures together."""
    return sum((row["reliability"] for row in rows[1:]), rows[0]["reliability"])


def draw(rows: dict[str, list[dict]], path: Path) -> None:
    """Mean true probability by the predicted one, and how often samples have which rank among the true sizes."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    curves, ranks = figure.subplots(1, 2)
    curves.plot([0, 1], [0, 1], color="0.5", lw=1, ls=":")
    ranks.axhline(1, color="0.5", lw=1, ls=":")
    edges = np.linspace(0, 1, NUM_RANK_BINS + 1)
    for method, of_method in rows.items():
        curve = curve_of(of_method)
        curves.plot(curve.mean_confidence, curve.mean_outcome, marker="o",
                    label=f"{method} (ECE {curve.expected_calibration_error:.3f})")
        density, _ = np.histogram(np.concatenate([row["ranks"] for row in of_method]), edges, density=True)
        ranks.stairs(density, edges, lw=1.8, label=method)
    curves.set(xlabel="predicted probability", ylabel="mean true probability", aspect="equal")
    ranks.set(xlabel="rank of a sample's size among the true sizes", ylabel="density (a draw from the posterior: 1)",
              ylim=(0, None))
    curves.legend(frameon=False), ranks.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("-f", type=int, default=0, help="fold")
    parser.add_argument("--cases", type=int, help="only the first N test cases")
    parser.add_argument("--samples", type=int, help="default: the plan's")
    parser.add_argument("--steps", type=int, help="default: the plan's")
    parser.add_argument("-o", help="picture to write")
    args = parser.parse_args()
    compute_on_cpu()
    rows = defaultdict(list)
    for method, use_fitted in (("as planned", False), ("fitted", True)):
        model = model_of(args, args.f, use_fitted=use_fitted)
        if use_fitted and model.fitted is None:
            continue
        predictor, generator = MedSegDiffPredictor(model, SamplingOptions(args.samples,
                                                                          args.steps)), np.random.default_rng(0)
        for case, files, posterior in test_cases(args.d, args.cases):
            prediction = predicted(predictor, model, case, files)
            rows[method] += [
                row_of(prediction, posterior, structure, generator) for structure in structures_of(model.dataset_json)
            ]
    print_table(rows)
    if args.o:
        draw(rows, Path(args.o))


if __name__ == "__main__":
    main()
