"""A trained nnU-Net gets a sampler, and the audit tells whether a model's state matters."""

import csv
import json

import pytest
import torch
from chain import command
from chain import threads_for_processes

from medsegdiff_auto.diffusion.configuration import PLANS_KEY, DiffusionConfiguration
from medsegdiff_auto.training.checkpoints import load_safely


@pytest.fixture(scope="module")
def nnunet_checkpoint(chain_2d, folders):
    """A fold of plain nnU-Net on the data of the chain."""
    folders(chain_2d.root)
    with pytest.MonkeyPatch.context() as patch:
        threads_for_processes(patch)
        assert command("train 902 2d 2 -tr nnUNetTrainer --iterations 4 -device cpu --seed 0") == 0
    return chain_2d.model.parent / "nnUNetTrainer__MedSegDiffPlans__2d" / "fold_2" / "checkpoint_final.pth"


@pytest.fixture(scope="module")
def upgraded(chain_2d, folders, nnunet_checkpoint):
    """The model folder of the upgraded fold."""
    folders(chain_2d.root)
    with pytest.MonkeyPatch.context() as patch:
        threads_for_processes(patch)
        assert command("train 902 2d 2 --upgrade {0} --iterations 4 -device cpu --seed 0", nnunet_checkpoint) == 0
    return chain_2d.model.parent / "nnUNetTrainerMedSegDiff__MedSegDiffUpgrade_MedSegDiffPlans__2d"


def test_an_upgrade_leaves_the_network_of_the_checkpoint_as_it_is(upgraded, nnunet_checkpoint):
    theirs = load_safely(nnunet_checkpoint)["network_weights"]
    checkpoint = load_safely(upgraded / "fold_2" / "checkpoint_final.pth")
    for name in ("raw_weights", "network_weights"):
        for key, value in theirs.items():
            assert torch.equal(checkpoint[name][f"conditioner.unet.{key}"], value), (name, key)
    assert len(set(checkpoint["denoiser_losses"])) == len(checkpoint["denoiser_losses"]) == 4


def test_an_upgraded_model_predicts_samples(upgraded, chain_2d, folders, tmp_path):
    folders(chain_2d.root)
    assert command("predict -i {0} -o {1} -m {2} -f 2 -device cpu --samples 2 --steps 1 --save_samples",
                   chain_2d.raw / "imagesTs", tmp_path / "out", upgraded) == 0
    assert sorted(file.name for file in (tmp_path / "out").glob("*_samples.nii.gz")) == [
        f"{case}_samples.nii.gz" for case in chain_2d.cases]


@pytest.mark.parametrize("fold, named", [(1, "of another fold"), ("all", "of another fold")])
def test_a_checkpoint_that_has_seen_the_validation_cases_is_refused(fold, named, nnunet_checkpoint, chain_2d, folders,
                                                                    capsys):
    folders(chain_2d.root)
    assert command(f"train 902 2d {fold} --upgrade {{0}} --iterations 4 -device cpu --overwrite",
                   nnunet_checkpoint) == 2
    assert named in capsys.readouterr().err


def write_state_plans(chain) -> None:
    """The chain's plans with a denoiser that sees a state and is trained by cross-entropy, as earlier versions planned.
    """
    plans = json.loads((chain.preprocessed / "MedSegDiffPlans.json").read_text(encoding="utf-8"))
    plans["plans_name"] = "StatePlans"
    configuration = plans["configurations"]["2d"]
    configuration[PLANS_KEY] = DiffusionConfiguration.from_plan(configuration[PLANS_KEY]).changed(
        sees_state=True, latent_scales=(), latent_channels=0, dispersion=0.0, name="cross_entropy",
        num_training_draws=1, class_weights=(), pure_noise_share=0.0).to_plan()
    (chain.preprocessed / "StatePlans.json").write_text(json.dumps(plans), encoding="utf-8")


def audit_rows(model, fold: int) -> dict[str, list[dict]]:
    """The rows of the audit by what was shown."""
    with open(model / f"fold_{fold}" / "audit" / "audit.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    states = {state: [] for state in dict.fromkeys(row["shown"] for row in rows)}
    for row in rows:
        states[row.pop("shown")].append(row)
    return states


def values(rows: list[dict], key: str) -> list[float]:
    """Those of the rows that have one."""
    return [float(row[key]) for row in rows if row[key]]


def test_the_audit_compares_the_same_cases_under_other_states_and_the_twin(chain_2d, folders, monkeypatch, capsys):
    folders(chain_2d.root)
    threads_for_processes(monkeypatch)
    write_state_plans(chain_2d)
    for trainer in ("nnUNetTrainerMedSegDiff", "nnUNetTrainerMedSegDiffTwin"):
        assert command(f"train 902 2d 0 -p StatePlans -tr {trainer} --iterations 4 -device cpu --seed 0") == 0
    assert command("audit -d 902 -c 2d -p StatePlans -f 0 --samples 3 --steps 2 -device cpu") == 0
    states = audit_rows(chain_2d.model.parent / "nnUNetTrainerMedSegDiff__StatePlans__2d", 0)
    assert list(states) == ["its own", "another sample's state", "fresh noise as state", "no-diffusion twin"]
    cases = [[(row["case"], row["structure"]) for row in rows] for rows in states.values()]
    assert cases[0] and all(c == cases[0] for c in cases)
    own, others, fresh, twin = states.values()
    assert own != fresh  # the denoiser looks at what it is shown
    assert values(own, "dice_to_own") == pytest.approx([1] * len(own), abs=1e-6)
    # After a shared first step each sample follows the state it is shown in the second: the samples change places.
    assert values(others, "dice") == pytest.approx(values(own, "dice"), abs=1e-6)
    between = values(own, "expected_dice_between_samples")
    assert values(others, "dice_to_own") == pytest.approx(between, abs=1e-4) and min(between) < 1
    # one view, no state: the twin's samples are all the same
    for key in ("expected_dice_between_samples", "dice_to_own"):
        assert values(twin, key) == pytest.approx([1] * len(twin), abs=1e-6)
    printed = capsys.readouterr().out
    assert "| its own |" in printed and "no-diffusion twin, minus the first row (95 %): energy score" in printed
    assert min(values(twin, "energy_score")) > 0 and all(row["ged"] == "" for row in twin)
