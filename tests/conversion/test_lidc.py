"""LIDC: four raters' masks of crops, and outlines of the XML files filled on the slices that they name."""

import numpy as np
import pytest
import SimpleITK as sitk
from skimage import io

SHAPE_ZYX = (4, 12, 10)
RADIOGRAPH = "1.2.840.10008.5.1.4.1.1.1.1"  # a SOP class
NAMESPACE = 'xmlns="http://www.nih.gov"'


@pytest.fixture
def crops(tmp_path, picture, noise):
    """Six crops; k raters marked column k, so that column 2 is the first of the consensus."""
    root = tmp_path / "crops"
    for number in range(6):
        picture(root / "images" / f"lidc_tr_{number:03d}.png", noise(6, 5))
        for rater in range(1, 5):
            mask = np.zeros((6, 5), np.uint8)
            mask[:, 5 - rater:] = 1
            picture(root / f"labels_rater{rater}" / f"lidc_tr_{number:03d}.png", mask)
    return root


def square(x: int, y: int, side: int) -> list[tuple[int, int]]:
    """The pixels along the border of a square, in order."""
    steps = range(side - 1)
    return ([(x + i, y) for i in steps] + [(x + side - 1, y + i)
                                           for i in steps] + [(x + side - 1 - i, y + side - 1)
                                                              for i in steps] + [(x, y + side - 1 - i)
                                                                                 for i in steps] + [(x, y)])


def roi(sop_uid: str, points, inclusion="TRUE") -> str:
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
    place = f"<imageZposition>0</imageZposition><imageSOP_UID>{sop_uid}</imageSOP_UID>"
    return f"<roi>{place}<inclusion>{inclusion}</inclusion>{edges}</roi>"


def xml(uid: str, *sessions: str) -> str:
    body = "".join(f"<readingSession><annotationVersion>3.12</annotationVersion>{session}</readingSession>"
                   for session in sessions)
    return (f'<?xml version="1.0" encoding="UTF-8"?><LidcReadMessage {NAMESPACE} '
            f'uid="1"><ResponseHeader><SeriesInstanceUid>{uid}'
            f"</SeriesInstanceUid></ResponseHeader>{body}</LidcReadMessage>")


def nodule(*rois: str) -> str:
    return f"<unblindedReadNodule><noduleID>1</noduleID>{''.join(rois)}</unblindedReadNodule>"


@pytest.fixture
def collection(tmp_path, noise, dicom_series):
    """Two patients with a CT each; three of four radiologists outlined a nodule on the second slice, one with a hole.
    """
    root = tmp_path / "LIDC-IDRI"
    for number in (1, 2):
        uid, folder = f"1.2.3.{number}", root / f"LIDC-IDRI-{number:04d}" / "1.2.9" / f"1.2.3.{number}"
        slices = dicom_series(folder, uid, noise(*SHAPE_ZYX, dtype=np.int16) - 100)
        outer, hole = roi(slices[1], square(2, 3, 6)), roi(slices[1], square(3, 4, 4), "FALSE")
        small = roi(slices[0], [(1, 1)])
        (folder / "069.xml").write_text(xml(uid, nodule(outer), nodule(outer, hole), nodule(small) + nodule(outer), ""))
    return root


def interior(x: int, y: int, side: int) -> np.ndarray:
    """What lies strictly within ``square``, on the second slice, ``(z, y, x)``."""
    mask = np.zeros(SHAPE_ZYX, np.uint8)
    mask[1, y + 1:y + side - 1, x + 1:x + side - 1] = 1
    return mask


def test_every_rater_arrives_and_half_of_them_make_the_label(convert, crops, require_intact):
    from medsegdiff_auto.files.rater_folders import rater_folders

    done = convert("lidc", crops, "--raters")
    assert done.code == 0 and [folder.name for folder in rater_folders(done.folder)
                               ] == ["rater_1", "rater_2", "rater_3", "rater_4"]
    for number in range(6):
        name = f"lidc_tr_{number:03d}.png"
        for rater in range(1, 5):
            np.testing.assert_array_equal(done.voxels(f"labelsTr_raters/rater_{rater}/{name}"),
                                          io.imread(crops / f"labels_rater{rater}" / name))
        np.testing.assert_array_equal(done.voxels(f"labelsTr/{name}"),
                                      np.tile(np.array([0, 0, 1, 1, 1], np.uint8), (6, 1)))
    assert "raters: label maps of up to 4 raters for 6 cases" in done.out
    require_intact(done.folder)


def test_without_the_flag_no_rater_is_written(convert, crops):
    assert not (convert("lidc", crops).folder / "labelsTr_raters").exists()


def test_crops_named_by_a_prefix_become_test_cases_with_their_raters(convert, crops):
    done = convert("lidc", crops, "--raters", "--test", "lidc_tr_005")
    assert done.files("labelsTs_raters/rater_4") == ["lidc_tr_005.png"] and len(done.files("labelsTr")) == 5


def test_faults_of_single_crops_are_listed(convert, crops, picture):
    (crops / "labels_rater3" / "lidc_tr_001.png").unlink()
    picture(crops / "labels_rater2" / "lidc_tr_002.png", np.full((6, 5), 7, np.uint8))
    picture(crops / "labels_rater4" / "lidc_tr_003.png", np.zeros((6, 4), np.uint8))
    done = convert("lidc", crops)
    assert done.code == 1 and len(done.files("labelsTr")) == 3
    assert "lidc_tr_001: image without a mask: lidc_tr_001.png (labels_rater3)" in done.out
    assert "lidc_tr_002: labels_rater2 holds the label 7, expected 0, 1, 255" in done.out
    assert "lidc_tr_003: labels_rater4 has a mask of 6 x 4 pixels, expected 6 x 5 as the image" in done.out


