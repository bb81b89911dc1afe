"""A prediction plans for the memory that its shell allows, and ends within it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

MODEL = Path(__file__).parent / "version_1"
LIMIT_KB = 3_000_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts mappings on Linux only")
def test_under_a_limit_of_three_gigabytes_and_on_one_core_a_case_is_predicted_within_it(tmp_path):
    """The image twenty times as large as the model's, so that there is something to plan."""
    (tmp_path / "images").mkdir()
    image = sitk.ReadImage(str(MODEL / "phantom_005_0000.nii.gz"))
    array = np.tile(sitk.GetArrayFromImage(image), (1,) * (image.GetDimension() - 2) + (8, 8))
    large = sitk.GetImageFromArray(array)
    large.SetSpacing(image.GetSpacing())
    sitk.WriteImage(large, str(tmp_path / "images" / "large_0000.nii.gz"))
    program = "import sys; from medsegdiff_auto.cli.predict import main; sys.exit(main())"
    run = subprocess.run(["taskset", "-c", "0", "bash", "-c", f'ulimit -d {LIMIT_KB} && exec "$@"', "limited",
                          sys.executable, "-c", program, "-i", str(tmp_path / "images"), "-o", str(tmp_path / "out"),
                          "-m", str(MODEL), "-device", "cpu", "--samples", "4"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    stated = re.search(r"about ([\d.]+) GB at most", run.stderr)
    assert stated and float(stated[1]) < LIMIT_KB * 1024 / 1e9
    assert sitk.ReadImage(str(tmp_path / "out" / "large.nii.gz")).GetSize() == large.GetSize()
