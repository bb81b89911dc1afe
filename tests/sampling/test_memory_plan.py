"""What a case will take is said beforehand, and divided so that it keeps to the limit."""

import math
import sys
import tracemalloc
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.sampling import memory_plan as memory
from medsegdiff_auto.sampling.case_memory import CaseMemory
from medsegdiff_auto.sampling.case_size import CaseSize, size_of_file
from medsegdiff_auto.sampling.conditions import num_bytes
from medsegdiff_auto.nnunet.resampling import require_sensible_shape
from medsegdiff_auto.decision.decoder import decode
from medsegdiff_auto.sampling.memory_plan import fit_beside, memory_plan, memory_statement
from medsegdiff_auto.sampling.tile_memory import TileMemory, tile_memory
from medsegdiff_auto.sampling.tiling import Tiles

sys.path.insert(0, str(Path(__file__).parents[1] / "networks"))
from tiny_networks import STATE, NUM_INPUTS, NUM_OUTPUTS, PAPER, random_image, tiny_network

CPU, GB = torch.device("cpu"), 1e9
LARGE, PATCH = (600, 512, 512), (96, 128, 128)
BASELINE = 0.7 * GB
SIZES = {2: (16, 24), 3: (8, 16, 24)}


def case_memory(shape=LARGE, **changes):
    places = [(slice(None), *(slice(0, n) for n in PATCH)),
              (slice(None), *(slice(n - m, n) for n, m in zip(shape, PATCH)))]
    known = {
        "case": CaseSize(1, 4, shape, shape), "tiles": Tiles(shape, PATCH, places), "num_folds": 1,
        "num_samples": 8, "num_views": 4, "diffusion": STATE, "solver": "ddim", "tile": TileMemory(
            0.5 * GB, 0.03 * GB, 0.1 * GB), "samples_per_call": 8, "fusion": "mean"
    }
    return CaseMemory(**{**known, **changes})


@pytest.fixture(autouse=True)
def roomy_machine(monkeypatch):
    """A large disk, and a process that no earlier test has made large."""
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda folder: namedtuple("usage", "free")(1000 * GB))
    monkeypatch.setattr(memory, "peak_resident_bytes", lambda: 0.0)


def plan_of(max_memory_gb, folder, **changes):
    return memory_plan(case_memory(**changes), CPU, BASELINE, max_memory_gb, folder)


def test_volumes_slabs_and_label_maps_are_counted_in_bytes():
    found = case_memory()
    num_voxels = 600 * 512 * 512
    assert found.volume == 4 * 4 * num_voxels and found.image == 4 * num_voxels and found.labels == 8 * num_voxels
    assert found.share_of_slab * found.volume == pytest.approx(4 * 4 * 96 * 512 * 512)
    assert found.per_sample == found.volume
    assert replace(found, solver="dpm_solver_pp_2m").per_sample == 2 * found.volume


def test_the_choice_of_the_dice_mask_takes_what_is_stated_for_it():
    size, num_samples = 96, 8
    distance = np.linalg.norm(np.mgrid[:size, :size, :size] - size / 2, axis=0)
    samples = np.stack([(distance < 30 + k).astype(np.uint8) for k in range(num_samples)])
    tracemalloc.start()
    decode("dice", np.zeros((2, 1, 1, 1), np.float32), samples, LabelManager({"background": 0, "ball": 1}, None))
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    found = case_memory((size, ) * 3, fusion="dice", num_samples=num_samples,
                        case=CaseSize(1, 2, (size, ) * 3, (size, ) * 3))
    inputs = (4 * 2 + num_samples) * size ** 3
    assert 0.7 < taken / (found.fusing - inputs) < 1.1


def test_fusions_of_all_maps_are_part_of_the_peak():
    mean, staple = case_memory(), case_memory(fusion="staple")
    assert staple.peak(1, True) - staple.fusing == 0 and mean.peak(1, True) < staple.peak(1, True)
    assert mean.fusing == 0


def test_a_case_stays_in_memory_where_all_samples_fit_and_goes_to_disk_where_they_do_not(tmp_path):
    everything, disk = plan_of(100, tmp_path), plan_of(8, tmp_path)
    assert not everything.is_on_disk and everything.samples_together == 8 and everything.disk_bytes == 0
    assert disk.is_on_disk and 1 < disk.samples_together < 8 and disk.storage.folder == tmp_path
    assert everything.peak_bytes > BASELINE + 8 * case_memory().volume
    assert disk.disk_bytes > disk.samples_together * case_memory().volume


@pytest.mark.parametrize("max_memory_gb", [4.0, 6.0, 8.0, 16.0, 60.0])
def test_the_peak_keeps_to_the_limit_and_kept_features_take_what_is_left(max_memory_gb, tmp_path):
    found = plan_of(max_memory_gb, tmp_path)
    assert found.peak_bytes <= 0.95 * max_memory_gb * GB + 1
    less = plan_of(max_memory_gb - 0.5, tmp_path)
    assert less.samples_together <= found.samples_together


