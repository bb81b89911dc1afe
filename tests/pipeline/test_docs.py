"""The commands of the documentation: each is one that its command takes, and those of the how-tos run, one after the
other, on images of one's own.
"""

import importlib
import re
import shlex
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from chain import threads_for_processes

import medsegdiff_auto

DOCS = Path(medsegdiff_auto.__file__).with_name("docs")
PAGES = sorted(DOCS.glob("*.md"))
PROJECT = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
SCRIPTS = dict(re.findall(r'^(medsegdiff_\w+) = "(\S+)"$', PROJECT, re.MULTILINE))
SHORTER = {"convert": "-np 1", "plan_and_preprocess": "--resources tiny -np 1",
           "train": "--iterations 2 -device cpu --seed 0", "calibrate": "-device cpu",
           "find_best_configuration": "-np 1", "predict": "-device cpu --samples 2 --seed 0",
           "audit": "-device cpu --samples 2", "explain": "-device cpu", "evaluate": "-np 1", "compare": "-np 1"}
ELSEWHERE = {  # what is run by the tests of its own, and would take minutes here
    "medsegdiff_run": "tests/cli", "medsegdiff_crossval": "tests/crossval",
    "torchrun": "tests/pipeline/test_distributed",
    "--upgrade": "tests/pipeline/test_upgrade_and_audit", "nnUNet": "tests/pipeline/test_stock_nnunet",
    "--challenge": "tests/handover", "gpu_memory_target": "tests/planning",
    "medsegdiff_doctor": "tests/checks", "export nnUNet": "the place below", "mkdir -p": "the place below"}


def module_of(script: str):
    return importlib.import_module(SCRIPTS[script].split(":")[0])


def lines_of(page: Path) -> list[str]:
    """The command lines of a page, as they are typed."""
    return [line.strip() for line in page.read_text(encoding="utf-8").splitlines()
            if re.match(r"    (medsegdiff_\w+ |torchrun|export |mkdir|nnUNet)", line)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with six images and masks of one's own, new images, and nnU-Net's folders, as the pages name them."""
    root, patch = tmp_path_factory.mktemp("docs"), pytest.MonkeyPatch()
    generator = np.random.default_rng(0)
    for folder, count in (("my_files/images", 6), ("new_images", 2)):
        (root / folder).mkdir(parents=True)
        for number in range(count):
            grid = np.hypot(*(np.indices((40, 48)) - np.array([18 + number, 22])[:, None, None]))
            image = 60 + 90 * (grid < 9) + generator.normal(0, 12, grid.shape)
            name = f"patient{number}" + "_0000" * (folder == "new_images")
            iio.imwrite(root / folder / f"{name}.png", image.clip(0, 255).astype(np.uint8))
            if folder != "new_images":
                (root / "my_files" / "masks").mkdir(exist_ok=True)
                iio.imwrite(root / "my_files" / "masks" / f"{name}.png", (255 * (grid < 9)).astype(np.uint8))
                for rater in "12":
                    (root / "rated_files" / "masks" / f"rater_{rater}").mkdir(parents=True, exist_ok=True)
                    iio.imwrite(root / "rated_files" / "masks" / f"rater_{rater}" / f"{name}.png",
                                (255 * (grid < 8 + int(rater))).astype(np.uint8))
    (root / "rated_files" / "images").symlink_to(root / "my_files" / "images")
    for name in ("raw", "preprocessed", "results"):
        (root / name).mkdir()
        patch.setenv(f"nnUNet_{name}", str(root / name))
    patch.setenv("nnUNet_n_proc_DA", "1"), patch.setenv("nnUNet_def_n_proc", "1")
    patch.chdir(root)
    threads_for_processes(patch)
    run_page("getting_started")
    dataset, = (root / "results").iterdir()
    (root / "model").symlink_to(next(dataset.glob("nnUNetTrainerMedSegDiff__*")))
    (root / "images").symlink_to(root / "new_images")
    (root / "labels").mkdir()
    for file in (root / "predictions").glob("patient*.png"):  # predictions stand for the labels of new images
        if not file.stem.endswith(("_uncertainty", "_samples")):
            (root / "labels" / file.name).write_bytes(file.read_bytes())
    yield root
    patch.undo()


def run_page(name: str) -> list[str]:
    """Runs what a page shows, but what is run elsewhere; gives the lines that were run."""
    lines = [line for line in lines_of(DOCS / f"{name}.md") if not any(word in line for word in ELSEWHERE)]
    for line in lines:
        script, words = line.split(maxsplit=1)
        words = f"{words} {SHORTER.get(script.removeprefix('medsegdiff_'), '')}"
        assert module_of(script).main(shlex.split(words)) == 0, line
    return lines


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_line_is_one_that_its_command_takes(page, monkeypatch, capsys):
    for line in lines_of(page):
        words = shlex.split(line)
        if words[0] == "torchrun":
            words = words[words.index("medsegdiff_auto.cli") + 1:]
            words[0] = f"medsegdiff_{words[0]}"
        if not words[0].startswith("medsegdiff_"):
            continue
        monkeypatch.setattr(module_of(words[0]), "run", lambda *args, **options: "taken")
        try:
            assert module_of(words[0]).main(words[1:]) == "taken", line
        except SystemExit as refused:
            pytest.fail(f"{line}: {refused} {capsys.readouterr().err}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_own_images_become_masks_with_uncertainty_and_a_report(place):
    names = {file.name for file in (place / "predictions").iterdir()}
    assert {"patient0.png", "patient1.png", "cases.csv"} <= names and (place / "report.html").stat().st_size > 10_000
    assert {name for name in names if "uncertainty" in name or "samples" in name}


@pytest.mark.parametrize("name", ["how_to_challenge", "how_to_viewer", "how_to_trust", "how_to_cluster",
                                  "how_to_several_raters", "explanation"])
def test_the_commands_of_a_page_run_on_the_model_of_the_first(place, name):
    assert run_page(name)


def test_the_same_model_from_a_file_gives_the_same_mask(place):
    masks = [iio.imread(place / folder / "patient0.png") for folder in ("predictions", "predictions_of_file")]
    assert masks[0].max() <= 1 and np.array_equal(*masks)
