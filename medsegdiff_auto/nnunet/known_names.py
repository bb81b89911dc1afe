"""The classes and functions that plans may name: nnU-Net imports whatever a name says, and calls it. Free of torch.

Plans travel with models. What is not listed here is refused before nnU-Net sees it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.plans_schema import require_plans

READERS = ("SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient", "NaturalImage2DIO",
           "Tiff3DIO")
RESAMPLING = ("resample_data_or_seg_to_shape", "resample_torch_simple", "resample_torch_fornnunet",
              "no_resampling_hack")
NORMALISATION = ("ZScoreNormalization", "CTNormalization", "NoNormalization", "RescaleTo01Normalization",
                 "RGBTo01Normalization")


def _layers(module: str, *names: str) -> tuple[str, ...]:
    """Both spellings of layers of torch."""
    return tuple(f"{place}.{name}" for name in names for place in ("torch.nn", f"torch.nn.modules.{module}"))


_NETWORKS, _BLOCKS = "dynamic_network_architectures.architectures", "dynamic_network_architectures.building_blocks"
OF_PLANS = {"image_reader_writer": READERS, "label_manager": ("LabelManager",)}
OF_CONFIGURATION = {"preprocessor_name": ("DefaultPreprocessor",), "normalization_schemes": NORMALISATION,
                    "resampling_fn_data": RESAMPLING, "resampling_fn_seg": RESAMPLING,
                    "resampling_fn_probabilities": RESAMPLING}
OF_ARCHITECTURE = {
    "network_class_name": tuple(f"{_NETWORKS}.{name}" for name in (
        "unet.PlainConvUNet", "unet.ResidualEncoderUNet", "unet.ResidualUNet", "residual_unet.ResidualEncoderUNet")),
    "_kw_requires_import": ("conv_op", "norm_op", "dropout_op", "nonlin", "block")}
OF_NETWORK = {
    "conv_op": _layers("conv", "Conv1d", "Conv2d", "Conv3d"),
    "norm_op": _layers("instancenorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d")
    + _layers("batchnorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d"),
    "dropout_op": _layers("dropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d"),
    "nonlin": _layers("activation", "LeakyReLU", "ReLU", "ELU", "GELU", "SiLU", "Mish", "PReLU"),
    "block": (f"{_BLOCKS}.residual.BasicBlockD", f"{_BLOCKS}.residual.BottleneckD")}


def read_plans(file: Path) -> dict:
    """Plans of nnU-Net from a file.

    Raises:
        UserError: the file is no JSON object, or plans that name anything else than nnU-Net's classes and functions.
    """
    plans = read_json_object(file)
    require_known_names(plans, str(file))
    require_plans(plans, str(file))
    return plans


def read_json_object(file: Path) -> dict:
    """The content of a JSON file.

    Raises:
        UserError: it is missing, or no object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as failure:
        found = "no such file" if isinstance(failure, FileNotFoundError) else f"{type(failure).__name__}: {failure}"
        raise UserError(f"{file} cannot be read.", found=found, expected="a JSON object",
                        fix="copy the file again from where it was written") from failure
    if not isinstance(content, dict):
        raise UserError(f"{file} is not a JSON object.", found=type(content).__name__, expected='{"key": value, ...}',
                        fix="copy the file again from where it was written")
    return content


def require_known_names(plans: dict, shown: str = "plans.json") -> None:
    """Checks every name of a class or function in plans, of all configurations, before nnU-Net resolves one.

    Args:
        shown: how messages call the plans.

    Raises:
        UserError: one is not known.
    """
    for place, name, known in _names(plans):
        if not isinstance(name, str) or name not in known:
            raise UserError(f"{shown} names a class or function that is not among nnU-Net's.",
                            found=f"{place}: {name!r:.200}", expected=" or ".join(known),
                            fix="correct the name, or plan anew; nothing was run")


def require_known_reader(dataset_json: dict) -> None:
    """Checks the reader that ``dataset.json`` may name in the place of the file ending's.

    Raises:
        UserError: it is not known.
    """
    key = "overwrite_image_reader_writer"
    name = dataset_json.get(key, "None")
    if name not in (*READERS, "None"):
        raise UserError("dataset.json names a reader that is not among nnU-Net's.", found=f"{key}: {name!r:.200}",
                        expected=" or ".join(READERS), fix=f"correct {key}, or leave it out")


def _names(plans: dict) -> Iterator[tuple[str, object, tuple[str, ...]]]:
    """Where in the plans a name stands, the name, and the known ones."""
    yield from _listed(plans, OF_PLANS, "")
    configurations = plans.get("configurations")
    for configuration, section in (configurations if isinstance(configurations, dict) else {}).items():
        place = f"configurations.{configuration}."
        yield from _listed(section, OF_CONFIGURATION, place)
        architecture = section.get("architecture") if isinstance(section, dict) else None
        yield from _listed(architecture, OF_ARCHITECTURE, f"{place}architecture.")
        arguments = architecture.get("arch_kwargs") if isinstance(architecture, dict) else None
        yield from ((where, name, known) for where, name, known in _listed(
            arguments, OF_NETWORK, f"{place}architecture.arch_kwargs.") if name is not None)


def _listed(section: object, known: dict[str, tuple[str, ...]],
            place: str) -> Iterator[tuple[str, object, tuple[str, ...]]]:
    for key in (key for key in known if isinstance(section, dict) and key in section):
        value = section[key]
        for name in value if isinstance(value, (list, tuple)) else [value]:
            yield f"{place}{key}", name, known[key]
