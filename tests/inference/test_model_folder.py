"""A model folder loads whole, or says in four lines what is wrong with it."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.inference.model import load_model

KEPT = Path(__file__).parent / "version_1"
CHECKPOINT = "fold_0/checkpoint_final.pth"


@pytest.fixture
def model(tmp_path) -> Path:
    """A copy of a model of an earlier version."""
    return Path(shutil.copytree(KEPT, tmp_path / "model"))


def refused(model: Path) -> UserError:
    with pytest.raises(UserError) as error:
        load_model(model)
    return error.value


def edit(file: Path, change) -> None:
    """Changes the content of a JSON file or of a checkpoint in place."""
    content = torch.load(file, weights_only=False) if file.suffix == ".pth" else json.loads(file.read_text("utf-8"))
    change(content)
    torch.save(content, file) if file.suffix == ".pth" else file.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("number", [0, 100, 200, 300, 400])
def test_a_flipped_bit_in_any_part_of_a_checkpoint_is_found_by_its_checksum(model, number):
    content = bytearray((model / CHECKPOINT).read_bytes())
    with zipfile.ZipFile(model / CHECKPOINT) as parts:
        part = parts.infolist()[number]
        content[content.index(parts.read(part), part.header_offset) + part.file_size // 2] ^= 1
    (model / CHECKPOINT).write_bytes(content)
    error = refused(model)
    assert "checkpoint_final.pth cannot be read" in error.what and error.found.startswith("another checksum of")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_bytes_that_are_no_checkpoint_are_named(model, content):
    (model / CHECKPOINT).write_bytes(content)
    assert refused(model).what == f"{model / CHECKPOINT} cannot be read as a checkpoint."


def test_a_checkpoint_without_checksums_loads_as_before(model):
    kept = load_model(model).fold_weights[0]
    torch.save(torch.load(model / CHECKPOINT, weights_only=False), model / CHECKPOINT,
               _use_new_zipfile_serialization=False)
    loaded = load_model(model).fold_weights[0]
    assert all(torch.equal(loaded[name], kept[name]) for name in kept)


FIRST = "conditioner.unet.encoder.stages.0.0.convs.0.conv.weight"
DEFECTS = {
    "trainer of nnU-Net": (CHECKPOINT, lambda c: c.update(trainer_name="nnUNetTrainer"), "nnUNetTrainer"),
    "trainer that is no name": (CHECKPOINT, lambda c: c.update(trainer_name=None), "trainer_name: NoneType"),
    "weights that are a list": (CHECKPOINT, lambda c: c.update(network_weights=[]), "network_weights: list"),
    "other configuration": (CHECKPOINT, lambda c: c["init_args"].update(configuration="3d_fullres"), "3d_fullres"),
    "weight missing": (CHECKPOINT, lambda c: c["network_weights"].pop(FIRST), f"{FIRST} is missing"),
    "weight too many": (CHECKPOINT, lambda c: c["network_weights"].update(x=torch.zeros(1)), "x is not planned"),
    "weight of another shape": (CHECKPOINT, lambda c: c["network_weights"].update({FIRST: torch.zeros(2)}),
                                f"{FIRST} is of shape (2,), not (4, 1, 3, 3)"),
    "weight infinite": (CHECKPOINT, lambda c: c["network_weights"][FIRST].fill_(float("inf")), "infinite values"),
    "mirror axis of 3-D": (CHECKPOINT, lambda c: c.update(inference_allowed_mirroring_axes=(0, 2)), "(0, 2)"),
    "mirror axis twice": (CHECKPOINT, lambda c: c.update(inference_allowed_mirroring_axes=(0, 0)), "(0, 0)"),
    "other spacing": ("plans.json", lambda p: p["configurations"]["2d"].update(spacing=[2.0, 2.0]), "spacing"),
    "patch that is text": ("plans.json", lambda p: p["configurations"]["2d"].update(patch_size="32"), "patch_size"),
    "other network": ("plans.json", lambda p: p["configurations"]["2d"].pop("architecture"), "architecture"),
    "other intensities": ("plans.json", lambda p: p["foreground_intensity_properties_per_channel"]["0"].update(mean=0),
                          "foreground_intensity_properties_per_channel"),
    "other schedule": ("plans.json", lambda p: p["configurations"]["2d"]["diffusion"].update(log_snr_shift=0.0),
                       "diffusion.noise"),
    "no diffusion": ("plans.json", lambda p: p["configurations"]["2d"].pop("diffusion"), ""),
    "no configurations": ("plans.json", lambda p: p.clear(), "KeyError: 'configurations'"),
    "labels swapped": ("dataset.json", lambda d: d.update(labels={"background": 0, "organ": 2, "lesion": 1}), "labels"),
    "channel renamed": ("dataset.json", lambda d: d.update(channel_names={"0": "CT"}), "channel_names"),
    "no file ending": ("dataset.json", lambda d: d.pop("file_ending"), ""),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_what_does_not_belong_to_the_training_is_named(model, defect):
    name, change, found = DEFECTS[defect]
    edit(model / name, change)
    assert found in refused(model).found


@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_a_file_that_is_no_json_object_is_named(model, name, text):
    (model / name).write_text(text)
    assert name in refused(model).what


def test_what_only_sampling_and_training_depend_on_may_be_edited(model):
    edit(model / "plans.json", lambda p: p["configurations"]["2d"].update(batch_size=7))
    edit(model / "plans.json", lambda p: p["configurations"]["2d"]["diffusion"].update(num_samples=3))
    edit(model / "dataset.json", lambda d: d.update(numTraining=6, file_ending=".nii", description="mine",
                                                    labels={"organ": 1, "lesion": 2, "background": 0}))
    assert load_model(model).diffusion.sampling.num_samples == 3
