"""What ``medsegdiff_calibrate`` fits is what later predictions use."""

import json
import os
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from chain import command

from medsegdiff_auto.decision.fitted_sampling import FILE
from medsegdiff_auto.files.provenance import checksum
from medsegdiff_auto.inference.model import load_model
from medsegdiff_auto.locks import alone
from medsegdiff_auto.decision.temperature import at_temperature
from medsegdiff_auto.nnunet.structures import structures_of
from medsegdiff_auto.writing import read_table

LINE = "calibrate -d 902 -c 2d -f 0 -device cpu --cases 1 --samples 2"


def volume(file) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


@pytest.fixture
def fitted_file(chain_2d, folders):
    """Where the fit is written; gone again afterwards."""
    folders(chain_2d.root)
    file = chain_2d.model / FILE
    yield file
    file.unlink(missing_ok=True)


def test_predictions_use_the_fit_and_say_so(chain_2d, fitted_file, tmp_path, capsys):
    assert command(LINE) == 0
    fitted = json.loads(fitted_file.read_text(encoding="utf-8"))
    printed = capsys.readouterr().out
    assert f"{fitted['dispersion']:.3f}" in printed and fitted["num_cases"] == 1
    checkpoint = "fold_0/checkpoint_final.pth"
    assert fitted["checkpoints"] == {checkpoint: checksum(chain_2d.model / checkpoint)}
    fitted_file.write_text(json.dumps(fitted | {"dispersion": 5.0, "conditioner_weight": 0.25}))
    assert fitted["temperature"] == 1.0 and "at least 2 cases" in printed
    diffusion = load_model(chain_2d.model, [0]).diffusion
    assert (diffusion.sampling.dispersion, diffusion.sampling.conditioner_weight,
            diffusion.sampling.num_steps) == (5.0, 0.25, 1)
    assert load_model(chain_2d.model, [0], use_fitted=False).diffusion.sampling.dispersion == 1.0

    def cases_csv(name: str) -> str:
        assert command("predict -i {0} -o {1} -d 902 -c 2d -f 0 -device cpu --samples 3",
                       chain_2d.raw / "imagesTs", tmp_path / name) == 0
        return (tmp_path / name / "cases.csv").read_text(encoding="utf-8")

    with_fit = cases_csv("fitted")
    fitted_file.unlink()
    assert with_fit != cases_csv("planned")


def test_a_fitted_temperature_softens_the_probabilities_and_leaves_every_label(chain_2d, fitted_file, tmp_path):
    line = "predict -i {0} -o {1} -d 902 -c 2d -f 0 -device cpu --samples 2 --save_probabilities"
    assert command(LINE.replace("--cases 1", "--cases 2")) == 0
    fitted = json.loads(fitted_file.read_text(encoding="utf-8"))
    assert fitted["num_cases"] == 2 and 0.5 <= fitted["temperature"] <= 4
    for name, temperature in (("plain", 1.0), ("soft", 2.0)):
        fitted_file.write_text(json.dumps(fitted | {"temperature": temperature}))
        assert command(line, chain_2d.raw / "imagesTs", tmp_path / name) == 0
    assert json.loads((tmp_path / "soft" / "run.json").read_text(encoding="utf-8"))["temperature"] == 2.0
    for case in chain_2d.cases:
        plain, soft = (volume(tmp_path / name / f"{case}_probabilities.nii.gz") for name in ("plain", "soft"))
        np.testing.assert_allclose(soft, at_temperature(plain, 2.0, regions=True), atol=1e-5)
        assert np.abs(soft - plain).max() > 0.01
        np.testing.assert_array_equal(*(volume(tmp_path / name / f"{case}.nii.gz") for name in ("plain", "soft")))


