"""The planner: nnU-Net's topology, and the diffusion section that follows from the fingerprint."""

from __future__ import annotations

import os
from pathlib import Path
from collections.abc import Sequence

import numpy as np
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    nnUNetPlannerResEncL, nnUNetPlannerResEncM, nnUNetPlannerResEncXL)
from nnunetv2.paths import nnUNet_preprocessed
from torch import nn

from medsegdiff_auto.diffusion.configuration import PLANS_KEY, DiffusionConfiguration, section_of_preset
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.networks.cost import relative_denoiser_cost
from medsegdiff_auto.nnunet.contract import require_checked_version
from medsegdiff_auto.nnunet.inheritance import NETWORK, holders, network_arguments
from medsegdiff_auto.nnunet.managers import PlansManager, determine_num_input_channels, planned_network
from medsegdiff_auto.planning.fingerprint import STRUCTURES_KEY, structure_labels
from medsegdiff_auto.planning.memory import training_peak_gb
from medsegdiff_auto.planning.plan_document import PlannedCost, write_plan_document
from medsegdiff_auto.planning.presets import load_preset
from medsegdiff_auto.planning.resources import Resources

PLANS_IDENTIFIER = "MedSegDiffPlans"
FEATURE_MULTIPLE = 8
MIN_DIAMETER_VOX = 2.0
MAX_MEMORY_ROUNDS, MEMORY_MARGIN = 25, 0.97
WORKERS = "nnUNet_n_proc_DA"
SMALLEST_COST = 1e-3  # of a denoiser evaluation, in forwards of nnU-Net's network


def require_configurations(configurations: Sequence[str], planned: Sequence[str]) -> None:
    """Checks that all of the configurations are planned.

    Raises:
        UserError: one is not.
    """
    unknown = [name for name in configurations if name not in planned]
    if unknown:
        raise UserError("The plan has no such configuration.", found=", ".join(unknown), expected=", ".join(planned),
                        fix="choose from these with -c; nnU-Net plans 3d_lowres and the cascade only for large images")