def test_outlines_are_filled_within_and_holes_are_cut_out(convert, collection, require_intact):
    done = convert("lidc", collection, "--raters")
    assert done.code == 0 and done.files("labelsTr") == ["LIDC-IDRI-0001.nii.gz", "LIDC-IDRI-0002.nii.gz"]
    whole, empty = interior(2, 3, 6), np.zeros(SHAPE_ZYX, np.uint8)
    with_hole = whole - interior(3, 4, 4)
    for rater, expected in enumerate((whole, with_hole, whole, empty), start=1):
        np.testing.assert_array_equal(done.voxels(f"labelsTr_raters/rater_{rater}/LIDC-IDRI-0001.nii.gz").T, expected)
    np.testing.assert_array_equal(done.voxels("labelsTr/LIDC-IDRI-0001.nii.gz").T, whole)
    require_intact(done.folder)


def test_the_series_keeps_its_intensities_and_geometry(convert, collection):
    done = convert("lidc", collection)
    folder = collection / "LIDC-IDRI-0001" / "1.2.9" / "1.2.3.1"
    original = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    written = sitk.ReadImage(str(done.folder / "imagesTr" / "LIDC-IDRI-0001_0000.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(original))
    assert written.GetSpacing() == original.GetSpacing() == (0.703125, 0.703125, 2.5)
    assert written.GetOrigin() == original.GetOrigin() == (-166.0, -171.5, -100.0)
    assert written.GetDirection() == original.GetDirection()


def test_xml_files_in_a_folder_of_their_own_are_found_by_their_series(convert, collection):
    for number, file in enumerate(sorted(collection.rglob("*.xml"))):
        (collection / "tcia-lidc-xml").mkdir(exist_ok=True)
        file.rename(collection / "tcia-lidc-xml" / f"{9 - number}.xml")
    assert convert("lidc", collection).code == 0


def test_radiographs_are_left_out_and_a_second_ct_stays_with_its_patient(convert, collection, noise, dicom_series):
    patient = collection / "LIDC-IDRI-0001" / "1.2.10"
    dicom_series(patient / "1.2.4", "1.2.4", noise(1, 12, 10, dtype=np.int16), RADIOGRAPH)
    slices = dicom_series(patient / "1.2.5", "1.2.5", noise(*SHAPE_ZYX, dtype=np.int16))
    (patient / "1.2.5" / "070.xml").write_text(xml("1.2.5", nodule(roi(slices[2], square(1, 1, 4)))))
    done = convert("lidc", collection)
    assert done.code == 0 and "3 training cases of 2 patients" in done.out
    assert "LIDC-IDRI-0001: 1.2.4 holds no CT images" in done.out
    assert {"LIDC-IDRI-0001", "LIDC-IDRI-0001_2"} in [set(fold["val"]) for fold in done.splits]


def test_faults_of_single_series_are_listed(convert, collection, noise, dicom_series):
    for number, heights in ((3, [0.0, 2.5, 7.5, 10.0]), (4, None), (5, None), (6, None)):
        uid, folder = f"1.2.3.{number}", collection / f"LIDC-IDRI-{number:04d}" / "1.2.9" / f"1.2.3.{number}"
        dicom_series(folder, uid, noise(*SHAPE_ZYX, dtype=np.int16), heights_mm=heights)
        if number != 5:
            (folder / f"{number}.xml").write_text(xml(uid, nodule(roi("1.2.3.99", square(1, 1, 4)))))
    next((collection / "LIDC-IDRI-0006").rglob("*.xml")).write_text("<LidcReadMessage><Respons")
    done = convert("lidc", collection)
    assert done.code == 1 and len(done.files("labelsTr")) == 2
    assert "LIDC-IDRI-0003: its slices are not evenly spaced, 2.5 to 5 mm: some are missing or double" in done.out
    assert "LIDC-IDRI-0004: 4.xml outlines a slice that is not in the series: 1.2.3.99" in done.out
    assert "LIDC-IDRI-0005: image without a mask: no XML file describes the series 1.2.3.5" in done.out
    assert "6: 6.xml cannot be read" in done.out


@pytest.mark.parametrize("missing", ["labels_rater4"])
def test_crops_without_a_rater_s_folder_are_refused(convert, crops, missing):
    (crops / missing).rename(crops / "aside")
    assert f"{missing}/*.png is missing" in convert("lidc", crops).err


@pytest.mark.shared_data
def test_the_originals_arrive_pixel_for_pixel(shared_data, convert, require_intact):
    root = shared_data / "originals" / "lidc_four_raters"
    done = convert("lidc", root, "--raters")
    assert done.code == 0 and len(done.files("imagesTr")) == 28
    for path in (root / "images").iterdir():
        np.testing.assert_array_equal(done.voxels(f"imagesTr/{path.stem}_0000.png"), io.imread(path))
        masks = [io.imread(root / f"labels_rater{rater}" / path.name) for rater in range(1, 5)]
        for rater, mask in enumerate(masks, start=1):
            np.testing.assert_array_equal(done.voxels(f"labelsTr_raters/rater_{rater}/{path.name}"), mask)
        np.testing.assert_array_equal(done.voxels(f"labelsTr/{path.name}"), np.sum(masks, axis=0) >= 2)
    require_intact(done.folder)
