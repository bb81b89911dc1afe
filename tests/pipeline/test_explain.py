"""A trained model explained on a validation case, by the command that a user types."""

import base64
import json
import re

import numpy as np
import pytest
import torch
from chain import command

from medsegdiff_auto.explanation.case import noise_at, read_tile, read_validation_case
from medsegdiff_auto.explanation.record import draw
from medsegdiff_auto.inference.model import load_model
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions
from medsegdiff_auto.sampling.seeds import noise_volume

PICTURES = ["filters", "attention", "latent", "samples"]


def dataset_id(chain) -> int:
    return int(chain.dataset[7:10])


def validation_cases(chain, fold: int) -> list[str]:
    return json.loads((chain.preprocessed / "splits_final.json").read_text(encoding="utf-8"))[fold]["val"]


@pytest.fixture
def model(chain):
    """The first fold of the chain's model, its averaged weights in its network."""
    model = load_model(chain.model, [0])
    model.network.load_state_dict(model.fold_weights[0])
    return model


def test_the_page_of_the_first_validation_case_lies_in_the_model_folder(chain):
    line = f"explain -d {dataset_id(chain)} -c {chain.configuration} -f 0 --samples 2 -device cpu"
    assert command(line) == 0
    case = validation_cases(chain, 0)[0]
    folder = chain.model / "fold_0" / "explained" / case
    html = (folder / "explained.html").read_text(encoding="utf-8")
    assert case in html and "://" not in html and "<script" not in html
    embedded = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]*)", html)]
    assert embedded == [(folder / f"{name}.png").read_bytes() for name in PICTURES]
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert run["command"][:3] == ["medsegdiff_explain", "-d", str(dataset_id(chain))] and run["case"] == case
    assert run["previous"][-1][0] == "medsegdiff_train"


def test_a_named_case_goes_to_the_folder_of_the_user(chain, tmp_path):
    case = validation_cases(chain, 1)[-1]
    assert command(f"explain -d {dataset_id(chain)} -c {chain.configuration} -f 1 --case {case} --samples 1 --steps 1 "
                   "-device cpu -o {0}", tmp_path / "out") == 0
    assert case in (tmp_path / "out" / "explained.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("option, named", [("--case phantom_999", "Fold 0 does not validate"),
                                           ("--samples 0", "--samples"), ("--steps 0", "--steps"), ("-f 4", "fold_4")])
def test_a_wish_that_cannot_be_met_is_refused_in_four_lines_and_nothing_is_written(option, named, chain, tmp_path,
                                                                                   capsys):
    capsys.readouterr()
    fold = "" if "-f" in option else "-f 0"
    assert command(f"explain -d {dataset_id(chain)} -c {chain.configuration} {fold} {option} -device cpu -o {{0}}",
                   tmp_path / "out") == 2
    printed = capsys.readouterr().err
    message = printed[printed.index("error: "):].strip().splitlines()
    assert [line.split(":")[0].strip() for line in message] == ["error", "found", "expected", "fix"]
    assert named in "\n".join(message)
    if "--case" in option:
        assert validation_cases(chain, 0)[0] in message[2] and "phantom_999" in message[1]
    assert not (tmp_path / "out").exists()


def test_a_case_that_the_fold_was_trained_on_is_refused_as_such(chain, tmp_path, capsys):
    trained_on = json.loads((chain.preprocessed / "splits_final.json").read_text(encoding="utf-8"))[0]["train"][0]
    assert command(f"explain -d {dataset_id(chain)} -c {chain.configuration} --case {trained_on} -device cpu -o {{0}}",
                   tmp_path / "out") == 2
    assert "a training case of fold 0" in capsys.readouterr().err


def test_a_tile_as_large_as_the_case_holds_the_samples_of_the_whole_prediction(chain_3d, folders):
    folders(chain_3d.root)
    model = load_model(chain_3d.model, [0])
    case, image, _ = read_validation_case(model, chain_3d.preprocessed, 0, None)
    patch, size = np.array(model.configuration_manager.patch_size), np.array(image.shape[1:])
    assert (patch
            >= size).all(), "the plan no longer takes the whole case as one tile: this test needs a smaller phantom"
    predictor = MedSegDiffPredictor(model, SamplingOptions(2, num_mirrors=1))
    whole = predictor.sample_case(image, case).samples.float().numpy()
    drawing = draw(predictor, read_tile(model, chain_3d.preprocessed, 0, case, 2, seed=0))
    inside = tuple(slice(a, a + n) for a, n in zip((patch - size) // 2, size))
    drawn = np.stack([t.probabilities for t in drawing.trajectories])[(slice(None), slice(None), *inside)]
    np.testing.assert_allclose(drawn, whole, atol=2e-3)  # sample_case keeps half precision


@pytest.mark.parametrize("at", [(slice(2, 5), slice(1, 7), slice(0, 8)), (3, slice(1, 7), slice(0, 8))])
def test_the_noise_of_a_tile_is_cut_out_of_that_of_the_volume(at):
    shape = (2, 6, 9, 8)
    whole = torch.stack([noise_volume(shape, 7, "a", k) for k in range(2)])
    assert torch.equal(noise_at(at, shape, "a", 2, seed=7), whole[(slice(None), slice(None), *at)])


def test_the_tile_shows_the_reference_of_the_case(chain, model):
    case, image, _reference = read_validation_case(model, chain.preprocessed, 0, None)
    tile = read_tile(model, chain.preprocessed, 0, case, 1, seed=0)
    assert tile.plane.size == tuple(model.configuration_manager.patch_size) == tile.reference.shape
    assert tile.image.shape[0] == image.shape[0]
    masks = tile.reference_masks()
    assert masks[0].any() and tile.plane.cut(masks)[0].any()
    for structure, mask in zip(tile.structures, masks):
        assert ((tile.x_start[structure.channel] > 0).numpy() == mask).all()
