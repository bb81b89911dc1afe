"""Model files that want to run code, to write elsewhere, to fill the disk or to pass for another model: each is
refused in four lines, and leaves nothing.
"""

import json
import pickle
import stat
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hostile_file import contents, entry_of, rewritten
from safetensors.torch import load, save
from watched import MakesFolder, nothing_runs

from medsegdiff_auto.cli import import_model
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.handover.importing import import_model as imported
from medsegdiff_auto.inference.model import load_model

WEIGHTS, FACTS = "fold_0/weights.safetensors", "fold_0/fold.json"
FIRST = "conditioner.unet.encoder.stages.0.0.convs.0.conv.weight"
PICKLE = pickle.dumps(MakesFolder())


def tree(folder: Path) -> dict[str, int]:
    """All below a folder, with the time of the last change."""
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


# ---- the list of members ---------------------------------------------------------------------------------------------


def added(name: str, content: bytes = b"x", **attributes):
    """Adds a member whose entry has other attributes, and lists it."""
    def change(source: Path, target: Path) -> None:
        rewritten(source, target, {}, lambda manifest: manifest["files"].update({name: entry_of(content)}))
        entry = zipfile.ZipInfo(name)
        for key, value in attributes.items():
            setattr(entry, key, value)
        with zipfile.ZipFile(target, "a") as parts:
            parts.writestr(entry, content)
    return change


def link_in_the_place_of_weights(source: Path, target: Path) -> None:
    rewritten(source, target, {WEIGHTS: None})
    added(WEIGHTS, b"/etc/passwd", external_attr=(stat.S_IFLNK | 0o777) << 16)(target, target)


def same_name_twice(source: Path, target: Path) -> None:
    rewritten(source, target, {})
    with zipfile.ZipFile(target, "a") as parts, pytest.warns(UserWarning, match="Duplicate name"):
        parts.writestr("plans.json", contents(source)["plans.json"])


