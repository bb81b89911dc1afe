"""The diffusion section of a plan: its four sections, their rules, and its JSON."""

import json
from dataclasses import fields

import pytest

from medsegdiff_auto.diffusion.configuration import (SECTIONS, DiffusionConfiguration, LossSection, NetworkSection,
                                                     NoiseSection, SamplingSection)

CONFIGURATION = DiffusionConfiguration(
    "auto", "regions",
    NetworkSection(architecture="conditioned", parameterisation="x_start", first_stage=1,
                   features_per_stage=(8, 16, 32), dynamic_encoding=True, anchor_attention=False,
                   spectrum_transformer_layers=0, transformer_layers=0, bottleneck_attention_heads=4,
                   filter_grid_size=9, dropout=0.1, sees_state=True, frozen_conditioner=False,
                   gradient_into_conditioner=False, latent_scales=(),
                   latent_channels=0),
    NoiseSection(schedule="cosine", reference_vox=5.0, structure_diameter_vox=(12.5, 9.0, 4.25), num_train_steps=1000),
    LossSection(name="cross_entropy", multiscale_size=0, anchor_loss_interval=0, recycling_share=0.25,
                initial_learning_rate=1e-3, ema_length=0.05, num_training_draws=1, class_weights=(),
                pure_noise_share=0.0),
    SamplingSection(solver="ddim", num_steps=3, dispersion=0.0, fusion="mean", num_samples=8, num_mirrors=4,
                    conditioner_weight=0.5))


def test_a_configuration_survives_json():
    text = json.dumps(CONFIGURATION.to_plan())
    assert DiffusionConfiguration.from_plan(json.loads(text)) == CONFIGURATION


def test_a_value_is_changed_in_the_section_that_has_it_and_nowhere_else():
    changed = CONFIGURATION.changed(num_mirrors=7, features_per_stage=(8, 16, 64), preset="mine")
    assert (changed.sampling.num_mirrors, changed.network.features_per_stage, changed.preset) == (7, (8, 16, 64),
                                                                                                  "mine")
    assert changed.changed(num_mirrors=4, features_per_stage=(8, 16, 32), preset="auto") == CONFIGURATION
    with pytest.raises(TypeError, match="sovler"):
        CONFIGURATION.changed(sovler="ddim")


def test_no_field_name_stands_in_two_sections():
    names = [one.name for section in (DiffusionConfiguration, *SECTIONS.values()) for one in fields(section)]
    assert len(names) == len(set(names))


def test_the_shift_follows_from_reference_and_diameters():
    """log(5/12.5) + log(5/9) + log(5/4.25) = log(0.4 * 0.5556 * 1.1765) = -1.34156."""
    assert CONFIGURATION.noise.log_snr_shift == -1.342
    assert CONFIGURATION.changed(reference_vox=None).noise.log_snr_shift == 0.0
    assert CONFIGURATION.noise.law.shift == -1.342


def test_unknown_and_missing_keys_are_named_with_their_section():
    section = CONFIGURATION.to_plan()
    del section["sampling"]["solver"], section["sampling"]["fusion"]
    section["sampling"]["sovler"] = "ddim"
    with pytest.raises(ValueError) as raised:
        DiffusionConfiguration.from_plan(section)
    assert "sampling section" in str(raised.value) and "unknown keys ['sovler']" in str(raised.value)
    assert "missing keys ['fusion', 'solver']" in str(raised.value)


@pytest.mark.parametrize("section", [
    None, 3, [], {"version": 2},
    CONFIGURATION.to_plan() | {"network": None},
    CONFIGURATION.to_plan() | {"version": 4},
    CONFIGURATION.to_plan() | {"version": "2"},
    CONFIGURATION.to_plan() | {"more": 1}
], ids=str)
def test_what_is_no_section_of_this_version_is_refused(section):
    with pytest.raises(ValueError):
        DiffusionConfiguration.from_plan(section)


NAN = float("nan")


