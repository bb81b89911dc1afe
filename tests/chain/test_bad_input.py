"""What cannot become a model is refused in four lines before anything is written."""

import shutil

import numpy as np
import pytest
from skimage.io import imsave

from medsegdiff_auto.cli.run import main
from medsegdiff_auto.phantoms.nnunet_dataset import write_phantom_dataset
from medsegdiff_auto.phantoms.phantom import PhantomKind


@pytest.fixture
def mine(tmp_path):
    """Three pairs of grey pictures, and one to predict."""
    generator = np.random.default_rng(0)
    for folder in ("mine/images", "mine/masks", "new"):
        (tmp_path / folder).mkdir(parents=True)
    for case in "abc":
        imsave(tmp_path / "mine" / "images" / f"{case}.png", generator.integers(0, 255, (8, 8), np.uint8),
               check_contrast=False)
        imsave(tmp_path / "mine" / "masks" / f"{case}.png", np.eye(8, dtype=np.uint8), check_contrast=False)
    imsave(tmp_path / "new" / "d.png", generator.integers(0, 255, (8, 8), np.uint8), check_contrast=False)
    return tmp_path / "mine"


def refused(capsys, *words) -> list[str]:
    """The four lines of a refusal."""
    capsys.readouterr()
    assert main(["-device", "cpu", *map(str, words)]) == 2
    lines = capsys.readouterr().err.splitlines()
    errors = lines[next(number for number, line in enumerate(lines) if line.startswith("error: ")):]
    assert len(errors) == 4, lines
    return errors


def no_masks(mine):
    for file in (mine / "masks").iterdir():
        file.rename(file.with_name(f"other_{file.name}"))


def one_pair(mine):
    for case in "bc":
        (mine / "images" / f"{case}.png").unlink()
        (mine / "masks" / f"{case}.png").unlink()


def volumes_to_predict(mine):
    (mine.parent / "new" / "d.png").rename(mine.parent / "new" / "d.nii.gz")


def nothing_to_predict(mine):
    (mine.parent / "new" / "d.png").unlink()


def too_many_folds(mine):
    return ["-f", "3"]


@pytest.mark.parametrize("spoil, words", [
    (no_masks, "No image has the name of a mask"), (one_pair, "One patient cannot be divided"),
    (volumes_to_predict, "no new image that the model can take"),
    (nothing_to_predict, "no new image that the model can take"), (too_many_folds, "do not allow so many folds")])
def test_a_folder_that_cannot_be_learned_from_or_predicted_is_refused(mine, tmp_path, capsys, spoil, words):
    flags = spoil(mine) or []
    before = sorted(tmp_path.rglob("*"))
    assert words in refused(capsys, "-i", mine, "-o", tmp_path / "out", "--new", tmp_path / "new", *flags)[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_patients_are_counted_as_the_flag_finds_them(mine, tmp_path, capsys):
    assert "One patient" in refused(capsys, "-i", mine, "-o", tmp_path / "out", "--patient", "^()")[0]


def test_a_folder_that_holds_something_else_stays_as_it_is(mine, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("mine")
    for flag in ([], ["--overwrite"]):
        assert "holds something else" in refused(capsys, "-i", mine, "-o", tmp_path / "out", *flag)[0]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious.txt"]


@pytest.mark.parametrize("out", [".", "images/out", ".."])
def test_the_output_is_not_in_the_input_nor_around_it(mine, capsys, out):
    assert "lie in each other" in refused(capsys, "-i", mine, "-o", mine / out)[0]


def test_a_raw_dataset_is_taken_with_its_own_test_images_and_refused_with_others(tmp_path, capsys, mine):
    raw = write_phantom_dataset(tmp_path / "raw", 902, "P", (5, 1), PhantomKind(2, shape=(24, 24)))
    assert main(["-i", str(raw), "-o", str(tmp_path / "out"), "-device", "cpu", "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert "folds 0 1 2 3 4" in out and f"export nnUNet_raw={tmp_path / 'raw'}" in out
    assert "medsegdiff_convert" not in out
    assert f"medsegdiff_evaluate {raw / 'labelsTs'}" in out and f"--posterior {raw / 'posterior'}" in out
    assert not (tmp_path / "out").exists()
    lines = refused(capsys, "-i", raw, "-o", tmp_path / "out", "--new", tmp_path / "new")
    assert "holds no image that the model can read" in lines[0]


def test_a_raw_dataset_of_too_few_cases_says_what_it_needs(tmp_path, capsys):
    raw = write_phantom_dataset(tmp_path / "raw", 902, "P", (3, 1), PhantomKind(2, shape=(24, 24)))
    assert "splits_final.json" in refused(capsys, "-i", raw, "-o", tmp_path / "out")[2]


def test_what_a_folder_needs_to_be_converted_is_said_again_in_its_command(mine, tmp_path, capsys):
    (mine / "masks").rename(mine / "experts")
    for rater in ("one", "two"):
        (mine / "masks" / rater).mkdir(parents=True)
        for file in (mine / "experts").iterdir():
            (mine / "masks" / rater / file.name).write_bytes(file.read_bytes())
    shutil.rmtree(mine / "experts")
    words = ["-i", str(mine), "-o", str(tmp_path / "out"), "-device", "cpu", "-np", "1", "--hours", "3", "--dry_run"]
    assert main([*words, "--masks", "masks/{rater}/{case}", "--raters", "--name", "Eye"]) == 0
    out = capsys.readouterr().out
    assert f"convert folder -i {mine} -d 1 --name Eye --masks 'masks/{{rater}}/{{case}}' --raters -np 1" in out
    assert "folds 0 1 2, on cpu" in out and "medsegdiff_train 1 2d 2 " in out and "--max_hours 1\n" in out
