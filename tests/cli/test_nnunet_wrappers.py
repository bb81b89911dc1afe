"""Selection, ensembling, postprocessing and evaluation: nnU-Net's functions, on data whose results are known by hand.
"""

import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from cubes import DATASET, PLANS, cube, cube_with_speck, save_labels, save_probabilities, write_model_files
from nnunetv2.postprocessing.remove_connected_components import remove_all_but_largest_component_from_segmentation

from medsegdiff_auto.cli import apply_postprocessing, ensemble, evaluate, find_best_configuration
from medsegdiff_auto.cli.predict import command_parser
from medsegdiff_auto.selection.instructions import Sampling, inference_commands


def read(path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(path))


def four_lines(capsys) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and lines[0].startswith("error: ")
    return lines


def best(trained) -> dict:
    return json.loads((trained / "results" / DATASET /
                       "inference_information.json").read_text(encoding="utf-8"))["best_model_or_ensemble"]


def model_folder(trained, configuration="3d_fullres"):
    return trained / "results" / DATASET / f"nnUNetTrainerMedSegDiff__MedSegDiffPlans__{configuration}"


def test_the_ensemble_that_wins_is_reported_with_the_commands_that_predict_it(trained, threads_for_processes, capsys):
    assert find_best_configuration.main(["901", "-np", "1"]) == 0
    assert best(trained)["result_on_crossval_pre_pp"] == 1
    scores = json.loads(
        (trained / "results" / DATASET / "inference_information.json").read_text(encoding="utf-8"))["all_results"]
    assert sorted(scores.values()) == pytest.approx([2 / 3, 54 / 55, 1])
    lines = (trained / "results" / DATASET / "inference_instructions.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert lines[:3] == [
        f"medsegdiff_predict -i INPUT_FOLDER -o OUTPUT_FOLDER_MODEL_1 -d {DATASET} -c 2d -f 0 1 2 3 4 "
        "--save_probabilities",
        f"medsegdiff_predict -i INPUT_FOLDER -o OUTPUT_FOLDER_MODEL_2 -d {DATASET} -c 3d_fullres -f 0 1 2 3 4 "
        "--save_probabilities",
        "medsegdiff_ensemble -i OUTPUT_FOLDER_MODEL_1 OUTPUT_FOLDER_MODEL_2 -o OUTPUT_FOLDER"]
    assert lines[3].startswith("medsegdiff_apply_postprocessing -i OUTPUT_FOLDER -o OUTPUT_FOLDER_PP -pp_pkl_file ")
    printed = capsys.readouterr().out
    assert all(line in printed for line in lines) and "nnUNetv2" not in printed


@pytest.mark.parametrize("damage, what", [
    (lambda model: (model / "fold_3/validation/case_3.pkl").write_bytes(pickle.dumps(subprocess.run)), "subprocess"),
    (lambda model: (model / "plans.json").write_text(json.dumps(PLANS | {"image_reader_writer": "os"})), "'os'")])
def test_a_model_whose_files_would_run_code_takes_no_part_in_the_selection(trained, capsys, damage, what):
    damage(model_folder(trained))
    assert find_best_configuration.main(["901", "-np", "1"]) == 2
    assert what in four_lines(capsys)[1]