def test_a_fitted_quality_is_what_predictions_expect_of_their_masks(chain_2d, fitted_file, tmp_path, capsys):
    assert command(LINE) == 0
    assert "at least 10 cases" in capsys.readouterr().out
    fitted = json.loads(fitted_file.read_text(encoding="utf-8"))
    names = structures_of(json.loads((chain_2d.raw / "dataset.json").read_text(encoding="utf-8")))
    quality = {"intercepts": {names[0].name: 0.2}, "doubt": -0.1, "size": 0.01, "margin": 0.05, "correlation": 0.5,
               "error": 0.1, "error_of_samples": 0.2, "num_cases": 10}
    fitted_file.write_text(json.dumps(fitted | {"quality": quality, "temperature": 1.5}))
    assert command("predict -i {0} -o {1} -d 902 -c 2d -f 0 -device cpu --samples 2 --save_probabilities "
                   "--flag_below 0.5", chain_2d.raw / "imagesTs", tmp_path / "out") == 0
    assert "no estimate" in capsys.readouterr().err  # of the structure that the fit does not know
    assert command("predict -i {0} -o {1} -d 902 -c 2d -f 0 -device cpu --samples 2 --steps 1 --temperature 3",
                   chain_2d.raw / "imagesTs", tmp_path / "hot") == 0
    estimated = [[float(row["expected_dice"]) for row in read_table(tmp_path / name / "cases.csv")
                  if row["estimate"] == "fitted"] for name in ("out", "hot")]
    assert estimated[0] == pytest.approx(estimated[1], abs=2e-3)  # of the fitted temperature, whatever the map has
    for row in read_table(tmp_path / "out" / "cases.csv"):
        if row["structure"] != names[0].name:
            assert (row["estimate"], row["expected_dice_low"]) == ("samples", "")
            continue
        mask = names[0].mask(volume(tmp_path / "out" / f"{row['case']}.nii.gz"))
        p = volume(tmp_path / "out" / f"{row['case']}_probabilities.nii.gz")[names[0].channel]
        if not mask.any():
            assert row["estimate"] == "samples"
            continue
        soft = 2 * p[mask].sum() / (mask.sum() + p.sum())
        expected = 0.2 - 0.1 * np.log(1 - soft) + 0.01 * np.log(float(row["area_mm2"]))
        assert float(row["expected_dice"]) == pytest.approx(expected, abs=2e-3)
        assert float(row["expected_dice_low"]) == pytest.approx(expected - 0.05, abs=2e-3)
        assert row["estimate"] == "fitted" and (float(row["expected_dice"]) < 0.5) == (row["flagged"] == "yes")


def test_a_damaged_fit_stops_a_prediction_with_its_name(chain_2d, fitted_file, tmp_path, capsys):
    fitted_file.write_text("{}")
    assert command("predict -i {0} -o {1} -d 902 -c 2d -f 0 -device cpu", chain_2d.raw / "imagesTs",
                   tmp_path / "out") == 2
    assert str(fitted_file) in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_one_sample_cannot_be_calibrated(chain_2d, fitted_file, capsys):
    assert command(LINE.replace("--samples 2", "--samples 1")) == 2
    assert "--samples must be at least 2" in capsys.readouterr().err and not fitted_file.exists()


@pytest.mark.parametrize("line, work", [(LINE, "calibrated"),
                                        ("store_samples -d 902 -c 2d -f 0 -device cpu --samples 2", "sampled")])
def test_a_second_command_names_the_first_and_the_lock_of_a_killed_one_holds_nobody(
        chain_2d, fitted_file, capsys, line, work):
    with alone(chain_2d.model / f".{work}.lock"):
        assert command(line) == 2
    said = capsys.readouterr().err
    assert f"{chain_2d.model} is being {work} by another command" in said and f"process {os.getpid()} on" in said
    assert not fitted_file.exists() and not (chain_2d.model / "fold_0" / "samples").exists()
    (chain_2d.model / f".{work}.lock").write_text("process 1 on another-host")
    assert command(line + " --seed 5") == 0
    assert not (chain_2d.model / f".{work}.lock").exists()
    shutil.rmtree(chain_2d.model / "fold_0" / "samples", ignore_errors=True)
