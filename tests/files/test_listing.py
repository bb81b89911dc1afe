"""Every file of a folder is taken by a rule, left alone as nobody's data, or reported by name."""

import os

import pytest

from medsegdiff_auto.files.listing import (commonest_ending, ending_of, files_of, is_foreign, listed, visible,
                                           visible_below)

FOREIGN = ("._case_0000.nii.gz", ".DS_Store", ".hidden.nii.gz", "Thumbs.db", "desktop.ini", "AUTORUN.INF", "Icon\r")


@pytest.fixture
def folder(tmp_path):
    for name in ("b_0000.nii.gz", "a_0000.nii.gz", *FOREIGN):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "__MACOSX").mkdir()
    return tmp_path


def only_finding(folder, ending=".nii.gz"):
    taken, findings = files_of(folder, ending, "imagesTr/")
    assert [path.name for path in taken] == ["a_0000.nii.gz", "b_0000.nii.gz"]
    assert len(findings) == 1
    return findings[0]


def test_hidden_files_and_those_that_systems_leave_are_nobodys_and_are_not_reported(folder):
    assert files_of(folder, ".nii.gz") == ([folder / "a_0000.nii.gz", folder / "b_0000.nii.gz"], [])
    assert all(map(is_foreign, FOREIGN)) and not any(map(is_foreign, ("a_._b.nii.gz", "thumbs.png", "Autorun_1.nii")))


def test_a_link_to_a_file_is_a_file(folder):
    os.symlink(folder / "a_0000.nii.gz", folder / "c_0000.nii.gz")
    taken, findings = files_of(folder, ".nii.gz")
    assert taken[-1] == folder / "c_0000.nii.gz" and findings == []


def make_link_to_itself(path):
    os.symlink(path, path)


OBSTACLES = {
    "link to nowhere": (lambda path: os.symlink("/gone.nii.gz", path), "a link to /gone.nii.gz"),
    "link to itself": (make_link_to_itself, "a link to "),
    "folder": (lambda path: path.mkdir(), "a folder"),
    "pipe": (os.mkfifo, "a pipe, a socket or a device"),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_what_is_no_file_in_the_place_of_an_image_is_an_error_with_its_name(folder, obstacle):
    make, found = OBSTACLES[obstacle]
    make(folder / "c_0000.nii.gz")
    finding = only_finding(folder)
    assert (finding.file, finding.severity) == ("imagesTr/c_0000.nii.gz", "error") and finding.found.startswith(found)


@pytest.mark.parametrize("name, found, fix", [
    ("c_0000.NII.GZ", ".NII.GZ", "rename it to c_0000.nii.gz"),
    ("c_0000.Nii.gz", ".Nii.gz", "rename it to c_0000.nii.gz"),
    ("c_0000.nii", ".nii", "convert it to c_0000.nii.gz, or move it elsewhere"),
    ("c_0000.hdr", ".hdr", "convert it to c_0000.nii.gz, or move it elsewhere"),
    ("c_0000.img", ".img", "convert it to c_0000.nii.gz, or move it elsewhere"),
    ("c.dcm", ".dcm", "convert it to c.nii.gz, or move it elsewhere"),
])
def test_an_image_with_another_ending_is_an_error_with_the_name_that_it_should_have(folder, name, found, fix):
    (folder / name).write_bytes(b"")
    finding = only_finding(folder)
    assert (finding.file, finding.severity) == (f"imagesTr/{name}", "error")
    assert (finding.found, finding.fix) == (found, fix)


def test_a_picture_beside_volumes_is_a_warning_and_a_volume_beside_pictures_an_error(folder):
    (folder / "preview.png").write_bytes(b"")
    assert only_finding(folder).severity == "warning"
    assert [(one.file, one.severity) for one in files_of(folder, ".png")[1]] == [
        ("a_0000.nii.gz", "error"), ("b_0000.nii.gz", "error")]


def test_other_files_and_folders_are_one_warning_that_names_them(folder):
    (folder / "README.md").write_text("read me")
    (folder / "old").mkdir()
    finding = only_finding(folder)
    assert (finding.file, finding.found, finding.severity) == ("imagesTr", "README.md, old/", "warning")


def test_the_spacing_beside_a_tiff_belongs_to_it(tmp_path):
    for name in ("a_0000.tif", "a.json"):
        (tmp_path / name).write_text("{}")
    assert files_of(tmp_path, ".tif") == ([tmp_path / "a_0000.tif"], [])
    assert [one.found for one in files_of(tmp_path, ".png")[1]] == [".tif", "a.json"]


def test_the_longest_ending_counts_and_is_kept_as_written():
    assert [ending_of(name) for name in ("a.nii.gz", "a.b.NII", "a.tiff", "a.gz", ".nii")] == [
        ".nii.gz", ".NII", ".tiff", "", ".nii"]


def test_the_commonest_ending_is_that_of_visible_image_files(folder):
    (folder / "c.nii").write_bytes(b"")
    assert commonest_ending(folder) == ".nii.gz"
    for name in ("a_0000.nii.gz", "b_0000.nii.gz", "c.nii"):
        (folder / name).unlink()
    assert commonest_ending(folder) is None


def test_linked_folders_are_entered_by_every_name_and_a_circle_ends(tmp_path):
    store, root = tmp_path / "store", tmp_path / "root"
    store.mkdir(), root.mkdir()
    (store / "a.png").write_bytes(b"")
    (store / ".hidden").mkdir()
    (store / ".hidden" / "b.png").write_bytes(b"")
    os.symlink(store, root / "images"), os.symlink(root, store / "back"), os.symlink(store, root / "masks")
    found = [path.relative_to(root).as_posix() for path in visible_below(root)]
    assert found == ["images", "masks", "images/a.png", "images/back", "masks/a.png", "masks/back"]
    assert [path.name for path in visible(store)] == ["a.png", "back"]


def test_a_pattern_lists_visible_entries_through_links_and_none_of_a_foreign_folder(tmp_path):
    store, root = tmp_path / "store", tmp_path / "root"
    for folder in (store / "deep", root / "__MACOSX"):
        folder.mkdir(parents=True)
    for file in (store / "b.png", store / "._b.png", store / "deep" / "a.png", root / "__MACOSX" / "b.png"):
        file.write_bytes(b"")
    os.symlink(store, root / "images")
    assert listed(root, "*/*.png") == [root / "images" / "b.png"]
    assert listed(root, "**/*.png") == [root / "images" / "b.png", root / "images" / "deep" / "a.png"]
    assert listed(root / "nowhere", "*.png") == []