def test_a_process_that_was_larger_before_states_its_own_peak(tmp_path, monkeypatch):
    expected = plan_of(4.0, tmp_path).peak_bytes
    for peak_gb in (1.0, 9.0):
        monkeypatch.setattr(memory, "peak_resident_bytes", lambda peak=peak_gb * GB: peak)
        assert plan_of(4.0, tmp_path).peak_bytes == max(expected, peak_gb * GB)


def test_on_the_cpu_the_case_is_what_the_peak_adds_to_the_process(tmp_path):
    for max_memory_gb in (6.0, 60.0):
        found = plan_of(max_memory_gb, tmp_path)
        assert found.device_bytes == found.peak_bytes - BASELINE > 0


def test_a_gpu_takes_states_networks_and_the_features_that_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 100 * GB)
    case = case_memory()

    def plan(max_memory_gb):
        return memory_plan(case, torch.device("cuda"), BASELINE, max_memory_gb, tmp_path)

    states, networks = case.states(8) + case.volume, case.networks(8)
    assert plan(60).device_bytes == states + networks + case.all_terms < 0.95 * 60 * GB
    full = replace(case, num_views=10_000)  # more features than fit
    assert memory_plan(full, torch.device("cuda"), BASELINE, 400, tmp_path).device_bytes == pytest.approx(400 * GB)
    beside = plan(1e-9 + states / GB)  # states take more than half: they lie in memory, or on the disk
    assert beside.storage.device == "cpu"
    assert beside.device_bytes == case.networks(beside.samples_together) + min(beside.terms_bytes, case.all_terms)


def test_less_than_nothing_still_draws_one_sample_after_the_other(tmp_path):
    found = plan_of(1e-6, tmp_path)
    assert found.samples_together == 1 and found.terms_bytes == 0 and found.is_on_disk


def test_a_disk_with_too_little_space_is_refused_with_both_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda folder: namedtuple("usage", "free")(3 * GB))
    with pytest.raises(UserError) as refused:
        plan_of(8, tmp_path)
    assert "3.0 GB free" in refused.value.found and float(refused.value.expected.split()[0]) > 10


def test_the_next_case_is_prepared_beside_one_in_use_only_where_both_fit(tmp_path):
    small = plan_of(8, tmp_path, shape=(96, 128, 128))
    assert fit_beside(
        small, small) and not fit_beside(plan_of(8, tmp_path), small) and not fit_beside(small, plan_of(8, tmp_path))
    assert not fit_beside(replace(small, peak_bytes=small.limit_bytes), small)


def test_the_statement_names_size_samples_place_and_peak(tmp_path):
    plan = replace(plan_of(8, tmp_path), peak_bytes=5.3e9, samples_together=4, disk_bytes=21.04e9)
    assert memory_statement("case_7", CaseSize(1, 4, LARGE, LARGE), 8, plan) == (
        "case_7: 512 x 512 x 600, 8 samples, 4 at a time, states on disk (21.0 GB), about 5.3 GB at most")
    in_memory = replace(plan_of(100, tmp_path), peak_bytes=30e9)
    assert memory_statement("case_7", CaseSize(1, 4, LARGE, LARGE), 8, in_memory) == (
        "case_7: 512 x 512 x 600, 8 samples, states in memory, about 30.0 GB at most")


@pytest.mark.parametrize("configuration", [STATE, PAPER], ids=lambda c: c.preset)
@pytest.mark.parametrize("dimension", [2, 3])
def test_the_terms_of_a_tile_are_as_large_as_counted_and_the_network_stays_as_it_is(dimension, configuration):
    network = tiny_network(dimension, configuration).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    counted = tile_memory(network, NUM_INPUTS, NUM_OUTPUTS, SIZES[dimension])
    with torch.no_grad():
        terms = network.image_terms(network.condition(random_image(*SIZES[dimension], batch_size=1)))
    assert counted.terms == num_bytes(terms)
    assert counted.look > counted.terms and counted.step > 2 * 4 * NUM_OUTPUTS * np.prod(SIZES[dimension])
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def test_the_size_of_a_case_is_read_off_its_header_in_the_order_of_the_plan(tmp_path):
    image = sitk.Image(30, 20, 10, sitk.sitkInt16)
    image.SetSpacing((0.5, 1.0, 3.0))
    sitk.WriteImage(image, str(tmp_path / "case_0000.nii.gz"))
    plans = PlansManager({
        "transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0], "label_manager": "LabelManager",
        "configurations": {
            "3d_fullres": {"spacing": [1.0, 2.0, 1.0], "architecture": {}},
            "2d": {"spacing": [2.0, 1.0], "architecture": {}}
        }
    })
    for configuration, expected in (("3d_fullres", (15, 15, 20)), ("2d", (30, 15, 20))):
        found = size_of_file(tmp_path / "case_0000.nii.gz", 1, 4, plans, plans.get_configuration(configuration))
        assert found.image_shape == (10, 20, 30) and found.shape == expected, configuration
    sitk.WriteImage(sitk.Image(30, 20, sitk.sitkUInt8), str(tmp_path / "slice_0000.png"))
    flat = PlansManager({**plans.plans, "transpose_forward": [0, 1, 2]})
    found = size_of_file(tmp_path / "slice_0000.png", 1, 2, flat, flat.get_configuration("2d"))
    assert found.image_shape == (1, 20, 30) and found.shape == (1, 10, 30)


