"""The diffusion section follows from fingerprint, preset and price; nnU-Net's part is nnU-Net's."""

import json
import math
import os

import pytest
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    nnUNetPlannerResEncM)
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.planning.memory import training_peak_gb
from medsegdiff_auto.planning.planner import PLANNERS, DiffusionPlanning
from medsegdiff_auto.planning.presets import available_presets, load_preset
from medsegdiff_auto.planning.resources import RESOURCES

DATASET = "Dataset904_Planned"


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Plans a dataset described by shape, spacing and diameter alone and returns its plans."""

    def plan(preset="auto", resources="gpu", shape=(96, 128, 112), spacing=(1.0, 1.0, 1.0),
             diameter_mm=(10.0, 20.0, 40.0), labels=None, planner=None, gpu_memory_target=None, encoder="plain",
             counts_memory=False, structures=None):
        if not counts_memory:  # takes seconds, and most tests are not about it
            monkeypatch.setattr(DiffusionPlanning, "training_peak_gb", lambda *_: 0.0)
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            (tmp_path / variable / DATASET).mkdir(parents=True, exist_ok=True)
            monkeypatch.setenv(variable, str(tmp_path / variable))
        raw = tmp_path / "nnUNet_raw" / DATASET
        for folder in ("imagesTr", "labelsTr"):
            (raw / folder).mkdir(exist_ok=True)
        for file in ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"):
            (raw / file).touch()
        (raw / "dataset.json").write_text(json.dumps({
            "channel_names": {"0": "CT"}, "labels": labels or {"background": 0, "organ": 1}, "numTraining": 100,
            "file_ending": ".nii.gz", "regions_class_order": [1, 2],
            "overwrite_image_reader_writer": "SimpleITKIO"}))
        structure = {"share_of_cases": 1.0, "diameter_mm": diameter_mm, "num_components": 1, "volume_mm3": 1.0,
                     "volume_fraction": 0.1}
        intensities = {
            "mean": 0, "std": 1, "min": -1, "max": 1, "median": 0, "percentile_99_5": 1, "percentile_00_5": -1
        }
        (tmp_path / "nnUNet_preprocessed" / DATASET / "dataset_fingerprint.json").write_text(json.dumps({
            "spacings": [spacing] * 3, "shapes_after_crop": [shape] * 3,
            "structures": structures or {"organ": structure},
            "foreground_intensity_properties_per_channel": {"0": intensities},
            "median_relative_size_after_cropping": 1.0}))
        if planner is not None:
            return planner(DATASET).plan_experiment()
        return PLANNERS[encoder](DATASET, preset, RESOURCES[resources], gpu_memory_target).plan_experiment()

    return plan


def section(plans, configuration) -> DiffusionConfiguration:
    return DiffusionConfiguration.from_plan(plans["configurations"][configuration]["diffusion"])


def test_where_the_denoiser_fits_topology_patch_and_batch_are_those_of_nnunet(planned):
    stock, ours = planned(planner=ExperimentPlanner), planned()
    for name, configuration in stock["configurations"].items():
        own = {
            key: value
            for key, value in ours["configurations"][name].items() if key not in ("diffusion", "data_identifier")
        }
        assert own == {key: value for key, value in configuration.items() if key != "data_identifier"}


def test_the_shift_is_the_sum_of_log_ratios_of_reference_and_diameter(planned):
    plans = planned(spacing=(2.0, 1.0, 1.0))
    diameters = section(plans, "3d_fullres").noise.structure_diameter_vox
    reference = load_preset("auto")["noise"]["reference_vox"]
    assert sorted(diameters) == [5.0, 20.0, 40.0]
    shift = section(plans, "3d_fullres").noise.log_snr_shift
    assert shift == pytest.approx(sum(math.log(reference / d) for d in diameters), abs=5.1e-4)
    assert section(plans, "2d").noise.structure_diameter_vox == diameters[1:]


def test_larger_structures_need_more_noise(planned):
    small = section(planned(diameter_mm=(10.0, 10.0, 10.0)), "3d_fullres").noise.log_snr_shift
    large = section(planned(diameter_mm=(30.0, 30.0, 30.0)), "3d_fullres").noise.log_snr_shift
    assert small - large == pytest.approx(3 * math.log(3), abs=2e-3)


def test_regions_are_sigmoids_and_labels_a_softmax(planned):
    assert section(planned(), "2d").target == "classes"
    assert section(planned(labels={"background": 0, "whole": [1, 2], "core": 2}), "2d").target == "regions"


def test_large_images_get_a_low_resolution_and_a_cascade_with_the_same_section(planned):
    plans = planned(shape=(160, 160, 160), resources="tiny", gpu_memory_target=0.1)
    assert plans["configurations"]["3d_cascade_fullres"] == {
        "inherits_from": "3d_fullres", "previous_stage": "3d_lowres"
    }
    assert section(plans, "3d_lowres").noise.log_snr_shift > section(plans, "3d_fullres").noise.log_snr_shift


def test_a_cpu_plan_is_half_as_wide_with_a_small_batch(planned):
    gpu, cpu = (planned(resources=name)["configurations"]["3d_fullres"] for name in ("gpu", "cpu"))
    assert cpu["architecture"]["arch_kwargs"]["features_per_stage"][0] * 2 == gpu["architecture"]["arch_kwargs"][
        "features_per_stage"][0]
    assert cpu["batch_size"] == 2


def test_the_paper_preset_predicts_noise_in_a_thousand_linear_steps(planned):
    paper = section(planned(preset="paper"), "2d")
    assert (paper.network.parameterisation, paper.noise.schedule, paper.noise.num_train_steps,
            paper.sampling.num_samples) == ("noise", "linear", 1000, 25)
    assert (paper.sampling.num_steps, paper.sampling.num_mirrors, paper.sampling.conditioner_weight,
            paper.noise.log_snr_shift) == (50, 1, 0.0, 0.0)


@pytest.mark.parametrize("labels, expected", [
    ({"background": 0, "lesion": 2, "organ": 1}, (0.0, 1.25, 5.0)),
    ({"background": 0, "whole": [1, 2], "lesion": [2]}, (1.25, 5.0)),
])
def test_classes_weigh_by_the_inverse_of_their_area_but_in_published_presets(planned, labels, expected):
    """Organ or region 0.4 of every image, lesion 0.2 of every second: 0.5 over 0.4 and over 0.1."""
    structures = {name: {"share_of_cases": share, "volume_fraction": fraction, "diameter_mm": [10.0, 20.0, 40.0],
                         "num_components": 1, "volume_mm3": 1.0}
                  for name, share, fraction in (("organ", 1.0, 0.4), ("whole", 1.0, 0.4), ("lesion", 0.5, 0.2))}
    auto = section(planned(labels=labels, structures=structures), "2d")
    assert auto.loss.class_weights == expected and auto.sampling.num_steps == 1
    assert section(planned(preset="paper", labels=labels, structures=structures), "2d").loss.class_weights == ()


def test_every_preset_file_has_the_same_keys():
    keys = [{(name, key) for name, section in load_preset(preset).items() if name != "preset" for key in section}
            for preset in available_presets()]
    assert "auto" in available_presets() and all(k == keys[0] for k in keys)
    with pytest.raises(UserError, match="no_such"):
        load_preset("no_such")


def test_a_residual_encoder_plan_has_nnunets_topology_and_a_denoiser_of_its_stages(planned):
    stock = planned(planner=nnUNetPlannerResEncM)["configurations"]["2d"]["architecture"]
    ours = planned(encoder="resenc_m")["configurations"]["2d"]
    assert ours["architecture"] == stock
    assert stock["network_class_name"].endswith("ResidualEncoderUNet")
    stages = stock["arch_kwargs"]["features_per_stage"]
    network = section({"configurations": {"2d": ours}}, "2d").network
    assert len(network.features_per_stage) == len(stages) - network.first_stage


def test_conditioner_and_denoiser_together_keep_to_the_memory_target(planned):
    wide, narrow = (planned(gpu_memory_target=gb, counts_memory=True)["configurations"]["3d_fullres"] for gb in (8, 3))
    voxels = [math.prod(plan["patch_size"]) * plan["batch_size"] for plan in (wide, narrow)]
    assert voxels[1] < voxels[0]
    assert predicted_peak(narrow) <= 3.0 < predicted_peak(wide) <= 8.0


def predicted_peak(configuration) -> float:
    """Peak memory of training one channel and two labels under autocast, in 1e9 bytes."""
    architecture = configuration["architecture"]
    with torch.device("meta"):
        unet = get_network_from_plans(architecture["network_class_name"], architecture["arch_kwargs"],
                                      architecture["_kw_requires_import"], 1, 2, allow_init=False,
                                      deep_supervision=False)
        return training_peak_gb(unet, 1, 2, configuration["patch_size"], configuration["batch_size"],
                                DiffusionConfiguration.from_plan(configuration["diffusion"]), True)


def test_without_augmentation_workers_the_plan_is_the_same(planned, monkeypatch):
    with_workers = planned(resources="tiny")
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    assert planned(resources="tiny") == with_workers and os.environ["nnUNet_n_proc_DA"] == "0"
