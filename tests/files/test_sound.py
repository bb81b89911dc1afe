"""What readers keep to themselves is found before a file is read; odd but sound files pass."""

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image
from skimage import io

from medsegdiff_auto.files.nifti_file import load_nifti
from medsegdiff_auto.files.pictures import exif_orientation, upright
from medsegdiff_auto.files.sound import require_sound
from medsegdiff_auto.files.unreadable import UnreadableScan

SHAPE = (5, 6, 7)
SLOPE, INTER, DATATYPE, OFFSET, SROW_X = 112, 116, 70, 108, 280  # bytes of a NIfTI header at which these stand


def fault(path: Path, **options) -> tuple[str, str]:
    with pytest.raises(UnreadableScan) as raised:
        require_sound(path, path.name, **options)
    assert raised.value.finding.file == path.name
    return raised.value.finding.check, raised.value.finding.found


def nifti(path: Path, voxels=None, affine=None, sform=None, qform=None, **header) -> Path:
    voxels = np.arange(210, dtype=np.int16).reshape(SHAPE) if voxels is None else voxels
    image = nibabel.Nifti1Image(voxels, np.diag([0.7, 0.8, 2.5, 1]) if affine is None else affine, dtype=voxels.dtype)
    if sform:
        image.set_sform(*sform)
    if qform:
        image.set_qform(*qform)
    for field, value in header.items():
        image.header[field] = value
    nibabel.save(image, path)
    return path


def moved(*origin_mm) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, 3] = origin_mm
    return affine


def with_bytes(path: Path, place: int, kind: str, value) -> Path:
    content = bytearray(path.read_bytes())
    struct.pack_into("<" + kind, content, place, value)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", "f4", "f8"])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_voxels_that_are_missing_are_counted_for_every_type(tmp_path, dtype, is_compressed):
    path = nifti(tmp_path / "a.nii", np.ones(SHAPE, dtype))
    path.write_bytes(path.read_bytes()[:-100])
    if is_compressed:
        path = tmp_path / "a.nii.gz"
        path.write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    size = np.dtype(dtype).itemsize
    assert fault(path) == ("is truncated", f"{210 * size - 100} bytes of voxels")


def test_a_cut_gipl_file_which_itk_fills_up_is_truncated(tmp_path):
    path = tmp_path / "a.gipl"
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((7, 6, 5), np.int16)), path)
    assert require_sound(path, "a") == 0
    path.write_bytes(path.read_bytes()[:-20])
    assert fault(path) == ("is truncated", "400 bytes of voxels")


def test_nan_and_infinity_are_counted_in_what_is_stored(tmp_path):
    voxels = np.zeros(SHAPE, np.float32)
    voxels[0, 0, :3] = np.nan, np.inf, -np.inf
    assert require_sound(nifti(tmp_path / "a.nii.gz", voxels), "a") == 3
    assert require_sound(nifti(tmp_path / "a.nii.gz", voxels.astype(">f8")), "a") == 3


SHEARED = np.array([[1, 0.03, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]])
TWO_GRIDS = "has a header that says two geometries"
AXES = "has axes that are not perpendicular"


@pytest.mark.parametrize("header, check, found", [
    ({"pixdim": [1, 1, 1, 1, 1, 1, 1, 1], "qform_code": 0}, TWO_GRIDS, "spacing 1, 1, 1 and 0.7, 0.8, 2.5 mm"),
    ({"sform": (moved(5, 5, 5), 2), "qform": (np.eye(4), 1)}, TWO_GRIDS, "origin 0, 0, 0 and -5, -5, 5 mm"),
    ({"sform": (np.diag([1, 1, -1, 1.0]), 4), "qform": (moved(0, 0, -6), 1)}, TWO_GRIDS, ""),
    ({"affine": SHEARED}, AXES, "a cosine of 0.03"),
    ({"sform": (SHEARED, 1), "qform": (np.eye(4), 1)}, AXES, "a cosine of 0.03"),
])
def test_a_header_has_to_mean_one_straight_grid_to_both_readers(tmp_path, header, check, found):
    path = nifti(tmp_path / "a.nii.gz", **header)
    assert fault(path)[0] == check and found in fault(path)[1]
    assert fault(path, with_voxels=False) == fault(path)


def test_a_grid_of_nan_is_no_straight_grid(tmp_path):
    path = with_bytes(nifti(tmp_path / "a.nii"), SROW_X, "f", np.nan)
    assert fault(path) == (AXES, "a cosine of nan between two axes")


def test_axes_of_other_formats_have_to_be_perpendicular_too(tmp_path):
    (tmp_path / "a.mha").write_text("ObjectType = Image\nNDims = 3\nBinaryData = True\nTransformMatrix = 1 0 0 0.05 1 "
                                    "0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 1 1\nDimSize = 2 2 2\n"
                                    "ElementType = MET_UCHAR\nElementDataFile = LOCAL\n12345678")
    assert fault(tmp_path / "a.mha") == (AXES, "a cosine of 0.05 between two axes")