def test_the_chain_from_selection_to_evaluation_removes_the_speck_and_keeps_the_companions(
        trained, threads_for_processes, capsys):
    assert find_best_configuration.main(["901", "-c", "3d_fullres", "-np", "1"]) == 0
    assert best(trained)["result_on_crossval_pre_pp"] == pytest.approx(54 / 55)
    assert best(trained)["result_on_crossval_post_pp"] == 1
    predictions, postprocessed = trained / "predictions", trained / "postprocessed"
    write_model_files(predictions)
    save_labels(predictions / "case_0.nii.gz", cube_with_speck())
    save_labels(predictions / "case_0_uncertainty.nii.gz", np.full((8, 8, 8), 7, np.uint8))
    save_probabilities(predictions / "case_0", cube() * 1.0)
    (predictions / "cases.csv").write_text("case,structure,volume_ml,volume_ml_p05\ncase_0,organ,0.028,0.02\n")
    (predictions / "summary.json").write_text("{}")
    (predictions / "run.json").write_text('{"command": ["medsegdiff_predict", "-d", "901"]}')
    words = (trained / "results" / DATASET / "inference_instructions.txt").read_text(encoding="utf-8").split("\n")[-2]
    argv = words.replace("OUTPUT_FOLDER_PP", str(postprocessed)).replace("OUTPUT_FOLDER", str(predictions)).split()[1:]
    assert apply_postprocessing.main([*argv, "-np", "1"]) == 0
    np.testing.assert_array_equal(read(postprocessed / "case_0.nii.gz"), cube())
    np.testing.assert_array_equal(read(predictions / "case_0.nii.gz"), cube_with_speck())
    assert sorted(path.name for path in postprocessed.iterdir()) == [
        "case_0.nii.gz", "case_0_uncertainty.nii.gz", "cases.csv", "dataset.json", "plans.json", "run.json"]
    assert (read(postprocessed / "case_0_uncertainty.nii.gz") == 7).all()
    assert (postprocessed / "cases.csv").read_text(encoding="utf-8").split() == [
        "case,structure,volume_ml,volume_ml_p05", f"case_0,organ,{cube().sum() / 1000:g},0.02"]
    assert json.loads(
        (postprocessed / "run.json").read_text(encoding="utf-8"))["previous"] == [["medsegdiff_predict", "-d", "901"]]
    references = trained / "preprocessed" / DATASET / "gt_segmentations"
    files = ["-djfile", str(postprocessed / "dataset.json"), "-pfile", str(postprocessed / "plans.json"), "-np", "1"]
    assert evaluate.main([str(references), str(postprocessed), *files]) == 2
    assert "4 reference(s) have no prediction" in capsys.readouterr().err
    assert evaluate.main([str(references), str(postprocessed), *files, "--chill"]) == 0
    assert json.loads((postprocessed / "summary.json").read_text(encoding="utf-8"))["foreground_mean"]["Dice"] == 1
    assert "Mean foreground Dice: 1.0000" in capsys.readouterr().out


def test_without_a_flag_the_configurations_trained_in_all_folds_are_compared(trained, threads_for_processes, capsys):
    shutil.rmtree(model_folder(trained, "2d") / "fold_4")
    assert find_best_configuration.main([DATASET, "-np", "1", "-results", str(trained / "results")]) == 0
    assert best(trained)["selected_model_or_models"] == [
        {"configuration": "3d_fullres", "trainer": "nnUNetTrainerMedSegDiff", "plans_identifier": "MedSegDiffPlans"}]


def break_fold(trained, argv):
    (model_folder(trained) / "fold_2" / "validation" / "summary.json").unlink()


def break_all(trained, argv):
    for configuration in ("2d", "3d_fullres"):
        shutil.rmtree(model_folder(trained, configuration) / "fold_3")


def break_probabilities(trained, argv):
    (model_folder(trained, "2d") / "fold_1" / "validation" / "case_1.npz").unlink()


