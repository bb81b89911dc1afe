"""Plans keep types and ranges, checked where they are read, with the place of the fault."""

import copy
import json
from pathlib import Path

import pytest

import plans.ready
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.known_names import read_plans

KEPT = Path(__file__).parents[1] / "inference" / "version_1" / "plans.json"
PLANS = json.loads(KEPT.read_text(encoding="utf-8"))
READY = sorted(Path(plans.ready.__path__[0]).glob("*.json"))


def read(folder, content) -> dict:
    (folder / "plans.json").write_text(json.dumps(content))
    return read_plans(folder / "plans.json")


def with_section(**changes) -> dict:
    content = copy.deepcopy(PLANS)
    content["configurations"]["2d"].update(changes)
    return content


@pytest.mark.parametrize("file", [KEPT, *READY], ids=lambda file: file.stem)
def test_plans_of_every_version_are_read_as_they_are(file):
    assert read_plans(file) == json.loads(file.read_text(encoding="utf-8"))


def test_a_configuration_that_inherits_is_accepted(tmp_path):
    content = copy.deepcopy(PLANS)
    content["configurations"]["2d_large"] = {"inherits_from": "2d", "batch_size": 7}
    assert read(tmp_path, content) == content


@pytest.mark.parametrize("content, named", [
    (with_section(patch_size=[32.5, 32]), "configurations.2d.patch_size.0 is 32.5"),
    (with_section(patch_size=[0, 32]), "configurations.2d.patch_size.0 is 0"),
    (with_section(patch_size="32x32"), "configurations.2d.patch_size is '32x32'"),
    (with_section(patch_size=[32]), "configurations.2d.patch_size is [32]"),
    (with_section(patch_size=[32, 32, 32]), "3 axes of patch_size and 2 of spacing"),
    (with_section(spacing=[1.0, -1.0]), "configurations.2d.spacing.1 is -1.0"),
    (with_section(spacing=[1.0, float("nan")]), "configurations.2d.spacing.1 is nan"),
    (with_section(spacing=[float("inf"), 1.0]), "configurations.2d.spacing.0 is inf"),
    (with_section(batch_size="2"), "configurations.2d.batch_size is '2'"),
    (with_section(batch_size=True), "configurations.2d.batch_size is True"),
    (with_section(batch_dice="no"), "configurations.2d.batch_dice is 'no'"),
    (with_section(use_mask_for_norm=[1]), "configurations.2d.use_mask_for_norm.0 is 1"),
    (with_section(data_identifier="../elsewhere"), "configurations.2d.data_identifier is '../elsewhere'"),
    (with_section(data_identifier=".."), "configurations.2d.data_identifier is '..'"),
    (with_section(architecture=[]), "configurations.2d.architecture is []"),
    (with_section(inherits_from="2d"), "configurations.2d.inherits_from is '2d', which is a circle"),
    (with_section(inherits_from="3d"), "configurations.2d.inherits_from is '3d', which is no configuration"),
    (PLANS | {"plans_name": "/tmp/mine"}, "plans_name is '/tmp/mine'"),
    (PLANS | {"dataset_name": 4}, "dataset_name is 4"),
    (PLANS | {"transpose_forward": [0, 0, 1]}, "transpose_forward is [0, 0, 1]"),
    (PLANS | {"configurations": {}}, "configurations is {}"),
    (PLANS | {"configurations": ["2d"]}, "configurations is ['2d']"),
    (PLANS | {"foreground_intensity_properties_per_channel": {"0": {"mean": "high"}}}, "mean is 'high'")], ids=str)
def test_a_value_that_no_plans_have_is_refused_by_its_place(tmp_path, content, named):
    with pytest.raises(UserError, match="has a value that no plans have") as raised:
        read(tmp_path, content)
    assert named in raised.value.found and len(str(raised.value).splitlines()) == 4
