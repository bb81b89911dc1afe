"""The finished plans in ``plans/ready`` are plans of this version."""

import json
from pathlib import Path

import pytest

from medsegdiff_auto.diffusion.configuration import PLANS_KEY, DiffusionConfiguration
from medsegdiff_auto.diffusion.schedules import log_snr_shift
from medsegdiff_auto.planning.presets import load_preset

READY = sorted((Path(__file__).parents[2] / "plans" / "ready").glob("*.json"))


@pytest.mark.parametrize("file", READY, ids=lambda file: file.stem)
def test_every_configuration_of_a_finished_plan_follows_from_its_structures_and_todays_preset(file):
    sections = [
        c[PLANS_KEY] for c in json.loads(file.read_text(encoding="utf-8"))["configurations"].values() if PLANS_KEY in c
    ]
    assert sections
    for section in map(DiffusionConfiguration.from_plan, sections):
        preset, noise = load_preset(section.preset), section.noise
        limits, diameters = preset["planning"], noise.structure_diameter_vox
        assert section.network.first_stage == limits[f"first_stage_{len(diameters)}d"]
        assert noise.log_snr_shift == pytest.approx(log_snr_shift(diameters, preset["noise"]["reference_vox"]),
                                                    abs=5.1e-4)
        assert limits["min_steps"] <= section.sampling.num_steps <= limits["max_steps"]
        weights = section.loss.class_weights  # of the structures' areas
        assert (weights[0] == 0) == (section.target == "classes") and max(weights) > 0
        for name in ("network", "noise", "loss", "sampling"):
            planned = section.to_plan()[name]
            fixed = preset[name].keys() - {"class_weights"}
            assert {key: preset[name][key] for key in fixed} == {key: planned[key] for key in fixed}