@pytest.mark.parametrize("damage, argv, what, found, fix", [
    (break_fold, ["901", "-c", "3d_fullres"], "3d_fullres is not validated in all folds", "folds 0, 1, 3, 4",
     "medsegdiff_train Dataset901_Cubes 3d_fullres 2, or compare on fewer folds: -f 0 1 3 4"),
    (break_all, ["901"], "No configuration is trained and validated in all folds", "2d: folds 0, 1, 2, 4; 3d_fullres: ",
     "medsegdiff_train Dataset901_Cubes 2d 3"),
    (break_probabilities, ["901"], "Ensembling needs the probabilities", "no .npz file in ",
     "medsegdiff_train Dataset901_Cubes 2d 1 --val --npz, or compare single models: --disable_ensembling"),
    (None, ["901", "-c", "3d_cascade_fullres"
            ], "have no configuration 3d_cascade_fullres", "3d_cascade_fullres", "with -c"),
    (None, ["901", "-c", "3d_lowres"], "3d_lowres is not validated", "no finished fold", "3d_lowres 0"),
    (None, ["901", "-p", "OtherPlans"], "has no plans OtherPlans", "OtherPlans.json", "-p"),
    (None, ["902"], "There is no dataset 902", "902", "did you mean Dataset901_Cubes"),
])
def test_what_selection_lacks_is_named_before_nnunet_starts(trained, capsys, damage, argv, what, found, fix):
    if damage:
        damage(trained, argv)
    assert find_best_configuration.main(argv) == 2
    lines = four_lines(capsys)
    assert what in lines[0] and found in lines[1]
    assert fix in lines[3] or argv == ["902"]


def prediction_folder(folder, foreground) -> str:
    write_model_files(folder)
    save_labels(folder / "case_0.nii.gz", (foreground > 0.5).astype(np.uint8))
    save_labels(folder / "case_0_samples.nii.gz", cube())
    save_probabilities(folder / "case_0", foreground)
    return str(folder)


def test_the_console_script_ensembles_to_the_mean_of_the_probabilities(tmp_path):
    folders = [
        prediction_folder(tmp_path / "a", 0.95 * cube()),
        prediction_folder(tmp_path / "b", 0.45 * cube_with_speck())
    ]
    program = "import sys; from medsegdiff_auto.cli.ensemble import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", program, "-i", *folders, "-o", tmp_path / "out", "--save_npz", "-np", "1"],
                   check=True, capture_output=True)
    np.testing.assert_array_equal(read(tmp_path / "out/case_0.nii.gz"), cube())
    foreground = np.load(tmp_path / "out/case_0.npz")["probabilities"][1]
    np.testing.assert_allclose([foreground[3, 3, 3], foreground[7, 7, 7]], [0.7, 0.225], rtol=1e-6)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "case_0.nii.gz", "case_0.npz", "case_0.pkl", "dataset.json", "plans.json", "run.json"]


@pytest.mark.parametrize("fusion, num_voxels", [("mean", 1), ("dice", int(cube().sum()))])
def test_an_ensemble_decoded_for_expected_dice_marks_a_faint_structure_that_the_mean_leaves_out(
        tmp_path, threads_for_processes, fusion, num_voxels):
    faint = np.where(cube() > 0, 0.45, 0.0)
    faint[tuple(np.argwhere(cube())[0])] = 0.8
    folders = [prediction_folder(tmp_path / name, faint) for name in ("a", "b")]
    assert ensemble.main(["-i", *folders, "-o", str(tmp_path / "out"), "--fusion", fusion, "-np", "1"]) == 0
    assert read(tmp_path / "out/case_0.nii.gz").sum() == num_voxels
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "case_0.nii.gz", "dataset.json", "plans.json", "run.json"
    ]


@pytest.mark.parametrize("damage, what", [
    (lambda a, b:
     (b / "case_0.npz").rename(b / "case_1.npz") and (b / "case_0.pkl").rename(b / "case_1.pkl"), "lacks cases"),
    (lambda a, b: (b / "case_0.npz").unlink(), "holds no probabilities"),
    (lambda a, b: shutil.rmtree(b), "does not exist"),
    (lambda a, b: (a / "plans.json").unlink(), "has no plans.json"),
])
def test_folders_that_cannot_be_ensembled_are_refused(tmp_path, capsys, damage, what):
    folders = [prediction_folder(tmp_path / name, 0.9 * cube()) for name in "ab"]
    damage(tmp_path / "a", tmp_path / "b")
    assert ensemble.main(["-i", *folders, "-o", str(tmp_path / "out")]) == 2
    assert what in four_lines(capsys)[0] and not (tmp_path / "out").exists()


