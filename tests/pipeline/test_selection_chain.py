"""Samples are stored once, chosen from without a network, and predicted exactly so."""

import json
import shlex

import numpy as np
import pytest
import SimpleITK as sitk
from chain import FOLDS, command

from medsegdiff_auto.selection.stored_samples import read_stored_case, samples_folder
from medsegdiff_auto.nnunet.postprocessing_steps import load_postprocessing
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor

STORE = "store_samples -d 902 -c 2d -f 0 1 -device cpu --samples 2"
FIND = "find_best_configuration 902 -c 2d -f 0 1 -np 1"


def volume(file) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


@pytest.fixture(scope="module")
def stored(chain_2d, folders):
    folders(chain_2d.root)
    assert command(STORE) == 0
    return chain_2d


def test_what_is_stored_for_n_samples_is_what_a_prediction_with_n_samples_writes(stored, folders, tmp_path):
    case = json.loads((stored.preprocessed / "splits_final.json").read_text(encoding="utf-8"))[1]["val"][0]
    (tmp_path / "images").mkdir()
    for file in (stored.raw / "imagesTr").glob(f"{case}_*"):
        (tmp_path / "images" / file.name).symlink_to(file)
    kept = read_stored_case(samples_folder(stored.model, 1, 1) / f"{case}.npz")
    for n in (1, 2):
        line = f"predict -i {{0}} -o {{1}} -d 902 -c 2d -f 1 -device cpu --samples {n} --save_samples"
        assert command(line, tmp_path / "images", tmp_path / str(n)) == 0
        np.testing.assert_array_equal(kept.means[n - 1].squeeze(),
                                      volume(tmp_path / str(n) / f"{case}.nii.gz").squeeze())
        np.testing.assert_array_equal(kept.samples[:n].squeeze(),
                                      volume(tmp_path / str(n) / f"{case}_samples.nii.gz").squeeze())


def test_the_choice_needs_no_network_and_its_commands_predict_it(stored, folders, tmp_path, monkeypatch, capsys):
    folders(stored.root)
    with monkeypatch.context() as patch:
        patch.setattr(MedSegDiffPredictor, "draw_case", lambda *_: pytest.fail("the choice drew samples"))
        assert command(FIND) == 0
    printed = capsys.readouterr().out
    chosen = stored.model / "selection_folds_0_1"
    choice = json.loads((chosen / "choice.json").read_text(encoding="utf-8"))
    candidate = choice["choice"]["candidate"]
    assert len(choice["candidates"]) == 3 and set(choice["held_out"]) == {str(fold) for fold in FOLDS}
    best = max(entry["score"] for entry in choice["candidates"])
    assert next(e for e in choice["candidates"]
                if all(e[key] == candidate[key] for key in candidate))["score"] == pytest.approx(best, abs=1e-6)
    predict, postprocess = (stored.model.parent /
                            "inference_instructions.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert (f"--samples {candidate['num_samples']} --steps {candidate['num_steps']} --fusion {candidate['fusion']} "
            f"--temperature {choice['choice']['temperature']:g}") in predict and predict in printed
    assert str(chosen / "postprocessing.pkl") in postprocess
    assert len(load_postprocessing(chosen / "postprocessing.pkl")[0]) == len(choice["choice"]["postprocessing"])
    for line in (predict + " -device cpu", postprocess):
        line = line.removeprefix("medsegdiff_").replace("OUTPUT_FOLDER_PP", shlex.quote(str(tmp_path / "pp")))
        line = line.replace("OUTPUT_FOLDER", str(tmp_path / "out")).replace("INPUT_FOLDER",
                                                                            str(stored.raw / "imagesTs"))
        assert command(line) == 0
    options = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert (options["samples_per_fold"], options["steps"]) == (candidate["num_samples"], candidate["num_steps"])
    assert options["temperature"] == pytest.approx(choice["choice"]["temperature"])
    assert all((tmp_path / "pp" / f"{case}.nii.gz").is_file() for case in stored.cases)


def test_samples_that_are_there_are_not_drawn_again_and_those_of_another_fit_are_refused(
        stored, folders, monkeypatch, capsys):
    folders(stored.root)
    with monkeypatch.context() as patch:
        patch.setattr(MedSegDiffPredictor, "draw_case", lambda *_: pytest.fail("drawn again"))
        assert command(STORE) == 0
    settings = samples_folder(stored.model, 1, 1) / "settings.json"
    before = settings.read_text(encoding="utf-8")
    settings.write_text(before.replace('"dispersion": 1.0', '"dispersion": 1.5'))
    assert command(FIND) == 2
    error = capsys.readouterr().err
    assert "another dispersion" in error
    assert "fix:      medsegdiff_store_samples -d Dataset902_Chain -c 2d -f 0 1" in error
    settings.write_text(before)