def test_where_the_disk_does_not_hold_all_samples_fewer_are_drawn_together(tmp_path, monkeypatch):
    """A sample of many classes takes as much as a disk has; drawn one after the other they are the same."""
    plenty = plan_of(8, tmp_path)
    assert plenty.is_on_disk and plenty.samples_together > 2
    monkeypatch.setattr(memory.shutil, "disk_usage",
                        lambda folder: namedtuple("usage", "free")(plenty.disk_bytes - 1))
    fewer = plan_of(8, tmp_path)
    assert fewer.is_on_disk and fewer.samples_together == plenty.samples_together - 1
    assert fewer.disk_bytes < plenty.disk_bytes


def test_only_a_large_case_starts_with_what_the_cases_before_have_freed_given_back(tmp_path):
    assert not plan_of(100, tmp_path, shape=PATCH, num_samples=1, tile=TileMemory(0.1 * GB, 0.01 * GB,
                                                                                  0.05 * GB)).is_large
    assert plan_of(100, tmp_path).is_large and plan_of(8, tmp_path).is_large


def test_what_the_process_has_freed_and_keeps_counts_as_free(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 20 * GB)
    limits = []
    for resident in (BASELINE, BASELINE + 2 * GB):
        monkeypatch.setattr(memory, "resident_bytes", lambda resident=resident: resident)
        limits.append(plan_of(None, tmp_path).limit_bytes)
    assert limits[1] - limits[0] == pytest.approx(0.6 * 2 * GB)


@pytest.mark.parametrize("spacing_mm, is_sensible", [
    ((1, 1, 1), True), ((0.04, 0.04, 0.04), False), ((1e-6, 1, 1), False), ((16, 16, 16), True), ((17, 16, 16), False),
    ((1, 1, 100), True), ((100, 100, 100), False), ((1e6, 1e6, 1e6), False)])
def test_a_spacing_that_leaves_no_voxel_or_makes_too_many_is_refused_by_the_header_alone(
        tmp_path, spacing_mm, is_sensible):
    image = sitk.Image(10, 10, 10, sitk.sitkUInt8)
    image.SetSpacing([float(mm) for mm in spacing_mm])
    sitk.WriteImage(image, str(tmp_path / "case_0000.nrrd"))
    plans = PlansManager({
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
        "configurations": {"3d_fullres": {"spacing": [1.0, 1.0, 1.0], "architecture": {}}}
    })
    arguments = tmp_path / "case_0000.nrrd", 1, 2, plans, plans.get_configuration("3d_fullres")
    if is_sensible:
        assert size_of_file(*arguments).shape == tuple(10 * mm for mm in spacing_mm[::-1])
    else:
        with pytest.raises(UserError, match="case_0000.nrrd cannot be true"):
            size_of_file(*arguments)


def test_4_billion_voxels_are_refused_however_many_the_image_has():
    require_sensible_shape((2048, 2048, 1024), (2048, 2048, 1024), (1, 1, 1), "case")
    with pytest.raises(UserError):
        require_sensible_shape((2048, 2048, 1025), (2048, 2048, 1025), (1, 1, 1), "case")


def test_without_a_state_one_volume_and_label_maps_take_the_place_of_those_of_every_sample(tmp_path):
    """The fused mean is one (two of five folds), where a model with a state holds eight samples, the plain network and
    two sums; what is resampled, or asked for its mutual information, needs its samples' probabilities.
    """
    latent = STATE.changed(latent_scales=(0.25, 4.0), latent_channels=2, name="energy_score", num_training_draws=2,
                          sees_state=False, num_steps=1, dispersion=1.0, structure_diameter_vox=(8.0, 8.0, 8.0))
    before, after = (case_memory(diffusion=diffusion, tile=TileMemory(GB, 0.01 * GB, 0.05 * GB, cell))
                     for diffusion, cell in ((STATE, ()), (latent, (2, 2, 2))))
    nodes = 2 * (math.prod(n // 2 + 2 for n in LARGE) + math.prod(n // 32 + 2 for n in LARGE))
    volume, label_map = 4 * 4 * math.prod(LARGE), math.prod(LARGE)
    beside = before.networks(8) - after.networks(8) - 8 * 4 * nodes
    assert before.peak(8, False) - after.peak(8, False) == pytest.approx(10 * volume - 8 * label_map + beside, rel=1e-5)
    assert before.on_disk(8) - after.on_disk(8) == 10 * volume - 8 * label_map
    assert replace(after, num_folds=5).on_disk(8) - after.on_disk(8) == volume + 4 * 8 * label_map
    resampled, shared = replace(after, case=CaseSize(1, 4, (1, 1, 1), LARGE)), replace(after, mutual_information=True)
    assert (resampled.per_sample, shared.per_sample) == (volume, volume)
    assert shared.shared_volumes - after.shared_volumes == 3 * volume
    slabs = 8 * 4 * 4 * 96 * 512 * 512
    assert before.peak(8, True) - after.peak(8, True) == pytest.approx(slabs + beside, rel=1e-4)
