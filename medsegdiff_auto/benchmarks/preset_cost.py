"""Parameters, arithmetic and training memory of every preset on planned datasets, counted without running anything."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from medsegdiff_auto import paths
from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration, section_of_preset
from medsegdiff_auto.networks.build import build_network
from medsegdiff_auto.networks.paper import PaperDenoiser
from medsegdiff_auto.planning.memory import training_peak_gb
from medsegdiff_auto.planning.planner import MedSegDiffPlanner
from medsegdiff_auto.planning.presets import available_presets, load_preset
from medsegdiff_auto.planning.resources import RESOURCES

MILLION, GIGA = 1e6, 1e9
PUBLISHED_FEATURES, PUBLISHED_INPUTS = (128, 128, 256, 256, 512, 512), 3
"""MedSegDiff's published recipe: 256 x 256 RGB, 128 channels, two residual blocks a stage (six stages, multiples 1 1 2
2 4 4).
"""


def num_parameters(network: nn.Module) -> int:
    """All weights."""
    return sum(p.numel() for p in network.parameters())


def operations(call) -> float:
    """Floating-point operations of a call (a multiply-add counts two): convolutions and matrix products."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def cost_row(planner: MedSegDiffPlanner, plan: dict, diffusion: DiffusionConfiguration) -> list[str]:
    """Parameters of conditioner and denoiser (millions), GFLOP of a forward of each on one patch, GB of a training
    step.
    """
    patch = plan["patch_size"]
    with torch.device("meta"):
        unet, num_inputs, num_outputs = planner.planned_unet(plan)
        network = build_network(unet, num_outputs, diffusion, deep_supervision=False, num_inputs=num_inputs).eval()
        image, state, t = torch.empty(1, num_inputs, *patch), torch.empty(1, num_outputs, *patch), torch.empty(1)
        terms = network.image_terms(network.condition(image))
        latent = network.empty_latents(1, patch)
        of_denoiser = operations(lambda: network.denoise(state, t, terms, latent))
        of_condition = operations(lambda: network.condition(image)) if network.has_conditioner else 0.0
        total, denoiser = num_parameters(network), num_parameters(network.denoiser)
        peak_gb = training_peak_gb(
            planner.planned_unet(plan)[0], num_inputs, num_outputs, patch, plan["batch_size"], diffusion,
            half_precision=True)
    return [f"{(total - denoiser) / MILLION:.2f}", f"{denoiser / MILLION:.2f}", f"{of_condition / GIGA:.1f}",
            f"{of_denoiser / GIGA:.1f}", f"{peak_gb:.2f}"]


def published_parameters() -> float:
    """Millions of weights of preset ``paper`` at the published widths, binary target."""
    preset = load_preset("paper")
    configuration = section_of_preset(preset, "regions", structure_diameter_vox=(),
                                      features_per_stage=PUBLISHED_FEATURES, first_stage=0,
                                      num_steps=preset["planning"]["max_steps"], num_mirrors=1)
    num_stages = len(PUBLISHED_FEATURES)
    with torch.device("meta"):
        network = PaperDenoiser(PUBLISHED_INPUTS, 1, [(1, 1)] + [(2, 2)] * (num_stages - 1), [(3, 3)] * num_stages,
                                configuration)
    return num_parameters(network) / MILLION


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-d", nargs="+", required=True, help="datasets, planned by medsegdiff_plan_and_preprocess")
    args = parser.parse_args()
    print(f"`paper` at the published widths: {published_parameters():.1f} M parameters\n")
    preprocessed = paths.require_folder("nnUNet_preprocessed")
    print("| dataset | configuration | preset | conditioner, M | denoiser, M | conditioner, GFLOP | denoiser, GFLOP | "
          "training, GB |\n"
          "|---|---|---|---|---|---|---|---|")
    for dataset in args.d:
        name = paths.resolve_dataset(dataset)
        plans = load_json(str(Path(preprocessed) / name / "MedSegDiffPlans.json"))
        for preset in available_presets():
            planner = MedSegDiffPlanner(name, preset, RESOURCES["gpu"])
            for configuration, plan in plans["configurations"].items():
                if "architecture" in plan:
                    row = cost_row(planner, plan, planner.diffusion_section(plan))
                    print(f"| {name} | {configuration} | {preset} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
