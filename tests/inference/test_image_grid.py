"""Channel by channel and slab by slab, to what nnU-Net's own export gives at once."""

import numpy as np
import pytest
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from medsegdiff_auto.diffusion.state import logits_from_probabilities
from medsegdiff_auto.sampling import volume_store
from medsegdiff_auto.inference.export import to_image_grid
from medsegdiff_auto.decision.fused_mean import PLAIN, SAMPLE
from medsegdiff_auto.inference.image_grid import ImageGrid
from medsegdiff_auto.sampling.volume_store import InMemory, Storage

IMAGE, CROPPED, NETWORK = (9, 12, 10), (8, 10, 7), (6, 13, 9)
PROPERTIES = {
    "spacing": (2.0, 1.0, 1.5), "shape_before_cropping": (12, 10, 9),
    "shape_after_cropping_and_before_resampling": CROPPED, "bbox_used_for_cropping": [[3, 11], [0, 10], [1, 8]]
}
PLANS = {
    "plans_name": "p", "transpose_forward": [1, 2, 0], "transpose_backward": [2, 0, 1], "label_manager": "LabelManager"
}
CONFIGURATION = {
    "architecture": {}, "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
    "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
}
CLASSES = {"labels": {"background": 0, "organ": 1, "lesion": 2}}
REGIONS = {"labels": {"background": 0, "organ": [1, 2], "lesion": 2, "other": 3}, "regions_class_order": [1, 2, 3]}


def managers(spacing):
    plans = PlansManager({**PLANS, "configurations": {"3d_fullres": {**CONFIGURATION, "spacing": spacing}}})
    return plans, plans.get_configuration("3d_fullres")


def probabilities(dataset_json, shape, seed=0):
    logits = 2 * torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed))
    return logits.sigmoid() if "regions_class_order" in dataset_json else logits.softmax(0)


@pytest.fixture(params=["memory", "disk"])
def storage(request, tmp_path, monkeypatch):
    monkeypatch.setattr(volume_store, "ELEMENTS_PER_BLOCK", 2 * 3 * 10 * 7)
    return Storage(tmp_path if request.param == "disk" else None)


@pytest.mark.parametrize("dataset_json", [CLASSES, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("shape, spacing", [(NETWORK, [1.0, 1.2, 1.7]), (NETWORK, [1.0, 1.2, 7.0]),
                                            (CROPPED, [1.0, 1.5, 2.0])],
                         ids=["resampled", "one axis apart", "not resampled"])
def test_label_map_and_probabilities_are_those_of_nnunet(dataset_json, shape, spacing, storage):
    plans, configuration = managers(spacing)
    p = probabilities(dataset_json, shape)
    labels, on_image = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits_from_probabilities(p, "regions" if dataset_json is REGIONS else "classes"), plans, configuration,
        plans.get_label_manager(dataset_json), PROPERTIES, return_probabilities=True)
    assert labels.shape == IMAGE and len(np.unique(labels)) > 2
    grid = ImageGrid(PROPERTIES, plans, configuration, dataset_json, storage)
    values = grid.logits(InMemory(p))
    np.testing.assert_array_equal(grid.labels(values, of_logits=True), labels)
    found = grid.to_probabilities(values)
    np.testing.assert_array_equal(grid.labels(found, of_logits=False), labels)
    np.testing.assert_allclose(np.stack([grid.channel_on_image(found, k) for k in range(3)]), on_image, atol=1e-6)


@pytest.mark.parametrize("dataset_json", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_fused_maps_samples_and_uncertainty_are_the_same_on_disk(dataset_json, storage, tmp_path):
    plans, configuration = managers([1.0, 1.2, 1.7])
    drawn = [(PLAIN, InMemory(probabilities(dataset_json, NETWORK)))] + [
        (SAMPLE, InMemory(probabilities(dataset_json, NETWORK, k))) for k in (1, 2)]
    mean = 0.3 * drawn[0][1].tensor + 0.7 * (drawn[1][1].tensor + drawn[2][1].tensor) / 2
    found = to_image_grid(iter(drawn), ImageGrid(PROPERTIES, plans, configuration, dataset_json, storage), 0.3, "mean",
                          2.0, True)
    grid = ImageGrid(PROPERTIES, plans, configuration, dataset_json)
    np.testing.assert_array_equal(found.segmentation, grid.labels(grid.logits(InMemory(mean)), of_logits=True))
    for one, (_, sample) in zip(found.samples, drawn[1:], strict=True):
        np.testing.assert_array_equal(one, grid.labels(grid.logits(sample), of_logits=True))
    assert found.probabilities.shape == (3, *IMAGE) and found.entropy().shape == found.mutual_information.shape == IMAGE
    outside = found.probabilities[:, :, :3]
    assert (outside[0] == (dataset_json is CLASSES)).all() and (outside[1:] == 0).all() and (found.entropy()[:, :3]
                                                                                             == 0).all()
    in_memory = to_image_grid(iter(drawn), grid, 0.3, "mean", 2.0, True)
    for name in ("probabilities", "samples", "mutual_information", "segmentation"):
        np.testing.assert_array_equal(getattr(found, name), getattr(in_memory, name), name)
