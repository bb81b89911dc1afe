"""A model folder as training leaves it: plans, dataset.json and two folds, made of real files."""

import json

import numpy as np

DATASET_JSON = {"name": "Phantoms", "channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1, "lesion": 2},
                "numTraining": 24, "file_ending": ".nii.gz"}


def write_fold(folder, seed, num_epochs=30):
    import torch

    generator = np.random.default_rng(seed)
    epochs = np.arange(num_epochs)
    curve = lambda start, stop: list(stop +
                                     (start - stop) * np.exp(-epochs / 8) + generator.normal(0, 0.01, num_epochs))
    (folder / "validation").mkdir(parents=True)
    logged = {
        "train_losses": curve(0.6, -0.5), "val_losses": curve(0.6, -0.42), "mean_fg_dice": curve(0.1, 0.88),
        "ema_fg_dice": curve(0, 0.87)
    }
    torch.save({"network_weights": {"w": torch.zeros(2)}, "logging": logged}, folder / "checkpoint_final.pth")
    dice = {str(key): {"Dice": 0.8 + 0.01 * seed + 0.02 * key, "IoU": 0.7} for key in (1, 2)}
    summary = {"foreground_mean": {"Dice": 0.83 + 0.01 * seed, "IoU": 0.7}, "mean": dice, "metric_per_case": [{}] * 5}
    (folder / "validation" / "summary.json").write_text(json.dumps(summary))


def write_model(folder, dimension):
    diffusion = {
        "preset": "auto", "target": "classes", "log_snr_shift": -3.1415, "features_per_stage": [16, 32], "num_steps": 4
    }
    name = {2: "2d", 3: "3d_fullres"}[dimension]
    configuration = {
        "patch_size": [40, 48, 40][-dimension:], "batch_size": 2, "spacing": [1.5, 1.0, 1.0][-dimension:],
        "normalization_schemes": ["CTNormalization"], "diffusion": diffusion, "architecture": {
            "arch_kwargs": {"n_stages": 4, "features_per_stage": [16, 32, 64, 128], "strides": [[1, 1], [2, 2]]}
        }
    }
    plans = {
        "dataset_name": "Dataset901_Phantoms", "plans_name": "MedSegDiffPlans", "configurations": {name: configuration}
    }
    model = folder / f"nnUNetTrainerMedSegDiff__MedSegDiffPlans__{name}"
    model.mkdir()
    (model / "plans.json").write_text(json.dumps(plans))
    (model / "dataset.json").write_text(json.dumps(DATASET_JSON))
    (model / "plan.md").write_text("# Plan\n\n- **Patch** 40 x 48 x 40: as large as `memory` allows.\n\n| a | b "
                                   "|\n|---|---|\n| 1 | 2 & 3 |\n")
    for fold in (0, 1):
        write_fold(model / f"fold_{fold}", fold)
    return model
