"""Plans name classes and functions, which nnU-Net imports and calls: only those of the allow-list."""

import copy
import json
import pydoc
from pathlib import Path

import dynamic_network_architectures
import nnunetv2
import pytest
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

import plans.ready
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet import known_names
from medsegdiff_auto.nnunet.known_names import read_plans, require_known_names, require_known_reader
from medsegdiff_auto.nnunet.managers import PlansManager
from medsegdiff_auto.nnunet.readers import find_reader

KEPT = Path(__file__).parents[1] / "inference" / "version_1"
PLANS = json.loads((KEPT / "plans.json").read_text(encoding="utf-8"))
READY = sorted(Path(plans.ready.__path__[0]).glob("*.json"))


def changed(path: str, value) -> dict:
    """The plans with another value at a dotted place; a star stands for the only configuration."""
    content = copy.deepcopy(PLANS)
    *parents, key = path.replace("*", "configurations.2d").split(".")
    section = content
    for parent in parents:
        section = section[parent]
    section[key] = value
    return content


NETWORK = "*.architecture.arch_kwargs"
HOSTILE = {
    f"{NETWORK}.nonlin": "subprocess.Popen", f"{NETWORK}.norm_op": "os.system",
    f"{NETWORK}.dropout_op": "builtins.exec",
    f"{NETWORK}.conv_op": "torch.nn.modules.conv.Conv2d.__init__.__globals__", f"{NETWORK}.block": "antigravity",
    "*.architecture.network_class_name": "subprocess.run",
    "*.architecture._kw_requires_import": ["conv_op", "norm_op_kwargs"],
    "*.preprocessor_name": "multiprocessing", "*.normalization_schemes": ["ZScoreNormalization", "ABC"],
    "*.resampling_fn_data": "recursive_find_python_class", "*.resampling_fn_seg": ["no_resampling_hack", "np"],
    "*.resampling_fn_probabilities": {"no_resampling_hack": 1}, "image_reader_writer": "subprocess",
    "label_manager": "recursive_find_python_class"}


@pytest.mark.parametrize("place", HOSTILE)
def test_a_name_that_is_not_nnunets_is_refused_with_its_place_before_anything_is_imported(place, monkeypatch, tmp_path):
    monkeypatch.setattr(pydoc, "locate", lambda name: pytest.fail(f"{name} was resolved"))
    content = changed(place, HOSTILE[place])
    (tmp_path / "plans.json").write_text(json.dumps(content), encoding="utf-8")
    for attempt in (lambda: PlansManager(content), lambda: read_plans(tmp_path / "plans.json")):
        with pytest.raises(UserError) as refused:
            attempt()
        assert refused.value.found.startswith(place.replace("*", "configurations.2d") + ": ")


def test_a_name_is_found_in_every_configuration_also_in_one_that_inherits():
    content = changed("configurations.mine", {"inherits_from": "2d", "preprocessor_name": "os"})
    with pytest.raises(UserError, match="configurations.mine.preprocessor_name: 'os'"):
        require_known_names(content)


def test_a_reader_that_dataset_json_names_is_nnunets_or_refused():
    dataset_json = json.loads((KEPT / "dataset.json").read_text(encoding="utf-8"))
    key = "overwrite_image_reader_writer"
    assert type(find_reader(dataset_json | {key: "NibabelIO"}, [])).__name__ == "NibabelIO"
    require_known_reader(dataset_json | {key: "None"})
    with pytest.raises(UserError, match="overwrite_image_reader_writer: 'load_json'"):
        find_reader(dataset_json | {key: "load_json"}, [])


@pytest.mark.parametrize("file", [KEPT / "plans.json", *READY], ids=lambda file: file.stem)
def test_plans_of_every_version_and_dataset_pass(file):
    assert read_plans(file)["configurations"]


def test_plans_in_memory_may_list_names_in_a_tuple_as_nnunets_planner_does():
    place = "*.architecture._kw_requires_import"
    require_known_names(changed(place, ("conv_op", "norm_op", "dropout_op", "nonlin")))
    with pytest.raises(UserError, match="_kw_requires_import: 'n_stages'"):
        require_known_names(changed(place, ("conv_op", "n_stages")))


def test_every_listed_name_is_one_that_nnunet_resolves():
    def inside(package, folder: str, name: str):
        return recursive_find_python_class(str(Path(package.__path__[0], folder)), name,
                                           f"{package.__name__}.{folder.replace('/', '.')}")

    for folder, names in (("imageio", known_names.READERS), ("preprocessing/resampling", known_names.RESAMPLING),
                          ("preprocessing/normalization", known_names.NORMALISATION),
                          ("preprocessing", known_names.OF_CONFIGURATION["preprocessor_name"]),
                          ("utilities/label_handling", known_names.OF_PLANS["label_manager"])):
        assert [name for name in names if inside(nnunetv2, folder, name) is None] == []
    for names in known_names.OF_NETWORK.values():
        assert [name for name in names if pydoc.locate(name) is None] == []
    networks = {name.rsplit(".")[-1] for name in known_names.OF_ARCHITECTURE["network_class_name"]}
    assert [name for name in networks if inside(dynamic_network_architectures, "architectures", name) is None] == []
