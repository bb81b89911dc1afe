"""Two or three command lines of every command, as its help shows them: without the name of the command."""

CONVERT = "medsegdiff_convert"
OF_NEW_IMAGES = ("-i new_images -o taken --like nnUNet_raw/Dataset120_MyOrgan",
                 "-i new_images -o taken --like nnUNet_raw/Dataset120_MyOrgan --images '{case}_{channel}' "
                 "--channels T1 FLAIR")
OF_A_SOURCE = ("-i SOURCE_FOLDER -d 120", "-i SOURCE_FOLDER -d 120 -o nnUNet_raw --overwrite")

_BEST = "model_folder/crossval_results_folds_0_1_2_3_4"

EXAMPLES = {
    "medsegdiff_run": ("-i my_images_and_masks -o my_model --new new_images",
                       "-i my_images_and_masks -o my_model --hours 12 --patient '^(P[0-9]+)_'",
                       "-i nnUNet_raw/Dataset902_Phantoms -o my_model --dry_run"),
    "medsegdiff_demo": ("", "-o my_demo --dimension 2", "-o my_demo --dimension 2 --overwrite"),
    "medsegdiff_phantoms": ("-d 901", "-d 902 --dimension 2 --cases 60", "-d 903 --regions --structures 3 --raters 4"),
    CONVERT: ("--list", "folder -i my_images_and_masks -d 120 --name MyOrgan",
              "brats -i BraTS2021 -d 137 -o nnUNet_raw"),
    "medsegdiff_plan_and_preprocess": ("-d 902", "-d 902 -c 2d --resources cpu"),
    "medsegdiff_train": ("902 2d 0", "902 2d 0 --max_hours 2 -device cpu", "902 2d 0 --c auto"),
    "medsegdiff_predict": ("-i images -o predictions -d 902 -c 2d",
                           "-i images -o predictions -m model_folder --save_uncertainty --save_samples",
                           "-i images -o predictions -d 902 -c 2d --speed fast -device cpu"),
    "medsegdiff_find_best_configuration": ("902", "902 -c 2d 3d_fullres -f 0 1 2"),
    "medsegdiff_ensemble": ("-i predictions_2d predictions_3d -o ensembled",
                            "-i predictions_2d predictions_3d -o ensembled --save_npz --fusion dice"),
    "medsegdiff_apply_postprocessing": (
        "-i predictions -o final -pp_pkl_file postprocessing.pkl",
        f"-i predictions -o final -pp_pkl_file {_BEST}/postprocessing.pkl -plans_json {_BEST}/plans.json"),
    "medsegdiff_evaluate": (
        "labelsTs predictions -djfile predictions/dataset.json -pfile predictions/plans.json",
        "labelsTs predictions -djfile predictions/dataset.json -pfile predictions/plans.json --raters rater_2 rater_3"),
    "medsegdiff_audit": ("-d 902 -c 2d", "-d 902 -c 2d -f 1 --cases 5 --samples 8"),
    "medsegdiff_explain": ("-d 902 -c 2d", "-d 902 -c 2d -f 1 --case CASE -o explained"),
    "medsegdiff_learn": ("", "-o lessons"),
    "medsegdiff_calibrate": ("-d 902 -c 2d -f 0 1 2 3 4", "-d 902 -c 2d --cases 10 -device cpu"),
    "medsegdiff_store_samples": ("-d 902 -c 2d", "-d 902 -c 2d -f 0 --samples 16 --steps 1 2"),
    "medsegdiff_report": ("-d 902 -c 2d", "-m model_folder -p predictions --references labelsTs --images imagesTs"),
    "medsegdiff_crossval": ("902 -c 2d --against nnunet nnunet_adamw",
                            "902 -c 2d --iterations 1000 --local 2 -device cpu",
                            "902 -c 3d_fullres --slurm '--time=24:00:00 --gres=gpu:1'"),
    "medsegdiff_compare": ("auto=predictions nnunet=nnunet_predictions -ref labelsTs -o compared",
                           "a=first b=second -ref labelsTs -o compared --reference b"),
    "medsegdiff_export": ("-m model_folder -o model.zip",
                          "-m model_folder -o model.zip --weights_licence CC-BY-4.0 --citation 'Us 2026'"),
    "medsegdiff_import": ("model.zip", "model.zip -o model_folder"),
    "medsegdiff_doctor": ("", "--json"),
    "medsegdiff_info": ("", "--json"),
}


def examples_of(program: str) -> tuple[str, ...]:
    """Those of a command, or of a source of ``medsegdiff_convert``; empty for any other program."""
    if program == f"{CONVERT} images":
        return OF_NEW_IMAGES
    return EXAMPLES.get(program, OF_A_SOURCE if program.startswith(f"{CONVERT} ") else ())
