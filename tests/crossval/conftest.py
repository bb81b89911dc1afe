"""The dataset of this folder's tests, planned once."""

import pytest
from folds_place import Place, command, use, write_dataset


@pytest.fixture(scope="session")
def planned(tmp_path_factory) -> Place:
    """The dataset, planned and preprocessed for 2d."""
    place = write_dataset(tmp_path_factory.mktemp("crossval"))
    with pytest.MonkeyPatch.context() as patch:
        use(place, patch)
        assert command("plan_and_preprocess -d 921 -c 2d --resources tiny -np 1") == 0
    return place
