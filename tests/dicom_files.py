"""DICOM series written by pydicom, and segmentations read by their own words, without the library that writes them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset, FileMetaDataset, dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
OBLIQUE = ((0.8, 0.6, 0.0), (-0.48, 0.64, 0.6))  # orthonormal to the last bit of a decimal


@dataclass(frozen=True)
class Place:
    """Where the voxels (z, y, x) of a series lie: spacing (z, y, x), and the directions of rows and columns."""

    spacing_mm: tuple[float, float, float] = (2.5, 0.7, 0.9)
    axes: tuple = AXIAL
    origin_mm: tuple[float, float, float] = (-31.25, 12.5, 407.75)

    def position(self, slice_number: float, row: float = 0, column: float = 0) -> np.ndarray:
        """Millimetres, LPS, of a voxel."""
        along_rows, along_columns = map(np.array, self.axes)
        normal = np.cross(along_rows, along_columns)
        return (np.array(self.origin_mm) + slice_number * self.spacing_mm[0] * normal
                + row * self.spacing_mm[1] * along_columns + column * self.spacing_mm[2] * along_rows)


STRAIGHT = Place()


def write_series(folder: Path, voxels: np.ndarray, place: Place = STRAIGHT, heights=None, seed: int = 0,
                 **changes) -> Path:
    """Writes int16 voxels (z, y, x) as one file per slice whose names are in no order of the slices.

    Args:
        heights: of the slices, in slice distances.
        changes: of elements, in every slice; None leaves the element out.
    """
    folder.mkdir(parents=True)
    study, series, frame = (generate_uid() for _ in range(3))
    names = np.random.default_rng(seed).permutation(len(voxels))
    for number, plane in enumerate(voxels):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = Dataset()
        one.file_meta = meta
        one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.Modality, one.PatientID, one.PatientName, one.SeriesNumber = "CT", "P-17", "Muster^Anna", 4
        one.PatientBirthDate, one.PatientSex, one.StudyDate, one.StudyTime = "19700101", "F", "20260102", "101112"
        one.Rows, one.Columns = plane.shape
        one.PixelSpacing = [f"{step:g}" for step in place.spacing_mm[1:]]
        one.SliceThickness, one.InstanceNumber = f"{place.spacing_mm[0]:g}", int(names[number]) + 1
        height = number if heights is None else heights[number]
        one.ImagePositionPatient = [f"{value:.6f}" for value in place.position(height)]
        one.ImageOrientationPatient = [f"{value:g}" for axis in place.axes for value in axis]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        one.RescaleSlope, one.RescaleIntercept = "1", "0"
        one.PixelData = plane.astype("<i2").tobytes()
        for keyword, value in changes.items():
            if value is None:
                delattr(one, keyword)
            else:
                setattr(one, keyword, value)
        one.save_as(folder / f"slice_{names[number]:03d}.dcm", enforce_file_format=True)
    return folder


@dataclass(frozen=True)
class Frame:
    """One plane of a segmentation: the number of its segment, its position and axes in mm, and its pixels as stored."""

    segment: int
    position_mm: np.ndarray
    axes: np.ndarray
    pixels: np.ndarray


def frames_of(file: Path) -> tuple[Dataset, list[Frame]]:
    """A segmentation as its own elements say: bits are unpacked in the order of the standard, the lowest first."""
    content = dcmread(file)
    stored = np.frombuffer(content.PixelData, np.uint8)
    size = (content.NumberOfFrames, content.Rows, content.Columns)
    pixels = np.unpackbits(stored, bitorder="little") if content.BitsAllocated == 1 else stored
    shared = content.SharedFunctionalGroupsSequence[0]
    frames = []
    for groups, plane in zip(content.PerFrameFunctionalGroupsSequence, pixels[:np.prod(size)].reshape(size)):
        orientation = getattr(groups, "PlaneOrientationSequence", None) or shared.PlaneOrientationSequence
        frames.append(Frame(
            groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber,
            np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float),
            np.array(orientation[0].ImageOrientationPatient, float).reshape(2, 3), plane))
    return content, frames


def volume_of(file: Path, segment: int, shape: tuple[int, int, int], place: Place) -> np.ndarray:
    """A segment (z, y, x), every frame put where its position says; frames that are not there are 0.

    The position of each frame must be within 1e-3 mm of a slice of ``place``, and its axes those of the place.
    """
    volume = np.zeros(shape, np.uint8)
    positions = np.array([place.position(number) for number in range(shape[0])])
    for frame in frames_of(file)[1]:
        distances = np.linalg.norm(positions - frame.position_mm, axis=1)
        assert distances.min() < 1e-3, distances.min()
        np.testing.assert_allclose(frame.axes, place.axes, atol=1e-6)
        if frame.segment == segment:
            volume[distances.argmin()] = frame.pixels
    return volume
