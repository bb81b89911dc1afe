"""A conversion as the user types it, nnU-Net's verdict on its result, and small files to make sources of."""

import json
import locale
import multiprocessing
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from skimage import io

from medsegdiff_auto.cli.convert import main

# oblique, with a left-handed axis: values that single precision cannot hold exactly
AFFINE = np.array([[-0.7, 0.02, 0.0, 11.1], [0.02, 0.7, 0.0, -7.3], [0.0, 0.0, 2.3, 5.9], [0.0, 0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, what it printed, the folder of the dataset."""

    code: int
    out: str
    err: str
    folder: Path | None

    @property
    def description(self) -> dict:
        return json.loads((self.folder / "dataset.json").read_text(encoding="utf-8"))

    @property
    def splits(self) -> list[dict]:
        return json.loads((self.folder / "splits_final.json").read_text(encoding="utf-8"))

    def files(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.folder / folder).iterdir())

    def voxels(self, file: str) -> np.ndarray:
        path = self.folder / file
        return np.asanyarray(nib.load(path).dataobj) if path.name.endswith(".nii.gz") else io.imread(path)


@pytest.fixture
def raw_folder(tmp_path, monkeypatch) -> Path:
    """An empty nnUNet_raw; the other two folders are unset."""
    folder = tmp_path / "raw"
    folder.mkdir()
    monkeypatch.setenv("nnUNet_raw", str(folder))
    for variable in ("nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(variable, raising=False)
    return folder


@pytest.fixture
def convert(raw_folder, capsys):
    """Runs ``medsegdiff_convert NAME -i SOURCE -d 7 -np 1 ...`` and gives what it left."""
    def run(name: str, source: Path, *flags: str) -> Done:
        capsys.readouterr()
        try:
            code = main([name, "-i", str(source), "-d", "7", "-np", "1", *flags])
        except SystemExit as end:
            code = end.code
        written = capsys.readouterr()
        return Done(code, written.out, written.err, next(raw_folder.glob("Dataset007_*"), None))

    return run


@pytest.fixture
def require_intact(monkeypatch, capsys):
    """Checks a dataset with nnU-Net's own ``verify_dataset_integrity``, in threads: processes would import torch for
    seconds.
    """
    def verify(folder: Path) -> None:
        from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

        with monkeypatch.context() as patched:
            patched.setattr(multiprocessing, "get_context", lambda method=None: SimpleNamespace(Pool=ThreadPool))
            capsys.readouterr()
            verify_dataset_integrity(str(folder), num_processes=1)
        output = capsys.readouterr().out
        assert "verify_dataset_integrity Done" in output
        assert "Error" not in output and "Warning" not in output

    return verify


@pytest.fixture
def nifti():
    """``nifti(path, voxels, affine=...)`` writes a NIfTI file, by default on an oblique grid, and returns its path."""
    def write(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(voxels, affine)
        image.header.set_xyzt_units("mm")
        nib.save(image, path)
        return path

    return write


@pytest.fixture
def picture():
    """``picture(path, pixels)`` writes PNG, TIFF, JPEG or BMP, as the ending says, and returns its path."""
    def write(path: Path, pixels: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        io.imsave(path, pixels, check_contrast=False)
        return path

    return write


@pytest.fixture
def noise():
    """``noise(shape, dtype=...)``: values that are never the same twice."""
    generator = np.random.default_rng(0)

    def draw(*shape: int, dtype=np.uint8) -> np.ndarray:
        return generator.integers(1, 200, shape).astype(dtype)

    return draw


@pytest.fixture
def dicom_series():
    """``dicom_series(folder, uid, voxels)`` writes ``(z, y, x)`` as a series, lowest slice last by file name, and
    returns the SOP
    instance UIDs, lowest slice first. Slices lie 2.5 mm apart, or at ``heights_mm``."""
    def write(folder: Path, uid: str, voxels: np.ndarray, sop_class: str = "1.2.840.10008.5.1.4.1.1.2",
              heights_mm=None) -> list[str]:
        folder.mkdir(parents=True)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        names = [f"{uid}.{index + 1}" for index in range(len(voxels))]
        for index, plane in enumerate(voxels):
            height = heights_mm[index] if heights_mm else -100.0 + 2.5 * index
            image = sitk.GetImageFromArray(plane[None])
            image.SetSpacing((0.703125, 0.703125, 2.5))
            for tag, value in {
                    "0008|0016": sop_class, "0008|0018": names[index], "0020|000e": uid, "0020|000d": f"{uid}.0",
                    "0008|0060": "CT", "0020|0032": f"-166.0\\-171.5\\{height}", "0020|0037": "1\\0\\0\\0\\1\\0",
                    "0020|0013": str(index + 1), "0018|0050": "2.5"
            }.items():
                image.SetMetaData(tag, value)
            writer.SetFileName(str(folder / f"1-{len(voxels) - index:03d}.dcm"))
            writer.Execute(image)
        return names

    before = locale.setlocale(locale.LC_CTYPE)
    yield write
    locale.setlocale(locale.LC_CTYPE, before)  # GDCM's writer leaves the process in the C locale


@pytest.fixture
def msd_task(tmp_path, nifti, noise) -> Path:
    """A task with two sequences, six training cases and one test case, as the Decathlon distributes it."""
    task = tmp_path / "Task09_Tiny"
    names = [f"tiny_{number}" for number in range(6)]
    for name in names:
        nifti(task / "imagesTr" / f"{name}.nii.gz", noise(5, 4, 3, 2, dtype=np.int16))
        nifti(task / "labelsTr" / f"{name}.nii.gz", noise(5, 4, 3) % 3)
    nifti(task / "imagesTs" / "tiny_9.nii.gz", noise(5, 4, 3, 2, dtype=np.int16))
    (task / "imagesTr" / "._tiny_0.nii.gz").write_bytes(b"macOS")
    (task / "dataset.json").write_text(json.dumps({
        "name": "Tiny", "release": "1.0 01/01/2018", "licence": "CC-BY-SA 4.0", "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"}, "numTraining": 6, "numTest": 1,
        "training": [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names],
        "test": ["./imagesTs/tiny_9.nii.gz"]}))
    return task