@pytest.mark.parametrize("change, named", [
    ({"architecture": "unet"
      }, "network.architecture is 'unet', expected one of conditioned, two_encoders, concatenated"),
    ({"target": "class"}, "target is 'class', expected one of classes, regions"),
    ({"parameterisation": "eps"}, "network.parameterisation is 'eps'"),
    ({"solver": "heun"}, "sampling.solver is 'heun', expected one of ddim, ddpm, dpm_solver_pp_2m"),
    ({"schedule": "foo"}, "noise.schedule is 'foo', expected one of cosine, linear"),
    ({"recycling_share": 3}, "loss.recycling_share is 3, expected a number at least 0 and at most 1"),
    ({"num_steps": 0}, "sampling.num_steps is 0, expected a whole number of at least 1"),
    ({"num_steps": 2.0}, "sampling.num_steps"),
    ({"num_steps": True}, "sampling.num_steps is True"),
    ({"num_steps": "2"}, "sampling.num_steps is '2'"),
    ({"num_samples": -1}, "sampling.num_samples"),
    ({"num_mirrors": 0}, "sampling.num_mirrors"),
    ({"fusion": "vote"}, "sampling.fusion is 'vote', expected one of dice, mean"),
    ({"dispersion": -0.1}, "sampling.dispersion"),
    ({"dispersion": NAN}, "sampling.dispersion is nan"),
    ({"dispersion": float("inf")}, "sampling.dispersion"),
    ({"conditioner_weight": 1.01}, "sampling.conditioner_weight"),
    ({"conditioner_weight": 1}, "sampling.conditioner_weight is 1"),
    ({"dispersion": 1.5}, "sampling.dispersion is 1.5 without latent noise"),
    ({"sees_state": False}, "sampling.num_steps is 3 for a denoiser that sees no state"),
    ({"conditioner_weight": None}, "sampling.conditioner_weight is None"),
    ({"dropout": 1.0}, "network.dropout is 1.0"),
    ({"dynamic_encoding": 1}, "network.dynamic_encoding is 1, expected true or false"),
    ({"features_per_stage": ()}, "network.features_per_stage is empty"),
    ({"features_per_stage": (8, 0)}, "features_per_stage"),
    ({"features_per_stage": [8, 8]}, "features_per_stage"),
    ({"features_per_stage": (8, 6)}, "heads is 4, expected a divisor of the 6"),
    ({"filter_grid_size": 8}, "network.filter_grid_size is 8, expected an odd number"),
    ({"filter_grid_size": 1}, "filter_grid_size"),
    ({"first_stage": -1}, "network.first_stage"),
    ({"reference_vox": 0.0}, "noise.reference_vox is 0.0"),
    ({"structure_diameter_vox": (4.0, -1.0)}, "noise.structure_diameter_vox"),
    ({"num_train_steps": 0}, "noise.num_train_steps"),
    ({"schedule": "linear"}, "noise.reference_vox is 5.0, expected nothing"),
    ({"name": "dice"}, "loss.name is 'dice'"),
    ({"name": "mse"}, "loss.name is 'mse', expected a loss of x_start: cross_entropy"),
    ({"parameterisation": "noise"}, "expected a loss of noise: mse, multiscale_mse"),
    ({"multiscale_size": 4}, "loss.multiscale_size is 4 with cross_entropy"),
    ({"initial_learning_rate": 0.0}, "loss.initial_learning_rate is 0.0, expected a number above 0"),
    ({"ema_length": 1.0}, "loss.ema_length is 1.0, expected a number above 0 and below 1"),
    ({"frozen_conditioner": True, "gradient_into_conditioner": True}, "frozen_conditioner needs a conditioner"),
    ({"frozen_conditioner": True, "architecture": "concatenated"}, "frozen_conditioner needs a conditioner"),
    ({"schedule": "linear", "reference_vox": None, "num_train_steps": 10, "num_steps": 11
      }, "num_steps is 11, expected at most the 10"),
], ids=str)
def test_a_value_that_does_not_exist_or_does_not_fit_is_named_in_the_error(change, named):
    with pytest.raises(ValueError) as raised:
        CONFIGURATION.changed(**change)
    assert named in str(raised.value)