def test_a_postprocessing_file_that_would_run_code_is_refused(tmp_path, capsys):
    folder = prediction_folder(tmp_path / "a", 0.9 * cube())
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(([subprocess.run], [{}])))
    assert apply_postprocessing.main(
        ["-i", folder, "-o", str(tmp_path / "out"), "-pp_pkl_file",
         str(tmp_path / "evil.pkl")]) == 2
    assert "subprocess.run" in four_lines(capsys)[1] and not (tmp_path / "out").exists()


STEP = remove_all_but_largest_component_from_segmentation


@pytest.mark.parametrize("content", [
    5, [1, 2, 3], (["step"], [{}]), ([STEP], []), ([STEP], [{"other": 1}]), ([STEP], [[1]]),
    ([STEP], [{"labels_or_regions": "1"}])])
def test_a_postprocessing_file_of_another_content_is_refused(tmp_path, capsys, content):
    folder = prediction_folder(tmp_path / "a", 0.9 * cube())
    (tmp_path / "odd.pkl").write_bytes(pickle.dumps(content))
    arguments = ["-i", folder, "-o", str(tmp_path / "out"), "-pp_pkl_file", str(tmp_path / "odd.pkl")]
    assert apply_postprocessing.main(arguments) == 2
    assert "is no postprocessing of nnU-Net" in four_lines(capsys)[0] and not (tmp_path / "out").exists()


def test_a_dotted_name_in_a_postprocessing_file_leads_nowhere(tmp_path, capsys):
    folder = prediction_folder(tmp_path / "a", 0.9 * cube())
    name = f"{STEP.__name__}.__globals__".encode()
    (tmp_path / "evil.pkl").write_bytes(
        b"".join([b"\x80\x04", *(b"\x8c" + bytes([len(word)]) + word for word in (STEP.__module__.encode(), name)),
                  b"\x93."]))
    arguments = ["-i", folder, "-o", str(tmp_path / "out"), "-pp_pkl_file", str(tmp_path / "evil.pkl")]
    assert apply_postprocessing.main(arguments) == 2
    assert "__globals__" in four_lines(capsys)[1] and not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage, line, what", [
    (lambda a: (a / "case_0.pkl").write_bytes(pickle.dumps(subprocess.run)), 1, "a reference to subprocess.run"),
    (lambda a: save_probabilities(a / "case_0", np.full(cube().shape, np.nan)), 1, "NaN or infinite values"),
    (lambda a: (a / "case_0.npz").write_bytes(b"PK"), 0, "case_0.npz holds no probabilities"),
    (lambda a: (a / "plans.json").write_text(json.dumps(PLANS | {"label_manager": "np"})), 1, "label_manager: 'np'")])
@pytest.mark.parametrize("fusion", ["mean", "dice"])
def test_an_ensemble_of_what_runs_code_or_is_no_number_is_refused(tmp_path, capsys, damage, line, what, fusion):
    folders = [prediction_folder(tmp_path / name, 0.9 * cube()) for name in "ab"]
    damage(tmp_path / "a")
    assert ensemble.main(["-i", *folders, "-o", str(tmp_path / "out"), "--fusion", fusion, "-np", "1"]) == 2
    assert what in four_lines(capsys)[line] and not (tmp_path / "out").exists()


@pytest.mark.parametrize("argv, what", [
    (["-i", "missing", "-o", "out", "-pp_pkl_file", "x"], "prediction folder does not exist"),
    (["-i", "a", "-o", "a", "-pp_pkl_file", "x"], "output folder is the input folder"),
    (["-i", "a", "-o", "out", "-pp_pkl_file", "x"], "postprocessing file does not exist"),
    (["-i", "a", "-o", "out", "-pp_pkl_file", "x", "-plans_json", "none.json"], "none.json cannot be read"),
])
def test_what_postprocessing_lacks_is_named_in_four_lines(tmp_path, monkeypatch, capsys, argv, what):
    monkeypatch.chdir(tmp_path)
    prediction_folder(tmp_path / "a", 0.9 * cube())
    assert apply_postprocessing.main(argv) == 2
    assert what in four_lines(capsys)[0]