@pytest.mark.parametrize("dtype, found", [([("R", "u1"), ("G", "u1"), ("B", "u1")], "3 components (RGB)"),
                                          ([(c, "u1") for c in "RGBA"], "4 components (RGBA)"), ("c8", "2 components")])
def test_several_values_per_voxel_are_named(tmp_path, dtype, found):
    path = nifti(tmp_path / "a.nii.gz", np.zeros(SHAPE, dtype))
    assert fault(path) == ("has several values per voxel", found)


def test_a_scale_of_intensities_that_readers_take_differently_is_named(tmp_path):
    for slope, inter in ((0, 1), (np.nan, 5), (2, np.nan)):
        path = with_bytes(with_bytes(nifti(tmp_path / "a.nii"), SLOPE, "f", slope), INTER, "f", inter)
        assert fault(path) == ("has a scale of intensities that readers take differently",
                               f"scl_slope {slope:g}, scl_inter {inter:g}")
    for slope, inter in ((0, 0), (np.nan, np.nan), (2, 1), (1, 0)):
        path = with_bytes(with_bytes(nifti(tmp_path / "a.nii"), SLOPE, "f", slope), INTER, "f", inter)
        assert require_sound(path, "a") == 0


def test_a_header_without_a_type_or_a_place_for_its_voxels_is_named(tmp_path):
    assert fault(with_bytes(nifti(tmp_path / "a.nii"), DATATYPE, "h", 9999))[0] == "has voxels of an unknown type"
    assert fault(with_bytes(nifti(tmp_path / "a.nii"), OFFSET, "f", np.nan))[1] == "vox_offset nan"


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (1, 6, 7), (1, 1, 1), (5, 6, 7, 1)])
def test_small_flat_and_two_dimensional_images_are_sound(tmp_path, shape):
    assert require_sound(nifti(tmp_path / "a.nii.gz", np.ones(shape, np.float32)), "a") == 0


@pytest.mark.parametrize("sform_code, qform_code", [(0, 0), (1, 0), (0, 1), (1, 1), (2, 1), (4, 3)])
def test_oblique_grids_are_sound_whichever_form_says_them(tmp_path, sform_code, qform_code):
    for seed in range(20):
        generator = np.random.default_rng(seed)
        affine = moved(*generator.uniform(-300, 300, 3))
        affine[:3, :3] = np.linalg.qr(generator.normal(size=(3, 3)))[0] * generator.uniform(0.3, 6, 3)
        path = nifti(tmp_path / "a.nii.gz", None, affine, (affine, sform_code), (affine, qform_code))
        assert require_sound(path, "a") == 0


def test_a_two_dimensional_image_may_lie_obliquely_in_space(tmp_path):
    sagittal = np.array([[0, 0, 1, 0], [1.5, 0, 0, 0], [0, 2.5, 0, 0], [0, 0, 0, 1.0]])
    assert require_sound(nifti(tmp_path / "a.nii.gz", np.ones((5, 6), np.int16), sagittal), "a") == 0


def test_an_uncompressed_file_named_nii_gz_holds_the_same_image(tmp_path):
    path, plain = tmp_path / "a.nii.gz", nifti(tmp_path / "a.nii")
    path.write_bytes(plain.read_bytes())
    assert require_sound(path, "a") == 0
    np.testing.assert_array_equal(load_nifti(path).dataobj, np.arange(210).reshape(SHAPE))
    np.testing.assert_array_equal(load_nifti(path).affine, nibabel.load(plain).affine)


SHOWN = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif"])
def test_a_photograph_is_turned_as_pillow_shows_it_and_only_then_refused(tmp_path, orientation, ending):
    from PIL import ImageOps

    path = tmp_path / f"a{ending}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.kron(SHOWN, np.ones((8, 8), np.uint8))).save(path, exif=exif)
    stored = io.imread(path)
    assert exif_orientation(path) == orientation
    tagged = Image.fromarray(stored)
    tagged.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(upright(stored, orientation), np.asarray(ImageOps.exif_transpose(tagged)))
    if orientation == 1:
        assert require_sound(path, "a") == 0
    else:
        assert fault(path) == ("is stored turned or mirrored", f"EXIF orientation {orientation}")


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"bigtiff": True}, {"byteorder": ">"}])
def test_a_picture_whose_end_is_missing_is_truncated_though_its_reader_is_content(tmp_path, options):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, **{name: options[name] for name in options if name != "compression"}) as pages:
        for page in np.random.default_rng(0).integers(0, 255, (9, 24, 24)).astype(np.uint8):
            pages.write(page, contiguous=False, compression=options.get("compression"))
    assert require_sound(path, "a") == 0
    for share in (0.3, 0.6):
        cut = tmp_path / "cut.tif"
        cut.write_bytes(path.read_bytes()[:int(share * path.stat().st_size)])
        assert fault(cut) == ("is truncated", f"a picture that ends early, after {cut.stat().st_size} bytes")
    io.imsave(tmp_path / "a.png", np.zeros((8, 8), np.uint8), check_contrast=False)
    assert require_sound(tmp_path / "a.png", "a") == 0
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:50])
    assert fault(tmp_path / "a.png")[0] == "is truncated"
