"""A fit belongs to the checkpoints that it was fitted on, and its file keeps types and limits."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from medsegdiff_auto.decision.fitted_sampling import (FILE, FittedSampling, checkpoint_checksums, read_fitted_sampling)
from medsegdiff_auto.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[1] / "networks"))
from tiny_networks import STATE, LATENT, LINEAR

FIT = asdict(FittedSampling(0.5, 0.25, 8, 2, 20, 0.8, 0.7, {"organ": [None, 0.2]}, 1.5))
CHECKPOINT = "checkpoint_final.pth"


@pytest.fixture
def model(tmp_path):
    """Two folds and a fit on both."""
    for fold in (0, 1):
        (tmp_path / f"fold_{fold}").mkdir()
        (tmp_path / f"fold_{fold}" / CHECKPOINT).write_bytes(b"weights of %d" % fold)
    FittedSampling(**FIT | {"checkpoints": checkpoint_checksums(tmp_path, [0, 1], CHECKPOINT)}).write(tmp_path)
    return tmp_path


def test_a_fit_is_used_with_the_checkpoints_that_it_was_fitted_on_and_names_them(model):
    fitted = read_fitted_sampling(model)
    assert fitted.dispersion == 0.5 and fitted.volume_margins == {"organ": [None, 0.2]}
    of_sha256sum = "9a97ba92d84ab7bfcd2380626e54093c6426f9ee7898d0062e87a27d5241ebf7"
    assert fitted.checkpoints["fold_1/checkpoint_final.pth"] == of_sha256sum
    assert "20 cases with fold_0/checkpoint_final.pth, fold_1/checkpoint_final.pth" in fitted.origin


@pytest.mark.parametrize("fold", [0, 1])
def test_a_checkpoint_that_was_trained_anew_makes_the_fit_stale(model, fold):
    (model / f"fold_{fold}" / CHECKPOINT).write_bytes(b"other weights")
    with pytest.raises(UserError, match=f"earlier training of fold_{fold}/checkpoint_final.pth") as raised:
        read_fitted_sampling(model)
    assert "medsegdiff_calibrate" in raised.value.fix and len(str(raised.value).splitlines()) == 4


def test_a_fit_is_read_back_as_it_was_written(tmp_path):
    fitted = FittedSampling(**FIT)
    fitted.write(tmp_path)
    assert read_fitted_sampling(tmp_path) == fitted


@pytest.mark.parametrize("diffusion, values, found", [
    (LATENT, {"dispersion": 0.0}, "dispersion is 0 with latent noise"),
    (LATENT.changed(num_train_steps=100, **LINEAR), {"num_steps": 200}, "num_steps is 200"),
    (LATENT.changed(num_steps=1, sees_state=False), {"num_steps": 2, "dispersion": 1.0}, "sees no state")],
    ids=["no noise", "steps", "steps without a state"])
def test_values_that_the_plan_does_not_allow_are_refused_and_others_applied(diffusion, values, found):
    if diffusion.network.sees_state:
        applied = FittedSampling(**FIT).applied_to(diffusion).sampling
        assert (applied.dispersion, applied.num_steps, applied.conditioner_weight) == (0.5, 2, 0.25)
    with pytest.raises(UserError) as refused:
        FittedSampling(**FIT | values).applied_to(diffusion)
    assert found in refused.value.found and len(str(refused.value).splitlines()) == 4


def test_a_field_of_an_earlier_version_is_refused_by_name():
    """Its model has no latent noise: what the fit laid over the logits is no longer there."""
    with pytest.raises(UserError, match="does not fit the plan") as refused:
        FittedSampling(**FIT).applied_to(STATE)
    assert "dispersion is 0.5 without latent noise" in refused.value.found and "calibrate again" in refused.value.fix


def test_a_model_that_was_passed_on_without_a_fold_keeps_its_fit(model):
    (model / "fold_0" / CHECKPOINT).unlink()
    assert read_fitted_sampling(model).temperature == 1.5


def test_a_fit_of_an_earlier_version_is_used_and_says_that_it_names_no_checkpoint(tmp_path):
    (tmp_path / FILE).write_text(json.dumps({key: value for key, value in FIT.items() if key != "checkpoints"}))
    fitted = read_fitted_sampling(tmp_path)
    assert fitted.checkpoints == {} and "earlier version" in fitted.origin


@pytest.mark.parametrize("change, named", [
    ({"dispersion": -0.1}, "dispersion is -0.1"), ({"dispersion": "much"}, "dispersion is 'much'"),
    ({"dispersion": float("nan")}, "dispersion is nan"), ({"conditioner_weight": 1.5}, "conditioner_weight is 1.5"),
    ({"conditioner_weight": 1}, "conditioner_weight is 1"),
    ({"temperature": 0}, "temperature is 0"), ({"temperature": float("inf")}, "temperature is inf"),
    ({"num_steps": 0}, "num_steps is 0"), ({"num_steps": 2.5}, "num_steps is 2.5"),
    ({"volume_margins": {"organ": 0.2}}, "volume_margins.organ is 0.2"), ({"tau": 1}, "tau is 1"),
    ({"checkpoints": ["fold_0"]}, "checkpoints is ['fold_0']")], ids=str)
def test_a_value_that_no_fit_has_is_refused_by_name(tmp_path, change, named):
    (tmp_path / FILE).write_text(json.dumps(FIT | change))
    with pytest.raises(UserError, match="cannot be read") as raised:
        read_fitted_sampling(tmp_path)
    assert named in raised.value.found and len(str(raised.value).splitlines()) == 4


@pytest.mark.parametrize("content", ["", "[]", "null", "{}", '{"dispersion": 1.0'])
def test_what_is_no_fit_is_refused(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(UserError, match="cannot be read") as raised:
        read_fitted_sampling(tmp_path)
    assert len(str(raised.value).splitlines()) == 4
