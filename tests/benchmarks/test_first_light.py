"""All steps of a GPU's first light, on the CPU: a plan in 3-D with an ignore label, and one in 2-D with regions."""

import json
import multiprocessing
import os
from multiprocessing.pool import ThreadPool
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medsegdiff_auto.benchmarks import first_light, first_light_steps
from medsegdiff_auto.benchmarks.first_light_steps import STEPS, Measured, Measurement, Step, Subject, agreement
from medsegdiff_auto.benchmarks.training_memory import allocated_peak_gb
from medsegdiff_auto.benchmarks.training_time import median_ratio
from medsegdiff_auto.cli.plan_and_preprocess import main as plan_and_preprocess
from medsegdiff_auto.inference.predictor import CaseDistribution
from medsegdiff_auto.nnunet.managers import LabelManager
from medsegdiff_auto.nnunet.structures import structures_of
from medsegdiff_auto.phantoms.nnunet_dataset import Labelling, write_phantom_dataset
from medsegdiff_auto.phantoms.phantom import PhantomKind

PLANNED = {"3d_fullres": (PhantomKind(shape=(16, 24, 20)), Labelling(ignore=True)),
           "2d": (PhantomKind(2, "CT", num_channels=2, shape=(32, 40)), Labelling(regions=True))}
OF_A_RATIO = " / nnU-Net, median of pairs"


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Preprocessed folders by configuration."""
    root, folders = tmp_path_factory.mktemp("first_light"), {}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("raw", "preprocessed", "results"):
            (root / name).mkdir()
            patch.setenv(f"nnUNet_{name}", str(root / name))
        patch.setattr(multiprocessing, "get_context", lambda method=None: SimpleNamespace(Pool=ThreadPool))
        for number, (configuration, options) in enumerate(PLANNED.items(), start=1):
            raw = write_phantom_dataset(root / "raw", number, "Tiny", (5, 0), *options)
            assert plan_and_preprocess(["-d", str(number), "-c", configuration, "--resources", "tiny", "-np", "1"]) == 0
            folders[configuration] = root / "preprocessed" / raw.name
    return folders


def run(output, datasets, *flags):
    """Exit code, content of the JSON file, and lines of the table."""
    folders = map(str, datasets.values())
    code = first_light.main(["-d", *folders, "-c", *datasets, "-o", str(output), "-device", "cpu", *flags])
    content = json.loads((output / first_light.JSON_FILE).read_text(encoding="utf-8"))
    return code, content, (output / first_light.TABLE_FILE).read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def seen(datasets, tmp_path_factory):
    """All that was written of one call, and its folder."""
    output = tmp_path_factory.mktemp("output")
    return *run(output, datasets), output


def measured(content, step):
    """Measurements of a step by configuration, each by its name."""
    return {record["configuration"]: {one["what"]: one for one in record["measurements"]}
            for record in content["steps"] if record["step"] == step}


def test_every_step_is_done_once_with_either_plan(seen):
    code, content, _, _ = seen
    assert [record.get("traceback") for record in content["steps"] if record["outcome"] != "done"] == []
    assert code == 0
    assert [(record["step"], record["configuration"]) for record in content["steps"]] == [
        (step, configuration) for step in STEPS for configuration in PLANNED]
    assert {record["compiled"] for record in content["steps"]} == {False}


@pytest.mark.parametrize("step", ["masks, ddim", "masks, dpm_solver_pp_2m"])
def test_the_cpu_agrees_with_itself(seen, step):
    for found in measured(seen[1], step).values():
        alike = [one["value"] for what, one in found.items() if "Dice" in what or "share" in what]
        assert alike == [1] * 6  # two structures and all voxels, of masks and samples
        assert [one["value"] for what, one in found.items() if "difference" in what] == [0, 0]
        assert max(one["value"] for one in found.values() if one["unit"] == "voxels") > 10


@pytest.mark.parametrize("step, methods", [("training step", ["MedSegDiff-Auto"]),
                                           ("prediction of a case", ["2 samples x 1 steps", "4 samples x 1 steps"])])
def test_ratios_follow_from_the_recorded_seconds(seen, step, methods):
    for record in (record for record in seen[1]["steps"] if record["step"] == step):
        found = {one["what"]: one for one in record["measurements"]}
        seconds = {method: np.array(values) for method, values in record["seconds"].items()}
        assert list(seconds) == ["nnU-Net", *methods] and all((values > 0).all() for values in seconds.values())
        assert [what for what in found if OF_A_RATIO in what] == [method + OF_A_RATIO for method in methods]
        for method in methods:
            one = found[method + OF_A_RATIO]
            pairs = np.stack([seconds["nnU-Net"], seconds[method]], axis=1)
            assert (one["value"], one["low"], one["high"]) == median_ratio(pairs)
            assert 0 < one["low"] <= one["value"] <= one["high"]
            assert found[f"{method}, median"]["value"] == np.median(seconds[method])


def test_the_planned_peak_of_training_is_the_measured_one_and_that_of_prediction_covers_it(seen):
    for found in measured(seen[1], "memory of training").values():
        assert found["planned / measured"]["value"] == pytest.approx(1, rel=0.15)
    for found in measured(seen[1], "memory of prediction").values():
        planned, peak = (found[f"peak, {which}"]["value"] for which in ("planned", "measured"))
        assert found["planned / measured"]["value"] == planned / peak > 1


@pytest.mark.parametrize("device, planned", [("cuda", 1.0), ("cpu", 3.0)])
def test_the_peak_of_training_is_planned_in_the_precision_of_the_device(datasets, monkeypatch, device, planned):
    monkeypatch.setattr(first_light_steps, "predicted_peak_gb", lambda *_, half_precision: [3.0, 1.0][half_precision])
    monkeypatch.setattr(first_light_steps, "allocated_peak_gb", lambda run, device: 2.0)
    settings = SimpleNamespace(device=torch.device(device))
    found = first_light_steps.memory_of_training(Subject(datasets["2d"], "2d", "MedSegDiffPlans"), settings, False)
    assert [one.value for one in found.measurements] == [2.0, planned, planned / 2]


def test_the_trainings_learn_from_their_seed_and_leave_small_checkpoints(seen):
    _, content, _, output = seen
    for record in (record for record in content["steps"] if record["step"] == "training"):
        assert record["precision"] == "torch.float32" and record["scale_of_gradients"] is None
        assert record["iterations"] == len(record["loss"]) == len(record["denoiser_loss"]) == 4
        for losses in (record["loss"], record["denoiser_loss"]):  # four batches: not every one is better than the first
            assert min(losses[1:]) < losses[0]
        stored = torch.load(output / record["checkpoint"]["file"], weights_only=False)
        assert stored["init_args"]["configuration"] == record["configuration"]
        assert (output / record["checkpoint"]["file"]).stat().st_size == record["checkpoint"]["bytes"] < 16 * 2 ** 20


def test_the_table_has_a_row_for_every_measurement(seen):
    _, content, lines, _ = seen
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| Dataset")]
    expected = [[record["dataset"], record["configuration"], "no", record["step"], one["what"]]
                for record in content["steps"] for one in record["measurements"]]
    assert [row[:5] for row in rows] == expected and len(expected) > 60
    values = [one["value"] for record in content["steps"] for one in record["measurements"]]
    assert [float(row[5].split()[0]) for row in rows] == pytest.approx(values, rel=1e-3)


def test_the_record_says_what_made_it(seen):
    _, content, lines, _ = seen
    assert content["device"] == "cpu" and content["versions"]["torch"] == torch.__version__.split("+")[0]
    assert content["seed"] == 0 and content["driver"] is None and content["amount"]["workers"] == 0
    assert " ".join(content["command"]) in "\n".join(lines)


def boom(*_):
    raise RuntimeError("no kernel | for this\nand more")


def test_a_step_that_fails_is_recorded_and_the_others_go_on(datasets, tmp_path, monkeypatch):
    for name in set(STEPS) - {"training", "masks, ddim", "training step"}:
        monkeypatch.delitem(STEPS, name)
    monkeypatch.setitem(STEPS, "training", Step(boom))
    code, content, lines = run(tmp_path, {"2d": datasets["2d"]})
    failed, without_model, timed = content["steps"]
    assert code == 1 and failed["failure"] == "RuntimeError: no kernel | for this"
    assert failed["traceback"][-1] == "and more" and any("boom" in line for line in failed["traceback"])
    assert without_model["failure"] == "FileNotFoundError: no training of Dataset002_Tiny 2d has come to its end"
    assert timed["outcome"] == "done" and len(timed["measurements"]) == 3
    assert "| Dataset002_Tiny | 2d | no | training | failed | RuntimeError: no kernel / for this |" in lines


def test_without_time_everything_is_left_out_and_said_so(datasets, tmp_path):
    code, content, lines = run(tmp_path, datasets, "--minutes", "0")
    assert code == 0 and [record["outcome"] for record in content["steps"]] == ["left out"] * len(STEPS) * 2
    assert sum(line.endswith("| left out |  |") for line in lines) == len(STEPS) * 2


def fake_steps(monkeypatch, measure):
    for name in list(STEPS):
        monkeypatch.delitem(STEPS, name)
    monkeypatch.setitem(STEPS, "first", Step(measure))
    monkeypatch.setitem(STEPS, "second", Step(measure, compiles=False))


def test_no_step_begins_after_the_time_is_over(datasets, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(first_light, "perf_counter", lambda: now[0])

    def measure(*_):
        now[0] += 100
        return Measured([Measurement("now", now[0], "s")])

    fake_steps(monkeypatch, measure)
    _, content, _ = run(tmp_path, datasets, "--minutes", "2")
    assert [record["outcome"] for record in content["steps"]] == ["done", "done", "left out", "left out"]
    assert content["seconds"] == 200


def test_compilation_is_switched_for_each_step_and_the_environment_comes_back(datasets, tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_compile", "as it was")
    switched = []

    def measure(subject: Subject, settings, is_compiled):
        switched.append((is_compiled, os.environ["nnUNet_compile"], os.environ["nnUNet_preprocessed"]))
        return Measured([])

    fake_steps(monkeypatch, measure)
    run(tmp_path, {"2d": datasets["2d"]}, "--compile", "off", "on")
    folder = str(datasets["2d"].parent)
    assert switched == [(False, "False", folder), (False, "False", folder), (True, "True", folder)]
    assert os.environ["nnUNet_compile"] == "as it was"


def test_agreement_by_hand():
    dataset_json = {"labels": {"background": 0, "organ": 1}}
    organ = {"first": [0.9, 0.9, 0.1, 0.1], "second": [0.9, 0.25, 0.1, 0.1]}
    first, second = (torch.stack([1 - p, p])[:, None, None] for p in map(torch.tensor, organ.values()))
    found = agreement(CaseDistribution(first, torch.stack([first, first]), 0.5),
                      CaseDistribution(second, torch.stack([first, second]), 0.5),
                      LabelManager(dataset_json["labels"], None), structures_of(dataset_json))
    of_second_sample = 2 * 1 / 3  # one of two voxels
    fused = 0.5 * 0.25 + 0.5 * (0.9 + 0.25) / 2  # 0.4125: the second voxel is lost in the fused mask as well
    assert found["dice"] == {"organ": pytest.approx(2 / 3)}
    assert found["voxels"] == {"organ": 1} and found["equal"] == 0.75
    assert found["sample_dice"] == {"organ": pytest.approx((1 + of_second_sample) / 2)}
    assert found["sample_equal"] == 7 / 8
    assert found["difference"] == pytest.approx(0.9 - fused) and found["plain_difference"] == pytest.approx(0.65)


def test_the_peak_on_a_gpu_is_what_its_allocator_adds_to_what_it_held(monkeypatch):
    held = {"now": 3e9, "peak": 9e9}
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: held.update(peak=held["now"]))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: held["now"])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: held["peak"])
    assert allocated_peak_gb(lambda: held.update(peak=5e9), torch.device("cuda")) == 2
