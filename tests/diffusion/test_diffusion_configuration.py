"""The diffusion section of a plan as JSON."""

import json
from dataclasses import replace

import pytest

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration

CONFIGURATION = DiffusionConfiguration(
    preset="auto", network="conditioned", target="regions", parameterisation="x_start", schedule="cosine",
    log_snr_shift=-2.5, num_train_steps=1000, zero_terminal_snr=False, structure_diameter_vox=(12.5, 9.0, 4.25),
    first_stage=1, features_per_stage=(8, 16, 32), dynamic_encoding=True, anchor_attention=False,
    spectrum_transformer_layers=0, transformer_layers=0, bottleneck_attention_heads=4, filter_grid_size=9, dropout=0.1,
    sees_state=True, self_conditioning=False, frozen_conditioner=False, gradient_into_conditioner=False, cross_entropy_weight=1.0, dice_weight=0.5,
    time_weighting="none", multiscale_size=0, anchor_loss_interval=0, recycling_share=0.25, initial_learning_rate=1e-3,
    ema_length=0.05, solver="ddim", num_steps=3, start_time=0.6, state_guidance=1.0, dispersion=0.0, fusion="mean", num_samples=8, num_mirrors=4, conditioner_weight=0.5,
    denoiser_cost=0.12)


def test_a_configuration_survives_json():
    text = json.dumps(CONFIGURATION.to_plan())
    assert DiffusionConfiguration.from_plan(json.loads(text)) == CONFIGURATION


def test_another_value_makes_another_configuration():
    section = CONFIGURATION.to_plan() | {"features_per_stage": [8, 16, 64]}
    assert DiffusionConfiguration.from_plan(section) == replace(CONFIGURATION, features_per_stage=(8, 16, 64))


def test_unknown_and_missing_keys_are_named():
    section = CONFIGURATION.to_plan()
    del section["solver"], section["dropout"]
    section["sovler"] = "ddim"
    with pytest.raises(ValueError) as raised:
        DiffusionConfiguration.from_plan(section)
    assert "unknown keys ['sovler']" in str(raised.value)
    assert "missing keys ['dropout', 'solver']" in str(raised.value)


@pytest.mark.parametrize("change, named", [
    ({"network": "unet"}, "network is 'unet', expected one of ('conditioned', 'two_encoders', 'concatenated')"),
    ({"target": "class"}, "target is 'class'"), ({"parameterisation": "eps"}, "parameterisation is 'eps'"),
    ({"time_weighting": "snr"}, "time_weighting is 'snr'"),
    ({"parameterisation": "noise", "zero_terminal_snr": True}, "zero_terminal_snr needs x_start or v")])
def test_a_value_that_does_not_exist_or_does_not_fit_is_named_in_the_error(change, named):
    with pytest.raises(ValueError) as raised:
        replace(CONFIGURATION, **change)
    assert named in str(raised.value)
