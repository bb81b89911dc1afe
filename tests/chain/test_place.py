"""A chain knows its folder, and touches no other."""

import json

import pytest

from medsegdiff_auto.chain.place import OURS, RECORD, begun, require_same_chain
from medsegdiff_auto.errors import UserError

ASKED = {"source": "/mine", "resources": "tiny"}


def test_what_an_earlier_start_left_goes_with_overwrite_and_nothing_else(tmp_path):
    with begun(tmp_path, ASKED):
        pass
    for name in OURS:
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").write_text("precious")
    with begun(tmp_path, ASKED | {"resources": "cpu"}, overwrite=True):
        assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == [RECORD, "notes.txt"]
    assert json.loads((tmp_path / RECORD).read_text()) == ASKED | {"resources": "cpu"}


def test_a_folder_of_somebody_else_is_refused_even_where_it_might_be_overwritten(tmp_path):
    (tmp_path / "nnUNet_results").mkdir()
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds something else"), begun(tmp_path, ASKED, overwrite):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["nnUNet_results"]


def test_a_chain_that_was_begun_otherwise_says_what_differs(tmp_path):
    with begun(tmp_path, ASKED):
        pass
    require_same_chain(tmp_path, ASKED)
    with pytest.raises(UserError) as refused:
        require_same_chain(tmp_path, ASKED | {"source": "/other"})
    assert (refused.value.found, refused.value.expected) == ("source /other", "source /mine")


def test_two_commands_do_not_work_in_one_folder(tmp_path):
    with begun(tmp_path, ASKED), pytest.raises(UserError, match="Another command works"), begun(tmp_path, ASKED):
        pass
