"""The viewer's files: the voxels and positions of the files on disk, and no case, crop or grey that the page is silent
about.
"""

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from PIL import Image
from viewed_folders import AFFINES, HOSTILE, NUM_SAMPLES, build_pictures, build_volumes

from medsegdiff_auto.cli.report import main
from medsegdiff_auto.reporting import page, viewer, viewer_case
from medsegdiff_auto.reporting.model_record import read_model
from medsegdiff_auto.reporting.notes import reader_notes
from medsegdiff_auto.reporting.prediction_record import mean_dice_by_case, read_predictions

FROM_NPM = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"  # dist/niivue.umd.js of 0.69.0
CROPPED = (12, 11, 9)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    root = tmp_path_factory.mktemp("volumes")
    return root, build_volumes(root)


@pytest.fixture(scope="module")
def record(volumes):
    root, model = volumes
    return read_predictions(root / "predictions", root / "labelsTs", json.loads((model / "dataset.json").read_text()))


@pytest.fixture(scope="module")
def shown(volumes, record):
    return viewer.viewer(record, volumes[0] / "imagesTs", "full")


def facts_of(html: str) -> dict:
    return json.loads(re.search(r'id="viewer-facts">([^<]*)<', html).group(1))


def layers_of(html: str) -> dict[str, dict[str, nibabel.Nifti1Image]]:
    """The layers of each case as the page holds them."""
    unpack = lambda key: nibabel.Nifti1Image.from_bytes(
        gzip.decompress(base64.b64decode(re.search(rf'id="{key}">([^<]*)<', html).group(1))))
    return {case["name"]: {name: unpack(key) for name, key in case["layers"].items()}
            for case in facts_of(html)["cases"]}


def test_niivue_is_the_file_that_npm_has_and_its_licence_lies_beside_it():
    folder = page.FILES / "niivue"
    listed = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert listed["niivue.umd.js"] == FROM_NPM
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in listed} == listed
    assert (folder / "LICENSE").read_text().startswith("niivue 0.69.0") and "LICENSE" in listed


def test_every_layer_has_the_values_and_the_positions_of_the_file_on_disk(volumes, shown):
    root, _ = volumes
    found = layers_of(shown)
    assert set(found) == set(AFFINES)
    for case, layers in found.items():
        files = {"prediction": f"predictions/{case}", "reference": f"labelsTs/{case}", "image": f"imagesTs/{case}_0000",
                 "samples": f"predictions/{case}_samples", "uncertainty": f"predictions/{case}_uncertainty"}
        for name, file in files.items():
            on_disk = nibabel.load(root / f"{file}.nii.gz")
            np.testing.assert_allclose(layers[name].affine, on_disk.affine, atol=1e-5)
            values, true = layers[name].get_fdata(), on_disk.get_fdata()
            if name in ("image", "uncertainty"):
                slope, start = layers[name].dataobj.slope, layers[name].dataobj.inter
                assert np.abs(values - true.clip(start, start + 255 * slope)).max() <= 0.51 * slope
            else:
                np.testing.assert_array_equal(values, true)
            assert layers[name].get_data_dtype() == np.uint8


def test_a_colour_picture_is_one_slice_with_its_colours_and_the_rows_downwards(tmp_path):
    model = build_pictures(tmp_path)
    record = read_predictions(tmp_path / "predictions", tmp_path / "labelsTs",
                              json.loads((model / "dataset.json").read_text()))
    html = viewer.viewer(record, tmp_path / "imagesTs", "full")
    for case, layers in layers_of(html).items():
        colours = np.asarray(Image.open(tmp_path / "imagesTs" / f"{case}_0000.png"))
        seen = np.asarray(layers["image"].dataobj)
        assert seen.shape == (20, 16, 1)
        np.testing.assert_array_equal(np.stack([seen[c][:, :, 0].T for c in "RGB"], axis=-1), colours)
        np.testing.assert_array_equal(layers["image"].affine, np.diag([-1, -1, 1, 1]))
        mask = np.asarray(Image.open(tmp_path / "predictions" / f"{case}.png"))
        np.testing.assert_array_equal(np.asarray(layers["prediction"].dataobj)[:, :, 0].T, mask)
        assert layers["samples"].shape == (20, 16, 1, NUM_SAMPLES) and "uncertainty" not in layers
    assert [case["notes"] for case in facts_of(html)["cases"]] == [["Not there: uncertainty."]] * 2


def test_flagged_cases_come_first_and_then_the_worst(record, shown):
    dice = mean_dice_by_case(record)
    names = [case["name"] for case in facts_of(shown)["cases"]]
    assert names == ["permuted", *sorted(("flipped", "oblique"), key=dice.__getitem__)]
    rows = [{key: value for key, value in row.items() if key != "dice"} for row in record.rows]
    unscored = facts_of(viewer.viewer(replace(record, rows=rows, pairs={}), None, "full"))["cases"]
    assert [case["title"] for case in unscored] == ["permuted · flagged · expected Dice 0.700",
                                                    "flipped · expected Dice 0.800", "oblique · expected Dice 0.900"]
    assert [case["absent"] for case in unscored] == [["image", "reference"]] * 3