def test_the_table_of_means_shows_what_was_measured():
    means = {"organ": {"dice": 0.5, "hd95_mm": 12.25, "ece": None}, "tumour core": {"dice": 0.875, "hd95_mm": None}}
    assert evaluate.means_table(means).splitlines() == [
        "structure      dice  hd95_mm", "organ        0.5000  12.2500", "tumour core  0.8750        -"]




def information(model: dict) -> dict:
    return {
        "folds": [0, 1], "best_model_or_ensemble": {
            "selected_model_or_models": [model], "postprocessing_file": "/m/postprocessing.pkl",
            "some_plans_file": "/m/plans.json"
        }
    }


def test_a_cascade_is_predicted_after_its_first_stage_and_plain_nnunet_by_its_own_command(tmp_path):
    cascade = {
        "trainer": "nnUNetTrainerMedSegDiff", "plans_identifier": "MyPlans", "configuration": "3d_cascade_fullres"
    }
    configurations = {"3d_lowres": {}, "3d_cascade_fullres": {"previous_stage": "3d_lowres"}, "2d": {}}
    for name in configurations:
        for trainer in ("nnUNetTrainerMedSegDiff", "nnUNetTrainer"):
            folder = tmp_path / DATASET / f"{trainer}__MyPlans__{name}"
            folder.mkdir(parents=True)
            (folder / "plans.json").write_text(json.dumps({"configurations": configurations}))
    first, second, last = inference_commands(information(cascade), tmp_path / DATASET)
    assert " ".join(first) == ("medsegdiff_predict -i INPUT_FOLDER -o OUTPUT_FOLDER_PREVIOUS_STAGE "
                               f"-d {DATASET} -c 3d_lowres -f 0 1 -p MyPlans")
    assert " ".join(second) == (
        f"medsegdiff_predict -i INPUT_FOLDER -o OUTPUT_FOLDER -d {DATASET} -c 3d_cascade_fullres -f 0 1 "
        "-prev_stage_predictions OUTPUT_FOLDER_PREVIOUS_STAGE -p MyPlans")
    assert last[-2:] == ["-dataset_json", "/m/dataset.json"]
    plain = {"trainer": "nnUNetTrainer", "plans_identifier": "MyPlans", "configuration": "2d"}
    assert " ".join(inference_commands(information(plain), tmp_path / DATASET)[0]) == (
        f"nnUNetv2_predict -i INPUT_FOLDER -o OUTPUT_FOLDER -d {DATASET} -c 2d -f 0 1 -tr nnUNetTrainer -p MyPlans")


def test_a_chosen_sampling_is_written_as_flags_that_the_predict_command_reads(tmp_path):
    model = {"trainer": "nnUNetTrainerMedSegDiff", "plans_identifier": "MedSegDiffPlans", "configuration": "2d"}
    write_model_files(tmp_path / DATASET / "nnUNetTrainerMedSegDiff__MedSegDiffPlans__2d")
    sampling = Sampling(5, 2, "staple", 1.4142, 7, "/m/selection/postprocessing.pkl")
    predict, postprocess = inference_commands(information(model), tmp_path / DATASET, sampling)
    args = command_parser().parse_args(predict[1:])
    assert (args.samples, args.steps, args.fusion, args.temperature, args.seed) == (5, 2, "staple", 1.4142, 7)
    assert (args.d, args.c, args.f) == (DATASET, "2d", ["0", "1"])
    assert postprocess[postprocess.index("-pp_pkl_file") + 1] == "/m/selection/postprocessing.pkl"
