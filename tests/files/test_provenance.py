"""A record says what a file was made from, and is finished only if the making was."""

import json

import pytest

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.provenance import checksum, checksum_of, differences, read_record, record_file, recorded


def test_a_checksum_is_that_of_sha256sum(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert checksum(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_checksum_of_a_value_depends_on_values_and_not_on_the_order_of_keys():
    assert checksum_of({"a": 1, "b": [2]}) == checksum_of({"b": [2], "a": 1}) != checksum_of({"a": 1, "b": [3]})


def test_a_record_is_unfinished_while_its_file_is_made_and_finished_afterwards(tmp_path):
    made = tmp_path / "data"
    assert read_record(made) is None
    with recorded(made, cases={"a": "1"}):
        assert read_record(made) == {"finished": False, "cases": {"a": "1"}}
    assert read_record(made) == {"finished": True, "cases": {"a": "1"}}


def test_what_failed_stays_unfinished(tmp_path):
    with pytest.raises(KeyboardInterrupt), recorded(tmp_path / "data", cases={}):
        raise KeyboardInterrupt
    assert read_record(tmp_path / "data") == {"finished": False, "cases": {}}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"finished": "yes"}', '{"finished": tr'])
def test_a_damaged_record_is_named(tmp_path, content):
    file = record_file(tmp_path / "data")
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(UserError) as raised:
        read_record(tmp_path / "data")
    assert str(file) in raised.value.found and len(str(raised.value).splitlines()) == 4


def test_differences_name_what_came_went_and_changed():
    before, now = {"a": "1", "b": "1", "c": "1"}, {"b": "1", "c": "2", "d": "1", "e": "1", "f": "1", "g": "1"}
    assert differences(now, before) == "4 added (d, e, f, ...), 1 removed (a), 1 changed (c)"
    assert differences(before, json.loads(json.dumps(before))) == ""
