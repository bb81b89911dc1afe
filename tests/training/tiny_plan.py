"""A trainer of every preset on a plan small enough for tests, without a dataset."""

import torch

from medsegdiff_auto.training.planned_training import initialized_trainer
from medsegdiff_auto.diffusion.configuration import PLANS_KEY, DiffusionConfiguration, section_of_preset
from medsegdiff_auto.planning.presets import available_presets, load_preset
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff

DATASET_JSON = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1, "core": 2}, "numTraining": 4,
                "file_ending": ".nii.gz"}
ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    "arch_kwargs": {
        "n_stages": 3, "features_per_stage": [8, 16, 16], "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": [[3, 3]] * 3, "strides": [[1, 1], [2, 2], [2, 2]], "n_conv_per_stage": [1] * 3,
        "n_conv_per_stage_decoder": [1] * 2, "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True}}}

PRESETS = [(preset, {}) for preset in available_presets()] + [
    ("auto", {"frozen_conditioner": True}),
    ("auto", {"sees_state": True, "pure_noise_share": 0.5, "recycling_share": 0.25}),
    ("auto", {"sees_state": True, "latent_scales": (), "latent_channels": 0, "name": "cross_entropy",
              "num_training_draws": 1, "pure_noise_share": 0.0, "dispersion": 0.0, "recycling_share": 0.25})]


def diffusion_of(preset: str, **changed) -> DiffusionConfiguration:
    """The diffusion section of a preset for the plan above."""
    fragment = load_preset(preset)
    first_stage = min(1, fragment["planning"]["first_stage_2d"])
    return section_of_preset(fragment, "classes", first_stage=first_stage,
                             features_per_stage=(8, 8, 8)[first_stage:], structure_diameter_vox=(8.0, 8.0), num_steps=1,
                             num_mirrors=1).changed(**changed)


def plans_of(preset: str, **changed) -> dict:
    """Plans of one 2-D configuration."""
    return {
        "dataset_name": "Dataset900_Tiny", "plans_name": "MedSegDiffPlans", "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager", "experiment_planner_used": "MedSegDiffPlanner", "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"2d": {
            "data_identifier": "MedSegDiffPlans_2d", "preprocessor_name": "DefaultPreprocessor", "batch_size": 4,
            "patch_size": [32, 24], "spacing": [1.0, 1.0], "normalization_schemes": ["ZScoreNormalization"],
            "use_mask_for_norm": [False], "batch_dice": True, "architecture": ARCHITECTURE,
            PLANS_KEY: diffusion_of(preset, **changed).to_plan()}}}


def tiny_trainer(preset: str = "auto", **changed) -> nnUNetTrainerMedSegDiff:
    """A trainer on the CPU whose weights and steps depend on the seed 0 alone; nnU-Net's folders have to be set."""
    torch.manual_seed(0)
    plans = plans_of(preset, **changed)
    trainer = initialized_trainer(nnUNetTrainerMedSegDiff, plans, "2d", DATASET_JSON, torch.device("cpu"))
    trainer.seed = 0
    return trainer
