"""What all tests share: the development datasets, where they are at hand."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("nnUNet_def_n_proc", "1")  # nnU-Net reads it when it is imported: eight processes otherwise
SHARED_DATA = Path(os.environ.get("MEDSEGDIFF_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
PIPELINE = "tests/pipeline/"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keeps a file in one process, and all of tests/pipeline, whose trained chains would be made twice."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return PIPELINE if file.startswith(PIPELINE) else file

    return ByFile(config, log)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the development datasets; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the development datasets are not at {SHARED_DATA} (MEDSEGDIFF_SHARED_DATA names another folder)")
    return SHARED_DATA
