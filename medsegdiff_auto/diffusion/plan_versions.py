"""Plans of earlier versions, brought to this one step by step.

    version   what a plan's diffusion section looks like
    1         one flat dictionary, without a version
    2         four sections; the shift of the schedule follows from ``reference_vox``
    3         latent noise and the energy score
"""

from __future__ import annotations

import math
from typing import Any

from medsegdiff_auto.diffusion.schedules import SHIFT_DECIMALS, log_snr_shift

VERSION = 3
_NEW_3 = {  # and what a plan of version 2 meant
    "network": {"latent_scales": [], "latent_channels": 0},
    "loss": {"num_training_draws": 1, "class_weights": [], "pure_noise_share": 0.0},
}
_LEFT = {  # what left with version 2, and the value that switched it off
    "state_guidance": 1.0, "start_time": 1.0, "self_conditioning": False, "zero_terminal_snr": False,
    "time_weighting": "none", "dice_weight": 0.0
}
_SECTIONS_2 = {
    "network": ("parameterisation", "first_stage", "features_per_stage", "dynamic_encoding", "anchor_attention",
                "spectrum_transformer_layers", "transformer_layers", "bottleneck_attention_heads", "filter_grid_size",
                "dropout", "sees_state", "frozen_conditioner", "gradient_into_conditioner"),
    "noise": ("schedule", "structure_diameter_vox", "num_train_steps"),
    "loss": ("multiscale_size", "anchor_loss_interval", "recycling_share", "initial_learning_rate", "ema_length"),
    "sampling": ("solver", "num_steps", "dispersion", "fusion", "num_samples", "num_mirrors", "conditioner_weight"),
}


def upgraded(section: Any) -> dict:
    """The diffusion section of a plan, in the form of this version.

    Raises:
        ValueError: it is of a later version, or uses what this one no longer has.
    """
    if not isinstance(section, dict):
        raise ValueError(f"the diffusion section of the plan is {section!r}, expected a dictionary")
    version = section.get("version", 1)
    if version == 1:
        return _from_version_2(_from_version_1(section))
    if version == 2:
        return _from_version_2(section)
    if version != VERSION:
        raise ValueError(
            f"the diffusion section of the plan has version {version!r}, this program knows 1 to {VERSION}")
    return section


def _from_version_1(section: dict) -> dict:
    """Four sections from the flat one; keys that version 1 did not have are left for the check of keys to name."""
    for key, neutral in _LEFT.items():
        if section.get(key, neutral) != neutral:
            raise ValueError(
                f"{key} is {section[key]!r}, which left with version 2 of the plan; only {neutral!r} can be read")
    x_start = section.get("parameterisation") == "x_start"
    if x_start and section.get("cross_entropy_weight", 1.0) != 1.0:
        raise ValueError(
            f"cross_entropy_weight is {section['cross_entropy_weight']!r}, which left with version 2 of the plan; "
            "only 1.0 can be read")
    known = {*_LEFT, "cross_entropy_weight", "preset", "target", "network", "log_snr_shift", "denoiser_cost",
             *(key for keys in _SECTIONS_2.values() for key in keys)}
    unknown, missing = sorted(set(section) - known), sorted(known - set(section))
    if unknown or missing:
        raise ValueError(f"diffusion section of the plan (version 1): unknown keys {unknown}, missing keys {missing}")
    new: dict[str, Any] = {name: {key: section[key] for key in keys} for name, keys in _SECTIONS_2.items()}
    new["network"]["architecture"] = section["network"]
    new["noise"]["reference_vox"] = reference_of_shift(section["log_snr_shift"], section["structure_diameter_vox"])
    new["loss"]["name"] = "cross_entropy" if x_start else "multiscale_mse" if section["multiscale_size"] else "mse"
    return {"version": 2, "preset": section["preset"], "target": section["target"], **new}


def _from_version_2(section: dict) -> dict:
    """What version 3 added, switched off."""
    added = {name: section[name] | keys if isinstance(section.get(name), dict) else section.get(name)
             for name, keys in _NEW_3.items()}
    return section | {name: value for name, value in added.items() if name in section} | {"version": VERSION}


def reference_of_shift(shift: float, diameter_vox: list[float]) -> float | None:
    """The reference diameter that gives a stored shift back, None for a shift of 0: exp((shift + sum_i log d_i) /
    axes).

    Rounded to the fewest decimals that do, so that a planned 5 is read as 5.
    """
    if round(shift, SHIFT_DECIMALS) != shift:
        raise ValueError(f"log_snr_shift is {shift!r}, expected at most {SHIFT_DECIMALS} decimals, as it was planned")
    if shift == 0 or not diameter_vox:
        return None
    exact = math.exp((shift + sum(map(math.log, diameter_vox))) / len(diameter_vox))
    candidates = (round(exact, decimals) for decimals in range(12))
    return next((reference for reference in candidates if reference > 0
                 and round(log_snr_shift(diameter_vox, reference), SHIFT_DECIMALS) == shift), exact)
