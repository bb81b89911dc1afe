"""The whole command, killed at random moments and given again, ends with the files of an undisturbed one."""

import gzip
import json
import os
import random
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from folds_place import CASES, FOLDS, use, write_dataset
from forked import ended, fork_jobs, forked
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from medsegdiff_auto.decision.temperature import at_temperature
from medsegdiff_auto.nnunet.structures import structures_of
from medsegdiff_auto.selection.temperature_fit import fit_temperature, nll_by_temperature

LINE = "crossval 921 -c 2d --against nnunet_adamw --resources tiny --iterations 10 --seed 1 -device cpu -np 1"
METHODS = ["auto", "nnunet_adamw", "nnunet_adamw+T"]
HAS_COMPARISON = find_spec("medsegdiff_auto.comparison") is not None
NUM_KILLS, LONGEST_S = int(os.environ.get("MEDSEGDIFF_KILLS", "1")), 600  # ten by hand: they take minutes
PASSING = ("seconds", "checkpoints", "date", "time")  # parts of keys whose values are of a moment


def content(file: Path):
    """What a file says, whatever the moment when it was written."""
    if file.suffix == ".json":
        return without_moments(json.loads(file.read_text(encoding="utf-8")))
    if file.suffix == ".npz":
        with np.load(file) as arrays:
            return {name: arrays[name].tobytes() for name in arrays}
    return gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()


def without_moments(value):
    if isinstance(value, dict):
        return {key: without_moments(of_key) for key, of_key in value.items()
                if not any(word in key for word in PASSING)}
    return [without_moments(one) for one in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict:
    """Predictions, fits and tables of a comparison, and the predictions of unseen images."""
    comparison = folder / "comparison"
    files = [*comparison.glob("predictions/*/*"), *comparison.glob("fits/*/*"), *comparison.glob("*.csv"),
             *comparison.glob("*.json"), *folder.glob("predictions_imagesTs*/*.nii.gz")]
    return {str(file.relative_to(folder)): content(file) for file in sorted(files)
            if file.is_file() and "seconds" not in file.name and file.name != "run.json"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The place of the whole command in one go, and the seconds that it took."""
    place = write_dataset(tmp_path_factory.mktemp("whole"))
    with pytest.MonkeyPatch.context() as patch:
        use(place, patch)
        fork_jobs(patch)
        begun = time.monotonic()
        with (place.root / "output.log").open("wb") as log:
            code = ended(forked(LINE.split(), log.fileno()), LONGEST_S)
        output = (place.root / "output.log").read_text(encoding="utf-8")
    assert code == (0 if HAS_COMPARISON else 1), output
    return place, time.monotonic() - begun


def test_every_case_is_predicted_by_its_own_fold_and_all_methods_are_named_with_what_is_fitted(undisturbed):
    place, _ = undisturbed
    comparison = place.results / "comparison"
    methods = json.loads((comparison / "methods.json").read_text(encoding="utf-8"))
    assert list(methods["methods"]) == METHODS and methods["reference"] == "nnunet_adamw"
    assert [row["fitted"] for row in methods["methods"].values()] == ["sampling", None, "temperature"]
    assert {row["iterations"] for row in methods["methods"].values()} == {10}
    assert {row["seed"] for row in methods["methods"].values()} == {1}
    expected = {case: number for number, fold in enumerate(FOLDS) for case in fold["val"]}
    for method in METHODS:
        folder = comparison / "predictions" / method
        assert json.loads((folder / "fold_of_case.json").read_text(encoding="utf-8")) == expected
        for case in CASES:
            assert (folder / f"{case}.nii.gz").is_file() and (folder / f"{case}_probabilities.nii.gz").is_file()
            assert (folder / f"{case}_samples.nii.gz").is_file() == (method == "auto")


def test_what_is_fitted_for_a_fold_comes_from_the_other_fold_alone(undisturbed):
    place, _ = undisturbed
    comparison = place.results / "comparison"
    for fold, other in ((0, 1), (1, 0)):
        fit = json.loads((comparison / "fits" / "auto" / f"fold_{fold}.json").read_text(encoding="utf-8"))["fitted"]
        assert list(fit["checkpoints"]) == [f"fold_{other}/checkpoint_final.pth"] and fit["num_cases"] == 3
        plain = json.loads((comparison / "fits" / "nnunet_adamw" / f"fold_{fold}.json").read_text(encoding="utf-8"))
        assert plain["fitted"] is None and list(plain["checkpoints"]) == [f"fold_{fold}"]


def test_probabilities_at_a_temperature_are_those_of_the_method_at_the_temperature_of_the_other_fold(undisturbed):
    place, _ = undisturbed
    comparison, reader = place.results / "comparison", SimpleITKIO()
    folders = [comparison / "predictions" / name for name in ("nnunet_adamw", "nnunet_adamw+T")]
    curves = {}
    for fold, split in enumerate(FOLDS):
        curves[fold] = np.stack([curve_of(folders[0], place, case, reader) for case in split["val"]])
    for fold, split in enumerate(FOLDS):
        temperature = fit_temperature(curves[1 - fold])[0]
        record = json.loads((comparison / "fits" / "nnunet_adamw+T" / f"fold_{fold}_predicted.json").read_text("utf-8"))
        assert record["temperature"] == temperature != 1
        for case in split["val"]:
            before, after = (np.load(folder / f"{case}.npz")["probabilities"] for folder in folders)
            np.testing.assert_allclose(after, at_temperature(before, temperature, regions=False), rtol=1e-6)
            np.testing.assert_array_equal(*((reader.read_seg(str(folder / f"{case}.nii.gz"))[0]) for folder in folders))


def curve_of(folder: Path, place, case: str, reader) -> np.ndarray:
    """Negative log-likelihood of a case by temperature, from its files alone."""
    labels, reference = (reader.read_seg(str(file))[0][0] for file in (
        folder / f"{case}.nii.gz", place.raw / "labelsTr" / f"{case}.nii.gz"))
    dataset_json = json.loads((place.raw / "dataset.json").read_text(encoding="utf-8"))
    return nll_by_temperature(np.load(folder / f"{case}.npz")["probabilities"], labels, reference,
                              structures_of(dataset_json), regions=False)


def test_the_command_killed_ten_times_and_given_again_ends_with_the_same_predictions_and_tables(
        undisturbed, tmp_path, monkeypatch):
    whole, takes_s = undisturbed
    place, chance = write_dataset(tmp_path), random.Random(0)
    use(place, monkeypatch)
    fork_jobs(monkeypatch)
    code, kills = None, 0
    with (tmp_path / "output.log").open("wb") as log:
        while code is None:
            is_last = kills == NUM_KILLS
            code = ended(forked(LINE.split(), log.fileno()),
                         LONGEST_S if is_last else chance.uniform(0.05, 0.3) * takes_s)
            kills += code is None
    assert code == (0 if HAS_COMPARISON else 1), (tmp_path / "output.log").read_text(encoding="utf-8")
    expected, found = contents(whole.results), contents(place.results)
    assert len(expected) > 5 * len(CASES) and list(found) == list(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
