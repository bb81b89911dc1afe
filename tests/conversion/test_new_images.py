"""New images take the form of the converted dataset, and what is of another kind is refused by name."""

import numpy as np
import pytest
from skimage import io

from medsegdiff_auto.cli.convert import main
from medsegdiff_auto.dataset_conversion.core.folder_flags import add_folder_flags, folder_words
from medsegdiff_auto.cli.command import CommandParser


@pytest.fixture
def dataset(convert, tmp_path, picture, noise):
    """``dataset(shape)``: two converted pictures of this shape."""
    def write(*shape):
        for case in ("anna", "bert"):
            picture(tmp_path / "mine" / "images" / f"{case}.png", noise(*shape))
            picture(tmp_path / "mine" / "masks" / f"{case}.png", np.eye(6, dtype=np.uint8))
        return convert("folder", tmp_path / "mine").folder

    return write


def take(dataset, source, target, *flags):
    return main(["images", "-i", str(source), "-o", str(target), "--like", str(dataset), *flags])


def test_pictures_of_any_format_arrive_as_they_are_with_a_channel_number(dataset, tmp_path, picture, noise):
    pixels, raw = noise(8, 9), dataset(6, 6)
    picture(tmp_path / "new" / "carl.tif", pixels)
    picture(tmp_path / "new" / "dora.png", pixels + 1)
    assert take(raw, tmp_path / "new", tmp_path / "taken") == 0
    for case, expected in (("carl", pixels), ("dora", pixels + 1)):
        np.testing.assert_array_equal(io.imread(tmp_path / "taken" / f"{case}_0000.png"), expected)


def test_a_channel_number_is_no_part_of_the_name_and_what_is_there_is_left_as_it_is(dataset, tmp_path, picture, noise):
    raw, file = dataset(6, 6, 3), tmp_path / "taken" / "carl_0000.png"
    picture(tmp_path / "new" / "carl_0000.png", noise(6, 6, 3))
    assert take(raw, tmp_path / "new", tmp_path / "taken") == 0
    before = file.stat().st_mtime_ns
    picture(tmp_path / "new" / "dora_0000.png", noise(6, 6, 3))
    assert take(raw, tmp_path / "new", tmp_path / "taken") == 0
    assert file.stat().st_mtime_ns == before
    assert sorted(path.name for path in (tmp_path / "taken").iterdir()) == ["carl_0000.png", "dora_0000.png"]


def test_an_image_that_is_no_longer_among_the_new_ones_is_not_predicted_with_them(dataset, tmp_path, picture, noise,
                                                                                 capsys):
    raw = dataset(6, 6)
    for name in ("carl", "dora"):
        picture(tmp_path / "new" / f"{name}.png", noise(6, 6))
    assert take(raw, tmp_path / "new", tmp_path / "taken") == 0
    (tmp_path / "new" / "carl.png").unlink()
    assert take(raw, tmp_path / "new", tmp_path / "taken") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and "not among the new ones" in lines[0] and "carl_0000.png" in lines[1]
    assert (tmp_path / "taken" / "carl_0000.png").is_file()  # nothing is lost
    (tmp_path / "taken" / "carl_0000.png").unlink()
    assert take(raw, tmp_path / "new", tmp_path / "taken") == 0


def test_channels_in_files_of_their_own_keep_their_order(convert, tmp_path, nifti, noise):
    for case in ("anna", "bert"):
        for channel in ("T1", "FLAIR"):
            nifti(tmp_path / "mine" / "images" / f"{case}_{channel}.nii.gz", noise(4, 5, 6))
        nifti(tmp_path / "mine" / "masks" / f"{case}.nii.gz", noise(4, 5, 6) % 2)
    channels = ["--channels", "T1", "FLAIR"]
    raw = convert("folder", tmp_path / "mine", "--images", "images/{case}_{channel}", *channels).folder
    files = {channel: nifti(tmp_path / "new" / f"carl_{channel}.nii.gz", noise(4, 5, 6)) for channel in ("T1", "FLAIR")}
    assert take(raw, tmp_path / "new", tmp_path / "taken", "--images", "{case}_{channel}", *channels) == 0
    for number, channel in enumerate(("T1", "FLAIR")):
        assert (tmp_path / "taken" / f"carl_000{number}.nii.gz").read_bytes() == files[channel].read_bytes()


def test_an_image_of_another_kind_is_named_and_the_others_are_taken(dataset, tmp_path, picture, nifti, noise, capsys):
    raw = dataset(6, 6)
    picture(tmp_path / "new" / "grey.png", noise(6, 6))
    picture(tmp_path / "new" / "colour.png", noise(6, 6, 3))
    nifti(tmp_path / "new" / "volume.nii.gz", noise(4, 5, 6))
    assert take(raw, tmp_path / "new", tmp_path / "taken") == 1
    out = capsys.readouterr().out
    assert "not taken: colour: it has 3 channels, expected 1" in out
    assert "not taken: volume: volume.nii.gz is a volume" in out
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["grey_0000.png"]


@pytest.mark.parametrize("write, found", [
    (lambda new, picture, noise: picture(new / "a.png", noise(6, 6, 3)), "a: it has 3 channels, expected 1"),
    (lambda new, picture, noise: (new / "a.nii.gz").write_bytes(b"0"), "a.nii.gz is a volume"),
    (lambda new, picture, noise: (new / "a.txt").touch(), "a.txt"),
    (lambda new, picture, noise: new.rmdir(), "nothing there")])
def test_a_folder_without_an_image_of_the_kind_is_refused_in_four_lines(dataset, tmp_path, picture, noise, capsys,
                                                                        write, found):
    raw = dataset(6, 6)
    (tmp_path / "new").mkdir()
    write(tmp_path / "new", picture, noise)
    assert take(raw, tmp_path / "new", tmp_path / "taken") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and found in lines[1] and not (tmp_path / "taken").exists()


@pytest.mark.parametrize("words", [
    [], ["--grey", "--threshold", "0.5"], ["--images", "scans/{case}_{channel}", "--channels", "T1", "FLAIR"],
    ["--labels", "disc=1", "cup=2", "--regions", "--patient", "^(P[0-9]+)_"]])
def test_the_words_of_a_folder_are_said_again_as_they_were_typed(words):
    parser = CommandParser(prog="any")
    add_folder_flags(parser)
    again = folder_words(parser.parse_args(words))
    assert sorted(again) == sorted(words) and parser.parse_args(again) == parser.parse_args(words)
