"""The check of the image files of one case, for training and for prediction alike."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from medsegdiff_auto.findings import WARNING, Finding
from medsegdiff_auto.checks.dataset_json import num_channels
from medsegdiff_auto.checks.scan_findings import (constant_value, geometry_findings, nonfinite_findings,
                                                 overflow_findings)
from medsegdiff_auto.files.pictures import PICTURE_ENDINGS
from medsegdiff_auto.files.scans import Geometry, Scan, UnreadableScan, read_scan
from medsegdiff_auto.nnunet.readers import BaseReaderWriter

RGB_TO_0_1, HIGHEST_RGB = "rgb_to_0_1", 255  # nnU-Net's normalisation of that name refuses other intensities


def check_channels(images: dict[int, Path], reader: BaseReaderWriter, dataset_json: dict,
                   shown: Callable[[Path], str]) -> tuple[list[Finding], tuple[Geometry, str] | None]:
    """Findings about the image files of one case, and the grid of its first readable channel with that file's name.

    ``shown`` turns a path into the name that findings give to it. A file may hold several channels (an RGB image).
    """
    findings, grid, constants, num_found = [], None, {}, 0
    names = dataset_json.get("channel_names")
    names = names if isinstance(names, dict) else {}
    for path in images.values():
        try:
            scan = read_scan(path, reader, shown(path))
        except UnreadableScan as unreadable:
            findings.append(unreadable.finding)
            num_found += 1
            continue
        findings += nonfinite_findings(scan.num_nonfinite, scan.voxels.size, shown(path)) or overflow_findings(
            scan, shown(path)) or _range_findings(
                scan, shown(path), [names.get(str(num_found + number)) for number in range(len(scan.voxels))])
        num_found += len(scan.voxels)
        if constant_value(scan) is not None:
            constants[shown(path)] = constant_value(scan)
        if grid is None:
            grid = scan.geometry, shown(path)
        else:
            findings += geometry_findings(scan.geometry, shown(path), *grid)
    findings += _constant_findings(constants, len(images))
    return findings + _channel_findings(images, num_found, num_channels(dataset_json), shown), grid


def _range_findings(scan: Scan, shown: str, names: list) -> list[Finding]:
    channels = [voxels for voxels, name in zip(scan.voxels, names) if str(name).casefold() == RGB_TO_0_1]
    if not channels:
        return []
    lowest, highest = min(map(np.min, channels)), max(map(np.max, channels))
    if lowest >= 0 and highest <= HIGHEST_RGB:
        return []
    return [Finding(shown, f"has intensities that {RGB_TO_0_1} cannot take", f"{lowest:g} to {highest:g}",
                    f"0 to {HIGHEST_RGB}, as dataset.json names the channel {RGB_TO_0_1}",
                    "name the channel for what it is (such as MR), so that nnU-Net normalises it otherwise")]


def _constant_findings(constants: dict[str, float], num_files: int) -> list[Finding]:
    severity = {} if len(constants) == num_files else {"severity": WARNING}
    return [Finding(file, "is constant", f"{value:g} everywhere", "an image with contrast",
                    "replace the file, or remove the case", **severity) for file, value in constants.items()]


def _channel_findings(images: dict[int, Path], num_found: int, num_expected: int | None,
                      shown: Callable[[Path], str]) -> list[Finding]:
    first = next(iter(images.values()))
    if num_expected is None or (num_found == num_expected and list(images) == list(range(len(images)))):
        return []
    if list(images) == [0] and first.name.lower().endswith(PICTURE_ENDINGS):
        has_alpha = num_found == num_expected + 1 and num_found in (2, 4)
        return [Finding(shown(first), "holds another number of channels than dataset.json lists",
                        f"{num_found} channel(s)" + ", the last perhaps alpha" * has_alpha,
                        f"{num_expected} channel(s), in one file or in files _0000, _0001, ...",
                        "save it without the alpha channel" if has_alpha
                        else f"save it with {num_expected} channel(s), or correct channel_names in dataset.json")]
    found = ", ".join(f"{channel:04d}" for channel in images) + f" ({num_found} channel(s))"
    expected = ", ".join(f"{channel:04d}" for channel in range(num_expected))
    more = num_found > num_expected
    check = "belongs to a case with too many channels" if more else "belongs to a case that lacks a channel"
    return [Finding(shown(first), check, found, f"{expected} ({num_expected} channel(s) in dataset.json)",
                    "remove the surplus file, or list the channel in dataset.json" if more
                    else "add the missing file, or correct channel_names in dataset.json")]
