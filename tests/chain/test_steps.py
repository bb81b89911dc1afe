"""The hours are shared by the trainings that are left, and words come out as they have to be typed."""

import shlex
from dataclasses import replace

import pytest

from medsegdiff_auto.chain import steps
from medsegdiff_auto.chain.conclusion import calibration_words
from medsegdiff_auto.chain.place import Place
from medsegdiff_auto.chain.statement import iterations_in, statement, with_hours
from medsegdiff_auto.chain.steps import Chain, hours_of_a_training, steps_of
from medsegdiff_auto.crossval.request import Request
from medsegdiff_auto.decision.fitted_sampling import FittedSampling
from medsegdiff_auto.selection.instructions import with_folders


@pytest.fixture
def chain(tmp_path) -> Chain:
    """Three folds that nobody has trained, in a folder with a space in its name."""
    place = Place(tmp_path / "my out", tmp_path / "my out" / "nnUNet_raw", "Dataset001_Mine")
    return Chain(place, Request("Dataset001_Mine", *place.of_dataset(), ("2d",), folds=(0, 1, 2), device="cpu"),
                 images=place.new_images, hours=6.0)


@pytest.mark.parametrize("taken, share", [({}, 2.0), ({0: 3.0}, 1.5), ({0: 1.0, 1: 1.0}, 4.0),
                                          ({0: 3.0, 1: 3.1}, steps.SHORTEST_HOURS)])
def test_a_training_has_its_share_of_the_hours_that_the_others_have_left(chain, monkeypatch, taken, share):
    monkeypatch.setattr(steps, "is_trained", lambda request, method, configuration, fold: fold in taken)
    monkeypatch.setattr(steps, "load_safely", lambda file: {"hours": taken[int(file.parent.name[-1])]})
    assert hours_of_a_training(chain) == pytest.approx(share)
    command = steps_of(chain)["train/auto/2d/fold_2"].command
    assert command[command.index("--max_hours") + 1] == f"{share:.4g}"


def test_the_clock_ends_a_training_before_its_iterations_do(chain, monkeypatch):
    monkeypatch.setattr("medsegdiff_auto.chain.pace.known_pace", lambda chain, configuration: 0.5)
    assert iterations_in(2.0, 0.5) == 1.25 * 2 * 3600 / 0.5
    assert iterations_in(2.0, 0.001) is None  # nnU-Net's own length is shorter
    assert with_hours(chain).training.iterations == iterations_in(2.0, 0.5)
    command = steps_of(with_hours(chain))["train/auto/2d/fold_0"].command
    assert command[command.index("--iterations") + 1] == "18000"


def test_the_statement_names_hours_and_commands_that_a_shell_reads(chain):
    words = statement(chain, steps_of(chain))
    line = next(line for line in words.splitlines() if "medsegdiff_predict" in line)
    assert shlex.split(line)[:5] == ["medsegdiff_predict", "-i", str(chain.images), "-o",
                                     str(chain.place.predictions[0])]
    assert "train/auto/2d/fold_0: 2.00 h" in words and "--hours 6 is shared" in words
    assert "6.0 h one after the other" in words


def test_of_several_configurations_nothing_is_predicted_before_one_is_chosen(chain):
    several = replace(chain, training=replace(chain.training, configurations=("2d", "3d_fullres")))
    names = list(steps_of(several))
    assert "choose" in names and not any(name.startswith("predict") for name in names)


def test_what_the_cases_are_too_few_for_is_said():
    few = FittedSampling(1.0, 0.5, 8, 1, 4, 0.8, 0.8)
    assert calibration_words(few).startswith("on 4 cases; too few for intervals of volumes and expected Dice")
    assert "nothing" in calibration_words(None)


def test_the_places_of_folders_in_a_command_take_real_ones(tmp_path):
    words = shlex.split("medsegdiff_ensemble -i OUTPUT_FOLDER_MODEL_1 INPUT_FOLDER -o OUTPUT_FOLDER OUTPUT_FOLDER_PP")
    assert with_folders(words, tmp_path / "new", tmp_path / "plain", tmp_path / "final") == [
        "medsegdiff_ensemble", "-i", f"{tmp_path}/plain_MODEL_1", str(tmp_path / "new"), "-o", str(tmp_path / "plain"),
        str(tmp_path / "final")]
