"""Small phantoms, and one small written dataset of each dimension, shared by the tests of this folder."""

import pytest

from medsegdiff_auto.phantoms.nnunet_dataset import Labelling, write_phantom_dataset
from medsegdiff_auto.phantoms.phantom import PhantomKind, generate_phantom

SMALL_SHAPES = {2: (32, 36), 3: (18, 20, 16)}


@pytest.fixture(params=[2, 3], ids=["2d", "3d"])
def dimension(request) -> int:
    return request.param


@pytest.fixture
def small_phantom(dimension):
    kind = PhantomKind(dimension, num_structures=3, shape=SMALL_SHAPES[dimension], shape_variation=0.0)
    return generate_phantom(7, kind)


@pytest.fixture(scope="session", params=[2, 3], ids=["2d", "3d"])
def written_dataset(request, tmp_path_factory):
    """``(dimension, folder)``: 6 training and 2 test cases, 2 raters, ignore label, two channels; regions in 2-D."""
    kind = PhantomKind(request.param, "CT", num_channels=2, shape=SMALL_SHAPES[request.param])
    folder = write_phantom_dataset(tmp_path_factory.mktemp("raw"), 901, "Small", (6, 2), kind,
                                   Labelling(num_raters=2, regions=request.param == 2, ignore=True))
    return request.param, folder
