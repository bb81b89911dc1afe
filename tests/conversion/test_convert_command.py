"""The command: what it prints, refuses, continues and replaces."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from medsegdiff_auto.cli.convert import main
from medsegdiff_auto.dataset_conversion.core import case_files, conversion
from medsegdiff_auto.dataset_conversion.core.registry import converter_names, load_converter
from medsegdiff_auto.dataset_conversion.core.source import Converter


def first_line(done) -> str:
    lines = done.err.splitlines()
    assert done.code == 2 and len(lines) == 4, done.err
    return lines[0]


@pytest.mark.parametrize("name", converter_names())
def test_every_module_is_a_converter_that_says_what_it_is_and_how_to_get_it(name):
    converter = load_converter(name)
    assert isinstance(converter, Converter) and converter.__doc__
    for field in ("title", "modality", "task", "licence", "citation", "homepage"):
        assert len(getattr(converter.about, field)) > 1, field


def test_the_list_names_every_source_with_its_licence_and_citation(capsys):
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    for name in converter_names():
        assert f"{name}: " in listed
    assert listed.count("licence: ") == listed.count("citation: ") == len(converter_names())


@pytest.mark.parametrize("name", converter_names())
def test_every_source_has_its_own_help(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: medsegdiff_convert {name} ")


@pytest.mark.parametrize("argv, what, fix", [
    (["mds", "-i", "."], "There is no source mds.", "did you mean msd?"),
    (["-i", ".", "-d", "3"], "medsegdiff_convert needs the name of a source.", "--list"),
    (["-d", "3", "msd"], "The name of the source comes first.", "write msd directly after"),
    (["msd", "-i", ".", "-d", "3", "--rater"], "medsegdiff_convert msd has no flag --rater.", "did you mean --raters?"),
    (["msd", "-d", "3"], "medsegdiff_convert msd needs -i.", "add -i"),
])
def test_a_mistake_on_the_command_line_is_refused_in_four_lines(argv, what, fix, capsys):
    try:
        code = main(argv)
    except SystemExit as end:
        code = end.code
    lines = capsys.readouterr().err.splitlines()
    assert code == 2 and len(lines) == 4
    assert lines[0] == f"error: {what}" and fix in lines[3]


def test_a_report_counts_cases_measures_structures_and_says_what_to_type_next(convert, msd_task):
    done = convert("msd", msd_task)
    assert done.code == 0
    assert "Dataset007_Tiny: 6 training cases of 6 patients, 1 test case\n" in done.out
    voxels = [int(np.sum(nib.load(path).dataobj == np.uint8(1))) for path in sorted((msd_task / "labelsTr").iterdir())]
    volumes_ml = [
        count * nib.load(msd_task / "labelsTr" / "tiny_0.nii.gz").header["pixdim"][1:4].prod() / 1000
        for count in voxels
    ]
    stated = f"median {np.median(volumes_ml):.4g} ml ({min(volumes_ml):.4g} to {max(volumes_ml):.4g})"
    assert f"PZ: in 6 of 6 cases, {stated}" in done.out
    assert done.out.splitlines()[-1] == "Next: medsegdiff_plan_and_preprocess -d 7"


def test_dataset_json_says_where_the_data_come_from(convert, msd_task):
    description = convert("msd", msd_task, "--seed", "3").description
    assert description["licence"] == "CC BY-SA 4.0" and description["release"] == "1.0 01/01/2018"
    assert "Antonelli" in description["citation"] and description["reference"] == "http://medicaldecathlon.com"
    provenance = description["provenance"]
    assert provenance["converter"] == "msd" and provenance["seed"] == 3 and len(
        provenance["source_listing_sha256"]) == 64
    assert str(msd_task.parent) not in json.dumps(description)


def test_the_checksum_of_the_listing_changes_with_a_file_and_not_with_the_place(convert, msd_task):
    def checksum() -> str:
        return convert("msd", source, "--overwrite").description["provenance"]["source_listing_sha256"]

    source = msd_task
    first = checksum()
    source = msd_task.rename(msd_task.with_name("elsewhere"))
    assert checksum() == first
    (source / "imagesTr" / "tiny_0.nii.gz").write_bytes((source / "imagesTr" / "tiny_0.nii.gz").read_bytes() + b"\0")
    assert checksum() != first


def test_an_existing_dataset_is_neither_touched_nor_replaced_without_overwrite(convert, msd_task):
    folder = convert("msd", msd_task).folder
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert first_line(convert("msd", msd_task)) == "error: Dataset007_Tiny exists already."
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    (folder / "own_note.txt").write_text("of the former dataset")
    assert convert("msd", msd_task, "--overwrite").code == 0
    assert not (folder / "own_note.txt").exists() and len(list((folder / "labelsTr").iterdir())) == 6


def test_an_id_that_belongs_to_another_dataset_is_refused_even_with_overwrite(convert, msd_task, raw_folder):
    (raw_folder / "Dataset007_Other").mkdir()
    assert first_line(convert("msd", msd_task, "--overwrite")) == "error: The ID 7 belongs to another dataset."


def test_a_preprocessed_folder_of_the_former_dataset_is_pointed_out(convert, msd_task, tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    (tmp_path / "preprocessed" / "Dataset007_Tiny").mkdir(parents=True)
    assert f"Before: rm -r {tmp_path / 'preprocessed' / 'Dataset007_Tiny'}" in convert("msd", msd_task).out


@pytest.mark.parametrize("flags, what", [
    (["-d", "1000"], "The dataset ID is out of range."),
    (["-np", "0"], "-np must be at least 1."),
    (["--seed", "-1"], "--seed must be at least 0."),
    (["--name", "a/b"], "The name of the dataset cannot be part of a folder's name."),
    (["--raters"], "msd has one reference per case."),
])
def test_values_out_of_range_are_refused(convert, msd_task, flags, what):
    assert first_line(convert("msd", msd_task, *flags)) == f"error: {what}"


def test_a_source_that_is_not_there_and_an_unset_raw_folder_are_refused(convert, msd_task, monkeypatch):
    assert first_line(convert("msd", msd_task / "nowhere")).endswith("nowhere is not a folder.")
    monkeypatch.delenv("nnUNet_raw")
    assert first_line(convert("msd", msd_task)) == "error: The environment variable nnUNet_raw is not set."


def test_a_corrupt_file_is_listed_and_the_other_cases_are_converted(convert, msd_task, require_intact):
    image, label = msd_task / "imagesTr" / "tiny_2.nii.gz", msd_task / "labelsTr" / "tiny_4.nii.gz"
    image.write_bytes(image.read_bytes()[:-40])
    label.write_bytes(b"no NIfTI at all")
    done = convert("msd", msd_task)
    assert done.code == 1
    assert "not converted: 2" in done.out
    assert "tiny_2: tiny_2.nii.gz cannot be read" in done.out and "tiny_4: tiny_4.nii.gz cannot be read" in done.out
    assert done.files("labelsTr") == [f"tiny_{number}.nii.gz" for number in (0, 1, 3, 5)]
    assert [omission["name"] for omission in done.description["provenance"]["not_converted"]] == ["tiny_2", "tiny_4"]
    assert {case for fold in done.splits for case in fold["val"]} == {"tiny_0", "tiny_1", "tiny_3", "tiny_5"}
    require_intact(done.folder)


def test_a_source_in_which_everything_is_corrupt_gives_an_error_and_no_dataset(convert, msd_task):
    for path in (msd_task / "labelsTr").iterdir():
        path.write_bytes(b"broken")
    done = convert("msd", msd_task)
    assert first_line(done) == "error: No training case could be converted." and done.folder is None


def test_a_full_disk_ends_with_four_lines_and_the_same_command_continues(convert, msd_task, raw_folder, monkeypatch,
                                                                         caplog):
    written = []

    def until_full(content, path):
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path.stem)
        write_json(content, path)

    write_json = case_files.write_json
    monkeypatch.setattr(case_files, "write_json", until_full)
    done = convert("msd", msd_task)
    assert first_line(done) == "error: The disk is full." and "it continues where it stopped" in done.err
    assert done.folder is None
    monkeypatch.setattr(case_files, "write_json", write_json)
    converted = []
    convert_case = case_files.convert_case
    monkeypatch.setattr("medsegdiff_auto.dataset_conversion.core.workers.convert_case",
                        lambda name, case, target: converted.append(case.name) or convert_case(name, case, target))
    with caplog.at_level("INFO", logger="medsegdiff_auto"):
        done = convert("msd", msd_task)
    assert "Continuing: 3 of 7 cases were converted before." in caplog.text
    assert done.code == 0 and sorted(converted + written) == [*(f"tiny_{number}" for number in range(6)), "tiny_9"]
    assert len(done.files("labelsTr")) == 6 and [path.name for path in raw_folder.iterdir()] == ["Dataset007_Tiny"]


def test_a_source_that_changed_since_the_interruption_is_converted_from_the_start(convert, msd_task, raw_folder,
                                                                                  monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(conversion, "_write_splits", stop)
        done = convert("msd", msd_task)
    assert done.code == 130 and "The same command continues" in done.err
    records = raw_folder / ".Dataset007_Tiny.partial" / ".records"
    assert len(list(records.iterdir())) == 7
    label = msd_task / "labelsTr" / "tiny_0.nii.gz"
    voxels = np.asanyarray(nib.load(label).dataobj).copy()
    voxels[:] = 2
    nib.save(nib.Nifti1Image(voxels, nib.load(label).affine), label)
    np.testing.assert_array_equal(convert("msd", msd_task).voxels("labelsTr/tiny_0.nii.gz"), voxels)


def test_a_killed_conversion_is_continued_and_ends_like_an_undisturbed_one(convert, msd_task, raw_folder, tmp_path):
    undisturbed = convert("msd", msd_task, "-o", str(tmp_path / "other")).folder or next(
        (tmp_path / "other").glob("Dataset*"))
    program = ("import os, signal\nfrom medsegdiff_auto.cli.convert import main\n"
               "from medsegdiff_auto.dataset_conversion.core import case_files\n"
               "write, count = case_files.write_json, []\n"
               "def killed(content, path):\n"
               "    write(content, path); count.append(path)\n"
               "    if len(count) == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
               "case_files.write_json = killed\n"
               f"main(['msd', '-i', {str(msd_task)!r}, '-d', '7', '-np', '1'])")
    killed = subprocess.run([sys.executable, "-c", program], env=os.environ)
    assert killed.returncode == -signal.SIGKILL and not (raw_folder / "Dataset007_Tiny").exists()
    assert len(list((raw_folder / ".Dataset007_Tiny.partial" / ".records").iterdir())) == 4
    (raw_folder / ".Dataset007_Tiny.partial" / "imagesTr" / ".4711.half.nii.gz").write_bytes(b"left by the kill")
    done = convert("msd", msd_task)
    assert done.code == 0
    files = [
        sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        for folder in (undisturbed, done.folder)
    ]
    assert files[0] == files[1]
    for file in files[0]:
        if file.name != "dataset.json":
            assert (undisturbed / file).read_bytes() == (done.folder / file).read_bytes(), file


def test_two_conversions_of_one_dataset_at_once_are_refused(convert, msd_task, raw_folder):
    from medsegdiff_auto.dataset_conversion.core.workplace import workplace

    with workplace(raw_folder, "Dataset007_Tiny", {}):
        assert first_line(convert("msd", msd_task)) == "error: Dataset007_Tiny is being converted by another process."


def test_worker_processes_write_what_one_process_writes(convert, msd_task, tmp_path):
    image = msd_task / "imagesTr" / "tiny_3.nii.gz"
    image.write_bytes(image.read_bytes()[:100])
    alone = convert("msd", msd_task)
    folder = alone.folder.rename(tmp_path / "alone")
    both = convert("msd", msd_task, "-np", "2")
    assert alone.code == both.code == 1 and alone.out == both.out
    for path in sorted(folder.rglob("*.*")):
        if path.name != "dataset.json" and path.is_file():
            assert path.read_bytes() == (both.folder / path.relative_to(folder)).read_bytes()
    assert multiprocessing.active_children() == []


def test_what_a_process_left_that_was_killed_after_its_dataset_was_complete_goes_with_the_next_command(
        convert, msd_task, raw_folder):
    done = convert("msd", msd_task)
    before = {file: file.read_bytes() for file in done.folder.rglob("*") if file.is_file()}
    (raw_folder / ".Dataset007_Tiny.lock").write_text("process 1 on nowhere")
    (raw_folder / ".Dataset007_Tiny.former").mkdir()
    assert first_line(convert("msd", msd_task)) == "error: Dataset007_Tiny exists already."
    assert list(raw_folder.iterdir()) == [done.folder]
    assert {file: file.read_bytes() for file in done.folder.rglob("*") if file.is_file()} == before
