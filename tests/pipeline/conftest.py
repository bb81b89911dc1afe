"""One chain per dimension for all tests of this folder."""

import shutil
from pathlib import Path

import pytest
from chain import Chain, run_chain, threads_for_processes

from medsegdiff_auto.phantoms.nnunet_dataset import Labelling
from medsegdiff_auto.phantoms.phantom import PhantomKind


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Sets nnU-Net's variables for the session of a chain and gives them back."""
    patch = pytest.MonkeyPatch()

    def use(root: Path) -> Path:
        for variable, name in (("nnUNet_raw", "raw"), ("nnUNet_preprocessed", "preprocessed"), ("nnUNet_results",
                                                                                                "results")):
            (root / name).mkdir(exist_ok=True)
            patch.setenv(variable, str(root / name))
        patch.setenv("nnUNet_n_proc_DA", "1")
        patch.setenv("nnUNet_def_n_proc", "1")
        return root

    yield use
    patch.undo()


@pytest.fixture(scope="session")
def chain_3d(tmp_path_factory, folders) -> Chain:
    """3-D, one MRI channel, labels with an ignore label, nnU-Net's own worker processes."""
    kind = PhantomKind(3, shape=(20, 32, 28))
    return run_chain(folders(tmp_path_factory.mktemp("chain_3d")), kind, Labelling(ignore=True))


@pytest.fixture(scope="session")
def chain_2d(tmp_path_factory, folders) -> Chain:
    """2-D, two CT-like channels, nested regions; worker threads."""
    patch = pytest.MonkeyPatch()
    threads_for_processes(patch)
    kind = PhantomKind(2, "CT", num_channels=2, shape=(48, 56))
    chain = run_chain(folders(tmp_path_factory.mktemp("chain_2d")), kind, Labelling(regions=True))
    patch.undo()
    return chain


@pytest.fixture(params=["2d", "3d"])
def chain(request, folders) -> Chain:
    """Either chain, with nnU-Net's variables set to its folders."""
    chain = request.getfixturevalue(f"chain_{request.param}")
    folders(chain.root)
    return chain


@pytest.fixture
def spare_fold(chain_2d, folders):
    """Folder of a fold of the 2-D chain that no other test trains; gone again afterwards."""
    folders(chain_2d.root)
    folder = chain_2d.model / "fold_4"
    assert not folder.exists()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
