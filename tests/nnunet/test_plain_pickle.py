"""Pickles of properties hold plain values and arrays, and are refused with anything else."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.plain_pickle import load_plain, require_plain
from medsegdiff_auto.nnunet.preprocessed import read_cases

PROPERTIES = {"spacing": [np.float64(1.5), 1.0], "shape_before_cropping": (np.int64(4), 5),
              "class_locations": {1: np.arange(8).reshape(2, 4), (1, 2): []}, "sitk_stuff": {"origin": (0.0, 1.0)}}


class MakesFolder:
    def __init__(self, folder: Path):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def word(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def hostile(tmp_path: Path) -> dict[str, bytes]:
    """Pickles by what they try."""
    made = tmp_path / "made"
    dotted = b"\x80\x04" + word("numpy") + word("ndarray.__class__.__base__.__subclasses__") + b"\x93)R."
    return {"a call": pickle.dumps(MakesFolder(made)), "a call within": pickle.dumps({"spacing": [MakesFolder(made)]}),
            "of protocol 0": pickle.dumps(MakesFolder(made), 0), "in an array": pickle.dumps(
                np.array([MakesFolder(made)], dtype=object)), "a dotted name": dotted,
            "a module of numpy": b"cnumpy.f2py.crackfortran\nmyeval\n."}


@pytest.mark.parametrize("protocol", (3, 4, 5))
def test_properties_of_nnunet_come_back_as_they_were(tmp_path, protocol):
    (tmp_path / "case.pkl").write_bytes(pickle.dumps(PROPERTIES, protocol))
    found = load_plain(tmp_path / "case.pkl")
    np.testing.assert_array_equal(found["class_locations"].pop(1), np.arange(8).reshape(2, 4))
    assert found == PROPERTIES | {"class_locations": {(1, 2): []}}


@pytest.mark.parametrize("kind", hostile(Path()))
def test_a_pickle_that_refers_to_anything_else_is_refused_and_nothing_of_it_runs(tmp_path, kind):
    (tmp_path / "case.pkl").write_bytes(hostile(tmp_path)[kind])
    with pytest.raises(UserError) as refused:
        require_plain([tmp_path / "case.pkl"])
    assert refused.value.found.startswith("a reference to ") and not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95", b"no pickle", pickle.dumps(PROPERTIES)[:-30]])
def test_a_damaged_pickle_is_named(tmp_path, content):
    (tmp_path / "case.pkl").write_bytes(content)
    with pytest.raises(UserError, match=r"case.pkl cannot be read"):
        load_plain(tmp_path / "case.pkl")


def test_properties_of_preprocessed_cases_are_looked_through_before_nnunet_loads_them(tmp_path):
    image = np.zeros((1, 4, 4, 4), np.float32)
    for name, properties in (("a", PROPERTIES), ("b", MakesFolder(tmp_path / "made"))):
        nnUNetDatasetBlosc2.save_case(image, image.astype(np.int16), properties, str(tmp_path / name))
    assert [case.name for case in read_cases(tmp_path, ["a"])] == ["a"]
    with pytest.raises(UserError, match=r"b.pkl cannot be read"):
        list(read_cases(tmp_path, ["a", "b"]))
    assert not (tmp_path / "made").exists()
