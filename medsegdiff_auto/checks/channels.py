"""The check of the image files of one case, for training and for prediction alike."""

from collections.abc import Callable
from pathlib import Path

from medsegdiff_auto.findings import WARNING, Finding
from medsegdiff_auto.checks.scan_findings import constant_value, geometry_findings, nonfinite_findings
from medsegdiff_auto.files.scans import Geometry, UnreadableScan, read_scan
from medsegdiff_auto.nnunet.readers import BaseReaderWriter


def check_channels(images: dict[int, Path], reader: BaseReaderWriter, num_channels: int | None,
                   shown: Callable[[Path], str]) -> tuple[list[Finding], tuple[Geometry, str] | None]:
    """Findings about the image files of one case, and the grid of its first readable channel with that file's name.

    ``shown`` turns a path into the name that findings give to it. A file may hold several channels (an RGB image).
    ``num_channels`` is None where dataset.json does not say.
    """
    findings, grid, constants, num_found = [], None, {}, 0
    for path in images.values():
        try:
            scan = read_scan(path, reader, shown(path))
        except UnreadableScan as unreadable:
            findings.append(unreadable.finding)
            num_found += 1
            continue
        num_found += len(scan.voxels)
        findings += nonfinite_findings(scan, shown(path))
        if constant_value(scan) is not None:
            constants[shown(path)] = constant_value(scan)
        if grid is None:
            grid = scan.geometry, shown(path)
        else:
            findings += geometry_findings(scan.geometry, shown(path), *grid)
    findings += _constant_findings(constants, len(images))
    return findings + _channel_findings(images, num_found, num_channels, shown), grid


def _constant_findings(constants: dict[str, float], num_files: int) -> list[Finding]:
    severity = {} if len(constants) == num_files else {"severity": WARNING}
    return [Finding(file, "is constant", f"{value:g} everywhere", "an image with contrast",
                    "replace the file, or remove the case", **severity) for file, value in constants.items()]


def _channel_findings(images: dict[int, Path], num_found: int, num_channels: int | None,
                      shown: Callable[[Path], str]) -> list[Finding]:
    first = next(iter(images.values()))
    if num_channels is None or (num_found == num_channels and list(images) == list(range(len(images)))):
        return []
    found = ", ".join(f"{channel:04d}" for channel in images) + f" ({num_found} channel(s))"
    expected = ", ".join(f"{channel:04d}" for channel in range(num_channels))
    more = num_found > num_channels
    check = "belongs to a case with too many channels" if more else "belongs to a case that lacks a channel"
    return [Finding(shown(first), check, found, f"{expected} ({num_channels} channel(s) in dataset.json)",
                    "remove the surplus file, or list the channel in dataset.json" if more
                    else "add the missing file, or correct channel_names in dataset.json")]
