"""Channel by channel and slab by slab, to what nnU-Net's own export gives at once."""

import numpy as np
import pytest
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from medsegdiff_auto.diffusion.state import logits_from_probabilities
from medsegdiff_auto.sampling import volume_store
from medsegdiff_auto.inference.export import to_image_grid
from medsegdiff_auto.decision.decoder import labels_by_channel
from medsegdiff_auto.decision.fused_mean import EXPECTED, FUSED, LABELS, PLAIN, SAMPLE
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
    np.testing.assert_array_equal(grid.labels(values[k].read() for k in range(3)), labels)
    np.testing.assert_array_equal(grid.labels(grid.channels_of_logits(InMemory(p))), labels)
    found = grid.to_probabilities(values)
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
    np.testing.assert_array_equal(found.segmentation, grid.labels(grid.channels_of_logits(InMemory(mean))))
    for one, (_, sample) in zip(found.samples, drawn[1:], strict=True):
        np.testing.assert_array_equal(one, grid.labels(grid.channels_of_logits(sample)))
    assert found.probabilities.shape == (3, *IMAGE) and found.entropy().shape == found.mutual_information.shape == IMAGE
    outside = found.probabilities[:, :, :3]
    assert (outside[0] == (dataset_json is CLASSES)).all() and (outside[1:] == 0).all() and (found.entropy()[:, :3]
                                                                                             == 0).all()
    in_memory = to_image_grid(iter(drawn), grid, 0.3, "mean", 2.0, True)
    for name in ("probabilities", "samples", "mutual_information", "segmentation"):
        np.testing.assert_array_equal(getattr(found, name), getattr(in_memory, name), name)


@pytest.mark.parametrize("dataset_json", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_on_the_networks_own_grid_samples_are_decoded_slab_by_slab_and_the_mean_is_kept_in_place(dataset_json, storage):
    plans, configuration = managers([1.0, 1.5, 2.0])
    grid = ImageGrid(PROPERTIES, plans, configuration, dataset_json, storage)
    samples = [probabilities(dataset_json, CROPPED, k) for k in (1, 2)]
    decode, mean = grid.decoder_of(CROPPED), storage.empty((3, *CROPPED))
    mean.write(mean.all_rows, probabilities(dataset_json, CROPPED))
    states = 2 * torch.stack(samples) - 1
    maps = torch.cat([decode(states[:, :, rows]) for rows in (slice(0, 3), slice(3, 8))], 1)
    assert maps.dtype == torch.uint8 and grid.decoder_of(NETWORK) is None
    found = to_image_grid([(FUSED, mean), *((LABELS, InMemory(one)) for one in maps)], grid, 0.3, "mean")
    usual = to_image_grid([(PLAIN, InMemory(probabilities(dataset_json, CROPPED))), (EXPECTED, InMemory(
        probabilities(dataset_json, CROPPED))), *((SAMPLE, InMemory(one)) for one in samples)], grid, 0.3, "mean")
    assert found.fused is mean and usual.fused is not mean
    for name in ("samples", "segmentation"):
        np.testing.assert_array_equal(getattr(found, name), getattr(usual, name), name)
    np.testing.assert_allclose(found.probabilities, usual.probabilities, atol=1e-6)


def test_labels_beyond_a_byte_are_kept_as_they_are():
    json = {"labels": {"background": 0, "a": [1, 300], "b": 300}, "regions_class_order": [1, 300]}
    manager = managers([1.0, 1.5, 2.0])[0].get_label_manager(json)
    found = labels_by_channel(torch.tensor([[0.2, 0.9, 0.9], [0.1, 0.2, 0.8]]), manager)
    assert found.tolist() == [0, 1, 300]


@pytest.mark.parametrize("dataset_json", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_what_is_even_is_decided_as_nnunet_does(dataset_json):
    manager = managers([1.0, 1.5, 2.0])[0].get_label_manager(dataset_json)
    even = torch.tensor([[0.5, 0.2, 0.5], [0.5, 0.4, 0.5], [0.0, 0.4, 0.5000001]])
    expected = manager.convert_probabilities_to_segmentation(even[:, None, None].numpy())[0, 0]
    assert labels_by_channel(even, manager).tolist() == expected.tolist()
    assert labels_by_channel(2 * even - 1, manager, even=0.0).tolist() == expected.tolist()