def test_a_large_case_is_cropped_to_its_structures_and_says_so(volumes, record, shown, monkeypatch):
    monkeypatch.setattr(viewer_case, "LARGEST_CASE_VOX", 2000)
    monkeypatch.setattr(viewer_case, "CROP_MARGIN_VOX", 0)
    html, whole = viewer.viewer(record, volumes[0] / "imagesTs", "full"), layers_of(shown)
    for case in facts_of(html)["cases"]:
        for name, cut in layers_of(html)[case["name"]].items():
            all_of_it = whole[case["name"]][name]
            place = tuple(slice(o, o + n) for o, n in zip(case["offset"], CROPPED))
            assert cut.shape[:3] == CROPPED and case["offset"] == [1, 1, 0] and case["notes"][0] == (
                "Cropped to 12 x 11 x 9 of 14 x 18 x 10 voxels: the structures with a margin of 0.")
            if name != "image":  # its greys are spread anew
                np.testing.assert_array_equal(cut.get_fdata(), all_of_it.get_fdata()[place])
            np.testing.assert_allclose(cut.affine[:, 3], all_of_it.affine @ [*case["offset"], 1], atol=1e-5)


def test_cases_that_do_not_fit_are_named(volumes, record, shown, monkeypatch):
    names = [case["name"] for case in facts_of(shown)["cases"]]
    size_mb = sum(len(text) for text in re.findall(r'id="case-0[^>]*>([^<]*)<', shown)) / 1e6
    images = volumes[0] / "imagesTs"
    with monkeypatch.context() as limits:
        limits.setattr(viewer, "NUM_CASES", {"few": 1})
        few = viewer.viewer(record, images, "few")
    with monkeypatch.context() as limits:
        limits.setattr(viewer, "LIMITS_MB", {"full": size_mb})
        small = viewer.viewer(record, images, "full")
    assert [[case["name"] for case in facts_of(html)["cases"]] for html in (few, small)] == [["permuted"]] * 2
    assert "Left out by --viewer few (at most 1 cases and 16 MB, and no case that is too large for a browser): " + (
        ", ".join(names[1:])) + "." in few
    assert "Left out by --viewer full (at most " in small
    monkeypatch.setattr(viewer_case, "LARGEST_EDGE_VOX", 5)
    assert "No case fits into the 64 MB of the viewer." in viewer.viewer(record, images, "full")


def test_the_command_leaves_the_viewer_out_when_asked(volumes, capsys):
    root, model = volumes
    given = ["-m", str(model), "-p", str(root / "predictions"), "-o", str(root / "none.html")]
    assert main([*given, "--viewer", "none"]) == 0
    html = (root / "none.html").read_text(encoding="utf-8")
    assert "left out by --viewer none" in html and "medsegdiffViewer" not in html
    with pytest.raises(SystemExit) as end:
        main(["-m", str(model), "--viewer", "all"])
    assert end.value.code == 2 and len(capsys.readouterr().err.strip().splitlines()) == 4


def test_what_a_reader_must_know_stands_above_the_numbers(volumes, record):
    folds = read_model(volumes[1])
    (volumes[1] / "fold_1" / "checkpoint_final.pth").rename(volumes[1] / "fold_1" / "checkpoint_latest.pth")
    notes = reader_notes(read_model(volumes[1]), record)
    (volumes[1] / "fold_1" / "checkpoint_latest.pth").rename(volumes[1] / "fold_1" / "checkpoint_final.pth")
    assert [note.split(":")[0][:17] for note in notes] == ["Not calibrated", "Stopped early", "The expected Dice",
                                                           "Few cases", "Flagged"]
    assert "fold_1 has no checkpoint_final.pth; its training was left after 30 epochs" in notes[1]
    assert notes[3].startswith("Few cases: 3 are scored") and notes[4].startswith("Flagged: 2 of 6 structures")
    html = page.document("", "", [("overview", "What this is", "")], [HOSTILE])
    assert html.index('class="notice"') < html.index('id="overview"') and HOSTILE not in html
    (volumes[1] / "sampling.json").touch()
    poor = [row | {"dice": 0.49 if row["structure"] == "organ" else 0.51, "estimate": "fitted"} for row in record.rows]
    fitted = reader_notes(folds, replace(record, rows=poor))
    (volumes[1] / "sampling.json").unlink()
    assert [note.split(":")[0] for note in fitted] == ["Few cases", "Poor scores", "Flagged"]
    assert fitted[1] == "Poor scores: the mean Dice of organ is 0.49, below 0.5."


def test_a_name_that_is_markup_stays_text(shown):
    assert HOSTILE not in shown and "<img src=x" not in shown
    assert facts_of(shown)["structures"][1]["name"] == HOSTILE
