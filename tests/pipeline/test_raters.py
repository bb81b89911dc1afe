"""Several raters' labels travel from the raw dataset into the batches, each as likely."""

import json

import blosc2
import numpy as np
import pytest
import SimpleITK as sitk
from chain import command
from chain import threads_for_processes

from medsegdiff_auto.phantoms.nnunet_dataset import Labelling, write_phantom_dataset
from medsegdiff_auto.phantoms.phantom import PhantomKind
from medsegdiff_auto.training.raters import RaterDataset, rater_folders


def test_every_rater_is_drawn_as_often_and_one_at_a_time(tmp_path, folders, monkeypatch):
    folders(tmp_path)
    threads_for_processes(monkeypatch)
    raw = write_phantom_dataset(tmp_path / "raw", 905, "Raters", (5, 0), PhantomKind(2, shape=(40, 48)), Labelling(3))
    (raw / "labelsTr_raters" / "rater_2" / "phantom_001.nii.gz").unlink()  # not every rater has seen every case
    assert command("plan_and_preprocess -d 905 -c 2d --resources tiny -np 1") == 0

    data = tmp_path / "preprocessed" / raw.name / "MedSegDiffPlans_2d"
    folders_of_raters = rater_folders(data)
    assert [folder.name for folder in folders_of_raters] == ["rater_1", "rater_2", "rater_3"]
    dataset = RaterDataset(str(data), ["phantom_000", "phantom_001"], None, folders_of_raters)
    plans = json.loads((data.parent / "MedSegDiffPlans.json").read_text(encoding="utf-8"))
    spacing_mm = plans["configurations"]["2d"]["spacing"]
    np.random.seed(0)
    for case, raters in (("phantom_000", (1, 2, 3)), ("phantom_001", (1, 3))):
        labels = {
            rater: np.asarray(
                blosc2.open(str(data.parent / f"{data.name}_raters" / f"rater_{rater}" / f"{case}_seg.b2nd"))[:])
            for rater in raters
        }
        drawn = [np.asarray(dataset.load_case(case)[1][:]) for _ in range(120)]
        counts = [sum(np.array_equal(d, label) for d in drawn) for label in labels.values()]
        assert sum(counts) == 120 and min(counts) > 120 / len(raters) / 2
        reference = sitk.ReadImage(str(raw / "labelsTr_raters" / "rater_3" / f"{case}.nii.gz"))
        area_mm2 = (sitk.GetArrayFromImage(reference) > 0).sum() * np.prod(reference.GetSpacing()[:2])
        assert (labels[3] > 0).sum() * np.prod(spacing_mm) == pytest.approx(area_mm2, rel=0.05)


def test_a_rater_of_another_size_is_refused(tmp_path, folders, monkeypatch, capsys):
    folders(tmp_path)
    threads_for_processes(monkeypatch)
    raw = write_phantom_dataset(tmp_path / "raw", 905, "Raters", (5, 0), PhantomKind(2, shape=(40, 48)), Labelling(2))
    file = raw / "labelsTr_raters" / "rater_2" / "phantom_003.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(file))[:20], str(file))
    assert command("plan_and_preprocess -d 905 -c 2d --resources tiny -np 1") == 2
    message = capsys.readouterr().err
    assert "phantom_003" in message and "differs in size" in message
