"""Which samples are nearest to the truth? Samplers of several plans on the same validation cases, each as planned or
with its dispersion fitted on every second case and judged on the others, in turn.

    --samplers Auto:fitted Latent:planned Latent:fitted

Energy score and CRPS judge the samples as a distribution, components and far islands whether a person would draw such
masks, width and share of held references their intervals. Below the table the paired differences to the first sampler.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from medsegdiff_auto import paths
from medsegdiff_auto.benchmarks.trained_model import model_of, model_parser
from medsegdiff_auto.benchmarks.uncertainty.upgrade import intervals
from medsegdiff_auto.cores import compute_on_cpu
from medsegdiff_auto.decision.decoder import by_mean, label_maps
from medsegdiff_auto.decision.sizes import SIZE_COLUMNS
from medsegdiff_auto.evaluation.audit import scores, validation_cases
from medsegdiff_auto.evaluation.paired import compare_paired
from medsegdiff_auto.evaluation.scores.energy import crps_column
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.predictor import CaseDistribution, MedSegDiffPredictor, SamplingOptions
from medsegdiff_auto.nnunet.structures import Structure, structures_of
from medsegdiff_auto.overlap import mean_without_nan, pairwise_dice
from medsegdiff_auto.selection.dispersion import CaseSampler, FoldCases, best_dispersion, fit_dispersion
from medsegdiff_auto.training.raters import labels_of_raters

FITTED, PLANNED = "fitted", "planned"
COLUMNS = {"dice": "Dice", "energy_score": "energy score", "crps": "CRPS of sizes", "ged": "GED²", "gap": "gap",
           "in_interval": "in interval", "sample_width": "its width", "nll": "NLL", "ece": "ECE",
           "components": "components", "of_reference": "of the reference", "far": "far islands",
           "expected": "expected Dice"}
COMPARED = ("energy_score", "crps", "ged", "nll", "components")


def plausibility(samples: np.ndarray, references: np.ndarray, fused: np.ndarray, diameter_vox: float) -> dict:
    """Components (touching at corners) of sampled and reference masks (n, *spatial), and the share of sampled voxels
    that lie further than a structure's diameter from the fused mask.
    """
    def components(masks: np.ndarray) -> float:
        return float(np.mean([ndimage.label(mask, np.ones((3,) * mask.ndim))[1] for mask in masks]))

    is_far = ndimage.distance_transform_edt(~fused) > diameter_vox if fused.any() else np.ones_like(fused)
    return {"components": components(samples), "of_reference": components(references),
            "far": float((samples & is_far).sum() / max(1, samples.sum()))}


def rows_of_case(case: str, drawn: CaseDistribution, reference: np.ndarray, raters: np.ndarray,
                 model: TrainedModel) -> Iterator[dict]:
    """The scores of a case's structures."""
    label_manager = model.plans_manager.get_label_manager(model.dataset_json)
    maps, fused = label_maps(drawn.samples, label_manager), by_mean(drawn.fused, label_manager)
    references = raters if len(raters) else reference[None]
    found = scores(case, drawn, reference, model, drawn.conditioner_weight, raters=raters if len(raters) else None)
    diameter_vox = float(np.mean(model.diffusion.noise.structure_diameter_vox))

    def of(structure: Structure) -> dict:
        samples = structure.mask(maps)
        return {"expected": float(pairwise_dice(structure.mask(fused)[None], samples).mean()),
                **plausibility(samples, structure.mask(references), structure.mask(fused), diameter_vox)}

    size = next(column for column in SIZE_COLUMNS if column in found[0])
    for structure, row, interval in zip(structures_of(model.dataset_json), found,
                                        intervals(drawn, reference, model, {})):
        gap = row["expected_dice_between_samples"] - row["expected_dice_sample_reference"]
        yield row | interval | of(structure) | {"gap": gap, "size_of_reference": row[f"reference_{size}"],
                                                "crps_of_case": row[crps_column(size)]}


def rows_of_sampler(args: Namespace, plans: str, fitting: str) -> list[dict]:
    """All folds' validation cases, every half with what was fitted on the other; CRPS over the mean reference."""
    rows, preprocessed = [], paths.preprocessed_folder(args.d)
    for fold in args.f:
        model = model_of(Namespace(**(vars(args) | {"p": plans})), fold)
        predictor = MedSegDiffPredictor(model, SamplingOptions(args.samples))
        cases = list(validation_cases(model, preprocessed, fold))[:args.cases]
        data_folder = preprocessed / model.configuration_manager.data_identifier
        for half in (0, 1):
            planned = model.diffusion.sampling.dispersion
            tau = planned
            if fitting == FITTED:
                of_other = FoldCases(predictor, model, cases[1 - half::2][:args.fit])
                tau = best_dispersion(fit_dispersion(CaseSampler([of_other]).measure, planned))
            print(f"{plans}, fold {fold}, half {half}: dispersion {tau:.3f}", flush=True)
            predictor.network.configuration = predictor.network.configuration.changed(dispersion=tau)
            for case, image, reference, _ in cases[half::2]:
                drawn = predictor.sample_case(image, case)
                raters = labels_of_raters(data_folder, case)
                rows += rows_of_case(case, drawn, reference, raters, model)
    for row in rows:
        of_structure = [other for other in rows if other["structure"] == row["structure"]]
        row["crps"] = row["crps_of_case"] / mean_without_nan(other["size_of_reference"] for other in of_structure)
    return rows


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("-f", type=int, nargs="+", default=[0], help="folds")
    parser.add_argument("--samplers", nargs="+", required=True, metavar="PLANS:FITTING",
                        help=f"plans, and {PLANNED} or {FITTED}")
    parser.add_argument("--cases", type=int, help="only the first N validation cases of each fold")
    parser.add_argument("--fit", type=int, help="at most N cases of a half to fit on")
    parser.add_argument("--samples", type=int, help="default: the plan's")
    args = parser.parse_args()
    compute_on_cpu()
    of_sampler = {name: rows_of_sampler(args, *name.split(":")) for name in args.samplers}
    num_cases = len({row["case"] for row in of_sampler[args.samplers[0]]})
    print(f"\n| on {num_cases} cases | {' | '.join(COLUMNS.values())} | expected and real Dice correlate |")
    print(f"|{'---|' * (len(COLUMNS) + 2)}")
    for name, rows in of_sampler.items():
        means = [mean_without_nan(row.get(column, float("nan")) for row in rows) for column in COLUMNS]
        both = np.transpose([(row["expected"], row["dice"]) for row in rows if np.isfinite(row["dice"])])
        print(f"| {name} | {' | '.join(f'{mean:.4f}' for mean in means)} | {np.corrcoef(both)[0, 1]:.3f} |")
    first, *others = args.samplers
    for name in others:
        for column in COMPARED:
            found = compare_paired(*(by_case(of_sampler[one], column) for one in (name, first)))
            if found.num_cases:
                print(f"{name} - {first}, {COLUMNS[column]}: {found.mean_difference:+.4f} "
                      f"({found.low:+.4f} to {found.high:+.4f})")


def by_case(rows: list[dict], column: str) -> list[float]:
    """Means over the structures of every case, in their order; NaN where there is none."""
    cases = dict.fromkeys(row["case"] for row in rows)
    return [mean_without_nan(row.get(column, float("nan")) for row in rows if row["case"] == case) for case in cases]


if __name__ == "__main__":
    main()
