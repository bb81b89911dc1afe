"""``nnUNet_compile`` belongs to nnU-Net's training and prediction: a model of ours predicts as it does without it."""

from pathlib import Path

import numpy as np

from medsegdiff_auto.inference.model import load_model
from medsegdiff_auto.inference.options import SamplingOptions
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor

MODEL = Path(__file__).parent / "version_1"


def test_the_masks_are_those_of_an_environment_that_does_not_compile(monkeypatch, capsys):
    model = load_model(MODEL)
    image = np.random.default_rng(0).normal(size=(1, 1, 40, 48)).astype(np.float32)
    image = image.repeat(MedSegDiffPredictor(model).num_inputs, axis=0)
    drawn = []
    for value in ("false", "true"):
        monkeypatch.setenv("nnUNet_compile", value)
        predictor = MedSegDiffPredictor(load_model(MODEL), SamplingOptions(num_samples=2))
        drawn.append(predictor.sample_case(image, "case"))
    assert drawn[0].samples.equal(drawn[1].samples) and drawn[0].conditioner.equal(drawn[1].conditioner)
    assert drawn[0].samples.std() > 0
    assert capsys.readouterr().out == ""