class DiffusionPlanning:
    """What is added to one of nnU-Net's planners: limits of the machine, room for the denoiser, a ``diffusion``
    section.

    Args:
        preset: a fragment in ``plans/``, ``auto`` for one.
        resources: limits of the machine.
        required_configurations: planned or refused, before anything is written.
    """

    def __init__(self, dataset_name_or_id: str | int, preset: str, resources: Resources,
                 gpu_memory_target_in_gb: float | None = None, plans_name: str = PLANS_IDENTIFIER,
                 overwrite_target_spacing: list[float] | None = None,
                 required_configurations: Sequence[str] = (), **planner_options):
        require_checked_version()
        self.memory_target_gb = gpu_memory_target_in_gb or resources.gpu_memory_target_gb
        super().__init__(dataset_name_or_id, self.memory_target_gb, plans_name=plans_name,
                         overwrite_target_spacing=overwrite_target_spacing, **planner_options)
        self.preset = load_preset(preset)
        self.limits = self.preset["planning"]
        self._training_peaks_gb: dict[str, float] = {}
        self.required_configurations = required_configurations
        self.resources = resources
        self.UNet_base_num_features = resources.base_num_features
        self.UNet_max_features_2d = resources.max_num_features_2d
        self.UNet_max_features_3d = resources.max_num_features_3d

    def generate_data_identifier(self, configuration_name: str) -> str:
        """Data of its own for every plan; nnU-Net's residual planners share that of its plain one."""
        return f"{self.plans_identifier}_{configuration_name}"

    @staticmethod
    def static_estimate_VRAM_usage(*network) -> float:
        """nnU-Net's estimate, which takes the number of augmentation workers for its threads and fails without any."""
        workers = os.environ.get(WORKERS)
        if workers == "0":
            os.environ[WORKERS] = "1"
        try:
            return ExperimentPlanner.static_estimate_VRAM_usage(*network)
        finally:
            if workers is not None:
                os.environ[WORKERS] = workers

    def get_plans_for_configuration(self, *args, **kwargs) -> dict:
        """nnU-Net's configuration, planned for less memory until the denoiser fits beside it."""
        target_gb = self.UNet_vram_target_GB
        try:
            for _ in range(MAX_MEMORY_ROUNDS):
                plan = self.capped_plan(*args, **kwargs)
                peak_gb = self.training_peak_gb(plan)
                if peak_gb <= self.memory_target_gb:
                    break
                self.UNet_vram_target_GB *= MEMORY_MARGIN * self.memory_target_gb / peak_gb
        finally:
            self.UNet_vram_target_GB = target_gb
        return plan

    def training_peak_gb(self, configuration: dict) -> float:
        """Predicted peak memory of training, in 1e9 bytes.

        The search for a low resolution plans the same topology at many spacings: what is known is not counted again.
        """
        key = str([configuration[name] for name in (NETWORK, "patch_size", "batch_size")])
        if key not in self._training_peaks_gb:
            diffusion = self.diffusion_section(configuration)
            with torch.device("meta"):
                unet, num_inputs, num_outputs = self.planned_unet(configuration)
                self._training_peaks_gb[key] = training_peak_gb(
                    unet, num_inputs, num_outputs, configuration["patch_size"], configuration["batch_size"], diffusion,
                    self.resources.half_precision)
        return self._training_peaks_gb[key]

    def capped_plan(self, *args, **kwargs) -> dict:
        """nnU-Net's configuration with the batch capped by the resources."""
        plan = super().get_plans_for_configuration(*args, **kwargs)
        two_dimensional = len(plan["patch_size"]) == 2
        cap = self.resources.max_batch_size_2d if two_dimensional else self.resources.max_batch_size_3d
        if cap is not None:
            plan["batch_size"] = min(plan["batch_size"], cap)
        return plan

    def save_plans(self, plans: dict) -> None:
        """Adds the diffusion sections, writes nnU-Net's plans JSON and the plan document beside it.

        Raises:
            UserError: a required configuration is not planned; nothing is written.
        """
        require_configurations(self.required_configurations, list(plans["configurations"]))
        with_network = {name: plans["configurations"][name] for name in holders(plans, NETWORK)}
        for configuration in with_network.values():
            configuration[PLANS_KEY] = self.diffusion_section(configuration).to_plan()
        super().save_plans(plans)
        costs = {name: self.training_cost(configuration) for name, configuration in with_network.items()}
        write_plan_document(Path(nnUNet_preprocessed) / self.dataset_name / f"{self.plans_identifier}.md", plans,
                            self.dataset_fingerprint, costs, self.memory_target_gb)

    def training_cost(self, configuration: dict) -> PlannedCost:
        """Memory of training a planned configuration, and arithmetic of its denoiser."""
        diffusion = DiffusionConfiguration.from_plan(configuration[PLANS_KEY])
        return PlannedCost(self.training_peak_gb(configuration), self.denoiser_cost(configuration, diffusion))

    def structure_diameter_vox(self, spacing: list[float]) -> list[float]:
        """Typical diameter of the structures along each axis of a configuration, in voxels of its spacing.

        The geometric mean over the structures of their median diameters; the last axes for a 2-D configuration.
        """
        diameters_mm = [s["diameter_mm"] for s in self.dataset_fingerprint[STRUCTURES_KEY].values()
                        if s["share_of_cases"] > 0]
        transpose_forward, _ = self.determine_transpose()
        typical_mm = np.exp(np.log(diameters_mm).mean(0))[list(transpose_forward)]
        return np.maximum(typical_mm[-len(spacing):] / np.asarray(spacing), MIN_DIAMETER_VOX).round(2).tolist()

    def first_stage(self, dimension: int, num_stages: int) -> int:
        """The preset's, in 2-D or 3-D, of which at least two stages are left."""
        return max(0, min(self.limits[f"first_stage_{dimension}d"], num_stages - 2))

    def denoiser_features(self, stages: list[int]) -> list[int]:
        """A fraction of the conditioner's width at the denoiser's stages, in multiples of 8."""
        width, cap = self.limits["denoiser_width"], self.limits["max_denoiser_features"]
        return [max(FEATURE_MULTIPLE, min(cap, round(width * f / FEATURE_MULTIPLE) * FEATURE_MULTIPLE)) for f in stages]

    def diffusion_section(self, configuration: dict) -> DiffusionConfiguration:
        """The diffusion section of one nnU-Net configuration, derived from fingerprint, preset and budget."""
        dimension = len(configuration["patch_size"])
        conditioner_features = list(network_arguments(configuration)["features_per_stage"])
        first_stage = self.first_stage(dimension, len(conditioner_features))
        features = self.denoiser_features(conditioner_features[first_stage:])
        draft = section_of_preset(self.preset, "regions" if self.has_regions() else "classes", first_stage=first_stage,
                                  features_per_stage=tuple(features), structure_diameter_vox=tuple(
                                      self.structure_diameter_vox(configuration["spacing"])),
                                  num_steps=self.limits["max_steps"], num_mirrors=self.num_mirrors(dimension))
        weights = self.class_weights() if draft.loss.name == "energy_score" else ()
        return draft.changed(class_weights=weights, num_steps=self.steps_within_budget(
            draft, dimension, self.denoiser_cost(configuration, draft)))

    def class_weights(self) -> tuple[float, ...]:
        """One per output: all foreground over the structure's own, both as shares of the images; 0 for background."""
        labels = structure_labels(self.dataset_json)
        measured = {name: self.dataset_fingerprint[STRUCTURES_KEY].get(name, {}) for name in labels}
        shares = {name: of_this.get("volume_fraction", 0.0) * of_this.get("share_of_cases", 0.0)
                  for name, of_this in measured.items()}
        weights = {name: round(sum(shares.values()) / share, 3) if share else 0.0 for name, share in shares.items()}
        if self.has_regions():
            return tuple(weights.values())
        return (0.0, *(weights[name] for name in sorted(labels, key=lambda name: labels[name])))

    def has_regions(self) -> bool:
        """True where a label of dataset.json is a list of values."""
        return any(
            isinstance(value, (list, tuple)) and len(value) > 1 for value in self.dataset_json["labels"].values())

    def num_mirrors(self, dimension: int) -> int:
        """The preset's share of nnU-Net's 2^d views, at least the tile itself."""
        return max(1, round(self.limits[f"mirror_share_{dimension}d"] * 2 ** dimension))

    def steps_within_budget(self, diffusion: DiffusionConfiguration, dimension: int, denoiser_cost: float) -> int:
        """Steps such that conditioner mirrors plus all samples cost what nnU-Net's 2^d mirrored forwards cost."""
        left = 2 ** dimension - diffusion.sampling.num_mirrors
        steps = int(left / (diffusion.sampling.num_samples * max(denoiser_cost, SMALLEST_COST)))
        return int(np.clip(steps, self.limits["min_steps"], self.limits["max_steps"]))

    def denoiser_cost(self, configuration: dict, diffusion: DiffusionConfiguration) -> float:
        """Multiply-adds of one denoiser evaluation over those of one conditioner forward, on the planned patch."""
        with torch.device("meta"):
            unet, num_inputs, num_outputs = self.planned_unet(configuration)
            return relative_denoiser_cost(unet, num_inputs, num_outputs, configuration["patch_size"], diffusion)

    def planned_unet(self, configuration: dict) -> tuple[nn.Module, int, int]:
        """nnU-Net's network of a configuration on torch's current device, its input channels and its outputs."""
        plans = {
            "dataset_name": self.dataset_name, "plans_name": self.plans_identifier, "label_manager": "LabelManager",
            "configurations": {"planned": configuration}
        }
        manager = PlansManager(plans)
        num_outputs = manager.get_label_manager(self.dataset_json).num_segmentation_heads
        num_inputs = determine_num_input_channels(manager, manager.get_configuration("planned"), self.dataset_json)
        return planned_network(configuration, num_inputs, num_outputs), num_inputs, num_outputs


class MedSegDiffPlanner(DiffusionPlanning, ExperimentPlanner):
    """On nnU-Net's default planner: a plain convolutional U-Net."""


class MedSegDiffPlannerResEncM(DiffusionPlanning, nnUNetPlannerResEncM):
    """On nnU-Net's residual-encoder preset M, for about 9 GB of GPU memory."""


class MedSegDiffPlannerResEncL(DiffusionPlanning, nnUNetPlannerResEncL):
    """On nnU-Net's residual-encoder preset L, for about 24 GB."""


class MedSegDiffPlannerResEncXL(DiffusionPlanning, nnUNetPlannerResEncXL):
    """On nnU-Net's residual-encoder preset XL, for about 40 GB."""


PLANNERS = {"plain": MedSegDiffPlanner, "resenc_m": MedSegDiffPlannerResEncM, "resenc_l": MedSegDiffPlannerResEncL,
            "resenc_xl": MedSegDiffPlannerResEncXL}
ENCODER_MEMORY_TARGETS_GB = {"resenc_l": 24.0, "resenc_xl": 40.0}
