"""The wheel holds every file that an installation needs, and one version."""

import shutil
import subprocess
import sys
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

import medsegdiff_auto

ROOT = Path(__file__).parents[2]
PLACES = {"medsegdiff_auto": "medsegdiff_auto", "plans": "medsegdiff_auto/plans",
          "dataset_conversion": "medsegdiff_auto/dataset_conversion"}  # folder of the repository: folder of the wheel


def installed_files(root: Path) -> set[str]:
    """Where the Python files, plans, notebooks and what a page is made of belong in the wheel."""
    return {f"{place}/{file.relative_to(root / folder).as_posix()}" for folder, place in PLACES.items()
            for pattern in ("*.py", "*.json", "*.ipynb", "page_files/*.*", "page_files/niivue/*")
            for file in (root / folder).rglob(pattern)}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, ZipFile]:
    """A copy of the sources in which a room was added that nobody has listed, and the wheel that is built from it."""
    root = tmp_path_factory.mktemp("sources")
    for folder in PLACES:
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, root)
    for folder in ("medsegdiff_auto/training/unlisted", "dataset_conversion/unlisted"):
        (root / folder).mkdir()
        (root / folder / "__init__.py").touch()
    built = subprocess.run([sys.executable, "-c", "from setuptools import build_meta; build_meta.build_wheel('wheel')"],
                           cwd=root, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return root, ZipFile(next((root / "wheel").glob("*.whl")))


def test_every_python_file_and_every_plan_of_the_tree_is_in_the_wheel_and_nothing_else(built):
    root, wheel = built
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {name for name in names if not name.endswith(".md")} == installed_files(root)
    assert {name for name in names if name.endswith(".md")} == {
        f"medsegdiff_auto/plans/ready/{file.name}" for file in (ROOT / "plans" / "ready").glob("*.md")}


def test_every_folder_with_python_files_is_a_package():
    folders = {file.parent for folder in PLACES for file in (ROOT / folder).rglob("*.py")}
    assert sorted(str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").is_file()) == []


def test_the_version_of_the_wheel_is_that_of_the_package_and_the_licence_goes_with_it(built):
    _, wheel = built
    information = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(wheel.read(information).decode())
    assert metadata["Version"] == medsegdiff_auto.__version__
    assert metadata["License-Expression"] == "MIT"
    licence = next(name for name in wheel.namelist() if name.endswith("licenses/LICENSE"))
    assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