def packed(name: str, size: int, kind: int = zipfile.ZIP_DEFLATED):
    """A member of zeros that becomes much larger than the file."""
    def change(source: Path, target: Path) -> None:
        rewritten(source, target, {name: None}, lambda manifest: manifest["files"].update(
            {name: {"sha256": 64 * "0", "size": size}}))
        with zipfile.ZipFile(target, "a", kind) as parts, parts.open(zipfile.ZipInfo(name), "w") as member:
            member._compressor = zipfile._get_compressor(kind, 9)
            member._zinfo.compress_type = kind
            for _ in range(size // 2 ** 20):
                member.write(bytes(2 ** 20))
    return change


def edited_entry(name: str, offset: int, value: bytes):
    """Changes bytes of a member's entry in the list at the end of the file."""
    def change(source: Path, target: Path) -> None:
        content = bytearray(rewritten(source, target, {}).read_bytes())
        place = content.rindex(name.encode()) - 46  # the fixed part of an entry comes before its name
        assert content[place:place + 4] == b"PK\x01\x02"
        content[place + offset:place + offset + len(value)] = value
        target.write_bytes(content)
    return change


def members_over_each_other(source: Path, target: Path) -> None:
    """Every fold's weights are the same bytes of the file."""
    weights = contents(source)[WEIGHTS]
    rewritten(source, target, {f"fold_{fold}/fold.json": contents(source)[FACTS] for fold in range(2, 40)},
              lambda manifest: manifest["files"].update({f"fold_{fold}/weights.safetensors": entry_of(weights)
                                                         for fold in range(2, 40)}))
    with zipfile.ZipFile(target, "a") as parts:
        first = parts.getinfo(WEIGHTS)
        for fold in range(2, 40):
            double = zipfile.ZipInfo(f"fold_{fold}/weights.safetensors")
            double.header_offset, double.CRC = first.header_offset, first.CRC
            double.compress_size = double.file_size = first.file_size
            parts.filelist.append(double)
            parts.NameToInfo[double.filename] = double
        parts._didModify = True


NAMES = ["../evil.json", "/tmp/evil.json", "fold_0/../../evil.json", "..\\evil.json", "C:\\evil.json", "./plans.json",
         "fold_0/", "fold_0/checkpoint_final.pth", "crossval_results_folds_0_1/postprocessing.pkl", "evil.py",
         "sitecustomize.py", "PLANS.JSON", "fold_0000/weights.safetensors", "fold_0/weights.safetensors/x", "a\nb.json"]
MEMBERS = {name: added(name) for name in NAMES} | {
    "a name with a NUL": edited_entry("fold_1/fold.json", 46, b"fold_1/\x00evil.jsn"[:16]),
    "a link": added("plans_link.json", b"/etc/passwd", external_attr=(stat.S_IFLNK | 0o777) << 16),
    "weights that are a link": link_in_the_place_of_weights,
    "a device": added("fold_2/fold.json", external_attr=(stat.S_IFCHR | 0o666) << 16),
    "a name twice": same_name_twice,
    "weights that are packed": packed(WEIGHTS, 2 ** 24),
    "a text of 100 MB": packed("plans.json", 100 * 2 ** 20),
    "packed by bzip2": packed("plans.json", 2 ** 20, zipfile.ZIP_BZIP2),
    "encrypted": edited_entry("plans.json", 8, b"\x01"),
    "larger than it says": edited_entry("plans.json", 24, struct.pack("<I", 10)),
    "smaller than it says": edited_entry("plans.json", 24, struct.pack("<I", 2 ** 25)),
    "an offset behind the end": edited_entry("plans.json", 42, struct.pack("<I", 2 ** 31 - 1)),
    "members over each other": members_over_each_other,
    "2000 members": lambda source, target: rewritten(source, target, {
        f"fold_{number}/{name}": b"{}" for number in range(999) for name in ("fold.json", "weights.safetensors")}),
    "cut off": lambda source, target: target.write_bytes(source.read_bytes()[:-500]),
    "cut within": lambda source, target: target.write_bytes(source.read_bytes()[:5000] + source.read_bytes()[9000:]),
    "no zip": lambda source, target: target.write_bytes(b"#!/bin/sh\nmkdir made_by_a_script\n"),
    "a pickle": lambda source, target: target.write_bytes(PICKLE),
    "nothing": lambda source, target: target.write_bytes(b""),
    "a folder": lambda source, target: target.unlink(missing_ok=True) or target.mkdir(),
}

REASONS = {
    "a link": "plans_link.json", "weights that are a link": "a link or a device", "a device": "is a link or a device",
    "a name twice": "'plans.json' twice", "weights that are packed": "is packed: ", "a text of 100 MB": "of 104857600 ",
    "packed by bzip2": "packed in another way", "encrypted": "is encrypted", "2000 members": "2007 members",
    "members over each other": "members that lie over each other", "smaller than it says": "another content of plans"}

# ---- the manifest ----------------------------------------------------------------------------------------------------


def manifested(change, **changed):
    return lambda source, target: rewritten(source, target, changed, change)


def with_text(text: bytes):
    def change(source: Path, target: Path) -> None:
        rewritten(source, target, {})
        members = contents(target) | {"manifest.json": text}
        with zipfile.ZipFile(target, "w") as parts:
            for name, content in members.items():
                parts.writestr(name, content)
    return change


MANIFESTS = {
    "none": lambda source, target: zipfile.ZipFile(target, "w").writestr("plans.json", "{}"),
    "no JSON": with_text(b"\xff\xfe{"), "nested too deeply": with_text(b"[" * 100_000),
    "a number that is none": with_text(b'{"format": NaN}'),
    "another checksum": manifested(lambda manifest: manifest["files"][WEIGHTS].update(sha256=64 * "0")),
    "another size": manifested(lambda manifest: manifest["files"]["plans.json"].update(size=1)),
    "a member that it does not list": manifested(lambda manifest: manifest["files"].pop("sampling.json")),
    "a member that is not there": manifested(lambda manifest: manifest["files"].update({"fold_7/fold.json": entry_of(
        b"")})),
    "a fold without weights": lambda source, target: rewritten(source, target, {WEIGHTS: None}),
    "no fold": lambda source, target: rewritten(source, target, {f"fold_{fold}/{name}": None for fold in (
        0, 1) for name in ("fold.json", "weights.safetensors")}),
    "no card": lambda source, target: rewritten(source, target, {"README.md": None}),
    "a dataset that is a path": manifested(lambda manifest: manifest.update(dataset="Dataset001_../../x")),
    "a model that is a path": manifested(lambda manifest: manifest.update(model="../../x__y__z")),
    "another model": manifested(lambda manifest: manifest.update(model="nnUNetTrainerMedSegDiff__Other__2d")),
    "another dataset": manifested(lambda manifest: manifest.update(dataset="Dataset001_Other")),
    "a later format": manifested(lambda manifest: manifest.update(format=2)),
    "a key that nobody knows": manifested(lambda manifest: manifest.update(run="rm -rf /")),
}

# ---- the content -----------------------------------------------------------------------------------------------------


def edited(name: str, change):
    """Changes a JSON member, and lets the manifest fit."""
    def apply(source: Path, target: Path) -> None:
        content = json.loads(contents(source)[name])
        change(content)
        rewritten(source, target, {name: json.dumps(content).encode()})
    return apply


def planned(place: str, value):
    """Another value at a dotted place of the configuration."""
    def change(plans: dict) -> None:
        *parents, key = place.split(".")
        section = plans["configurations"]["2d"]
        for parent in parents:
            section = section[parent]
        section[key] = value
    return edited("plans.json", change)


def tensors(change, name: str = WEIGHTS):
    def apply(source: Path, target: Path) -> None:
        weights = load(contents(source)[name])
        change(weights)
        rewritten(source, target, {name: save(weights)})
    return apply


def replaced(name: str, content: bytes):
    return lambda source, target: rewritten(source, target, {name: content})


NETWORK = "architecture.arch_kwargs"
def wide(configuration: dict) -> None:
    arguments = configuration["architecture"]["arch_kwargs"]
    arguments["features_per_stage"] = [10 ** 6] * arguments["n_stages"]


STEP = {"labels_or_regions": [1], "background_label": 0}
CONTENTS = {
    "plans: a nonlinearity that is a process": planned(f"{NETWORK}.nonlin", "subprocess.Popen"),
    "plans: a network that is a function": planned("architecture.network_class_name", "os.system"),
    "plans: a block": planned(f"{NETWORK}.block", "antigravity"),
    "plans: what is imported": planned("architecture._kw_requires_import", ["conv_op", "norm_op_kwargs"]),
    "plans: a preprocessor": planned("preprocessor_name", "multiprocessing"),
    "plans: a normalisation": planned("normalization_schemes", ["ABC"]),
    "plans: a resampling": planned("resampling_fn_probabilities", "recursive_find_python_class"),
    "plans: a reader": edited("plans.json", lambda plans: plans.update(image_reader_writer="subprocess")),
    "plans: label manager": edited("plans.json", lambda plans: plans.update(label_manager="os")),
    "plans: a folder": planned("data_identifier", "../../x"),
    "plans: another denoiser": planned("diffusion.network", "os.system"),
    "plans: a solver": planned("diffusion.solver", "../../evil"),
    "plans: no JSON": replaced("plans.json", b"{"),
    "plans: a network of terabytes": edited("plans.json", lambda plans: wide(plans["configurations"]["2d"])),
    "dataset.json: a reader": edited("dataset.json", lambda content: content.update(
        overwrite_image_reader_writer="load_json")),
    "dataset.json: an ending that is a path": edited("dataset.json", lambda content: content.update(
        file_ending="/../../evil.nii.gz")),
    "dataset.json: labels of another model": edited("dataset.json", lambda content: content["labels"].update(third=3)),
    "fold: a trainer of somebody else": edited(FACTS, lambda facts: facts.update(trainer_name="nnUNetTrainer")),
    "fold: a trainer that is a path": edited(FACTS, lambda facts: facts.update(
        trainer_name="nnUNetTrainerMedSegDiff/../../x")),
    "fold: another configuration": edited(FACTS, lambda facts: facts.update(configuration="3d_fullres")),
    "fold: an axis that is none": edited(FACTS, lambda facts: facts.update(mirroring_axes=[7])),
    "fold: curves that are text": edited(FACTS, lambda facts: facts.update(logging={"train_losses": ["<script>"]})),
    "fold: a tensor that is nowhere": edited(FACTS, lambda facts: facts["same_as"].update({"a": "b"})),
    "fold: a tensor that is itself": edited(FACTS, lambda facts: facts["same_as"].update({FIRST: FIRST})),
    "weights: a pickle": replaced(WEIGHTS, PICKLE),
    "weights: a checkpoint of torch": replaced(WEIGHTS, b"PK\x03\x04" + bytes(100)),
    "weights: a header of exabytes": replaced(WEIGHTS, struct.pack("<Q", 2 ** 62) + b"{}"),
    "weights: offsets behind the end": replaced(WEIGHTS, struct.pack("<Q", 64) + json.dumps(
        {"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode().ljust(64)),
    "weights: of another shape": tensors(lambda weights: weights.update({FIRST: torch.zeros(2)})),
    "weights: one too many": tensors(lambda weights: weights.update(evil=torch.zeros(1))),
    "weights: not a number": tensors(lambda weights: weights[FIRST].fill_(float("nan"))),
    "weights: of another model": tensors(lambda weights: [weight.mul_(-1) for weight in weights.values()]),
    "fit: another checkpoint": edited("sampling.json", lambda fit: fit["checkpoints"].update(
        {"fold_0/checkpoint_final.pth": 64 * "0"})),
    "fit: a temperature below zero": edited("sampling.json", lambda fit: fit.update(temperature=-1.0)),
    "fit: a key that nobody knows": edited("sampling.json", lambda fit: fit.update(run="x")),
    "steps: other arguments": edited("crossval_results_folds_0_1/postprocessing.json", lambda content: content.update(
        steps=[STEP | {"function": "os.system"}])),
    "steps: words": edited("crossval_results_folds_0_1/postprocessing.json", lambda content: content.update(
        steps=[STEP | {"labels_or_regions": ["os.system"]}])),
    "self-test: a pickle": replaced("self_test.safetensors", PICKLE),
    "self-test: another mask": lambda source, target: rewritten(source, target, {"self_test.safetensors": save(
        {"labels": torch.ones(1, 32, 32, dtype=torch.int32)})}),
    "self-test: other probabilities": edited("self_test.json", lambda content: content.update(
        mean_probabilities=[0.5, 0.3, 0.2])),
}
HOSTILE = {f"{kind}: {name}": make for kind, of_kind in (("member", MEMBERS), ("manifest", MANIFESTS),
                                                         ("content", CONTENTS)) for name, make in of_kind.items()}


def test_there_are_enough_of_them():
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize("kind", HOSTILE)
def test_it_is_refused_in_four_lines_nothing_runs_and_nothing_is_left(kind, exported, tmp_path, monkeypatch, capsys):
    inside = tmp_path / "deep" / "inside"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    HOSTILE[kind](exported, inside / "model.zip")
    before = tree(tmp_path)
    monkeypatch.setenv("nnUNet_results", str(inside))
    with nothing_runs():
        assert import_model.main([str(inside / "model.zip")]) == 2
    printed = capsys.readouterr()
    assert [line.split(":")[0].strip() for line in printed.err.splitlines()] == ["error", "found", "expected", "fix"]
    which, _, name = kind.partition(": ")
    assert which != "member" or "is not taken for a model." in printed.err
    assert (REASONS if which == "member" else {}).get(name, "found:") in printed.err
    after = tree(tmp_path)
    assert after.keys() == before.keys()
    assert {path for path in after if after[path] != before[path]} <= {str(inside)}


@pytest.mark.parametrize("kind", ["member: ../evil.json", "content: plans: a nonlinearity that is a process",
                                  "content: weights: a pickle"])
def test_prediction_refuses_the_file_as_import_does(kind, exported, tmp_path):
    HOSTILE[kind](exported, tmp_path / "model.zip")
    with nothing_runs(), pytest.raises(UserError):
        load_model(tmp_path / "model.zip")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "model.zip"]


def test_a_file_that_was_only_rewritten_is_taken(exported, tmp_path):
    rewritten(exported, tmp_path / "model.zip", {})
    assert imported(tmp_path / "model.zip", tmp_path / "model").self_test.endswith("in all 1024 voxels")


def test_a_network_of_terabytes_is_refused_before_it_is_built(exported, tmp_path):
    """In a process that may take two gigabytes."""
    CONTENTS["plans: a network of terabytes"](exported, tmp_path / "model.zip")
    program = ("import resource, sys\nfrom medsegdiff_auto.cli import import_model\n"
               "import medsegdiff_auto.handover.importing\n"
               "resource.setrlimit(resource.RLIMIT_DATA, (2 ** 31, 2 ** 31))\n"
               f"sys.exit(import_model.main([{str(tmp_path / 'model.zip')!r}, '-o', {str(tmp_path / 'model')!r}]))")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2 and "is of shape" in done.stderr and "model.zip" in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]
