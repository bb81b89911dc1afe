"""Dice, calibration, energy distance and seconds as functions of the sampler's steps, one model, the same cases and
noise.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

from medsegdiff_auto import paths
from medsegdiff_auto.benchmarks.trained_model import folder_of, model_of, model_parser
from medsegdiff_auto.cores import compute_on_cpu
from medsegdiff_auto.evaluation.audit import scores, validation_cases
from medsegdiff_auto.evaluation.scores.raters import generalised_energy_distance
from medsegdiff_auto.nnunet.structures import structures_of
from medsegdiff_auto.decision.fitted_sampling import read_fitted_sampling
from medsegdiff_auto.decision.decoder import label_maps
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.predictor import CaseDistribution, MedSegDiffPredictor, SamplingOptions

STEPS = (1, 2, 4, 8, 16, 50)
METRICS = ("dice", "ece", "expected_dice_between_samples", "expected_dice_sample_reference")


def energy_distances(drawn: CaseDistribution, reference: np.ndarray, model: TrainedModel) -> list[float]:
    """GED of the samples to the one reference, per structure."""
    label_manager = model.plans_manager.get_label_manager(model.dataset_json)
    maps = label_maps(drawn.samples, label_manager)
    return [generalised_energy_distance(structure.mask(maps), structure.mask(reference)[None])
            for structure in structures_of(model.dataset_json)]


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("-f", type=int, default=0, help="fold")
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--solvers", nargs="+", default=["ddim"])
    parser.add_argument("--samples", type=int)
    parser.add_argument("--as_planned", action="store_true", help="without what medsegdiff_calibrate fitted")
    args = parser.parse_args()
    preprocessed = paths.preprocessed_folder(args.d)
    compute_on_cpu()
    model, fit = model_of(args, args.f), None if args.as_planned else read_fitted_sampling(folder_of(args))
    weight = model.diffusion.sampling.conditioner_weight if fit is None else fit.conditioner_weight
    if fit is not None:
        model.network.configuration = model.network.configuration.changed(dispersion=fit.dispersion)
    cases = list(validation_cases(model, preprocessed, args.f))[:args.cases]
    print(f"{len(cases)} cases, dispersion {model.network.configuration.sampling.dispersion:.3f}, weight of the plain "
          f"network {weight:g}\n")
    print("| solver | steps | evaluations a case | seconds a case | Dice | ECE | between samples | sample-reference | "
          "GED |\n"
          "|---|---|---|---|---|---|---|---|---|")
    for solver in args.solvers:
        for steps in args.steps:
            predictor = MedSegDiffPredictor(model, SamplingOptions(args.samples, steps, solver=solver))
            rows, ged, seconds, evaluations = [], [], [], []
            for case, image, reference, _ in cases:
                begin = perf_counter()
                drawn = predictor.sample_case(image, case)
                seconds.append(perf_counter() - begin)
                evaluations.append(predictor.num_evaluations)
                rows += scores(case, drawn, reference, model, weight)
                ged += energy_distances(drawn, reference, model)
            means = [np.nanmean([row[metric] for row in rows]) for metric in METRICS]
            print(f"| {solver} | {steps} | {np.mean(evaluations):.0f} | {np.median(seconds):.2f} "
                  f"| {' | '.join(f'{mean:.4f}' for mean in means)} | {np.mean(ged):.4f} |", flush=True)


if __name__ == "__main__":
    main()
