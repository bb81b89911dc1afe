"""What a folder holds: the files that a rule takes, and the remainder, which is reported file by file.

Hidden files and those that systems leave everywhere are nobody's data. Links are followed. A file with the name of an
image that no rule takes is an error, because a case would be passed over in silence; any other file is a warning.
"""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from medsegdiff_auto.files.case_names import ends_like_a_companion
from medsegdiff_auto.findings import WARNING, Finding, errors_among

FOREIGN_NAMES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "autorun.inf", "icon\r", "__macosx", "@eadir",
                           "$recycle.bin", "system volume information", "lost+found"))
_OF_PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".jp2", ".bmp", ".gif", ".webp", ".heic")
_OF_VOLUMES = (".nii.gz", ".nii", ".nia", ".hdr", ".hdr.gz", ".img", ".img.gz", ".nrrd", ".nhdr", ".mha", ".mhd",
               ".gipl", ".gipl.gz", ".mgh", ".mgz", ".mnc", ".dcm", ".ima")
IMAGE_ENDINGS = _OF_VOLUMES + _OF_PICTURES
NUM_NAMED = 10


def is_foreign(name: str) -> bool:
    """Whether a name is a hidden one (``._x`` and ``.DS_Store`` of macOS) or one that a system leaves in any folder."""
    return name.startswith(".") or name.lower() in FOREIGN_NAMES


def visible(folder: Path) -> list[Path]:
    """The entries of a folder without hidden and foreign ones, sorted."""
    return sorted(path for path in folder.iterdir() if not is_foreign(path.name))


def listed(folder: Path, pattern: str) -> list[Path]:
    """The visible entries below a folder that a glob pattern names, sorted; links are followed."""
    names = set(glob.glob(pattern, root_dir=folder, recursive=True))
    return sorted(folder / name for name in names if not any(map(is_foreign, Path(name).parts)))


def visible_below(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """All visible entries below a folder, sorted folder by folder; links are followed, but not into a folder ``above``.
    """
    above |= {folder.resolve()}
    entries = visible(folder)
    yield from entries
    for entry in entries:
        if entry.is_dir() and entry.resolve() not in above:
            yield from visible_below(entry, above)


def ending_of(name: str, endings: Sequence[str] = IMAGE_ENDINGS) -> str:
    """The longest of the endings that a name has, as it is written there, in small letters or capitals; "" for none."""
    longest = max((ending for ending in endings if name.lower().endswith(ending)), key=len, default="")
    return name[len(name) - len(longest):]


def no_file(path: Path) -> tuple[str, str] | None:
    """What an entry is that is no file, and what was found; None for a file or a link to one."""
    if path.is_file():
        return None
    if path.is_dir():
        return "is a folder", "a folder"
    if path.is_symlink():
        return "is a link to nowhere", f"a link to {os.readlink(path)}"
    return "is no file", "a pipe, a socket or a device"


def files_of(folder: Path, file_ending: str, prefix: str = "") -> tuple[list[Path], list[Finding]]:
    """The visible files of a folder with an ending, and findings for all that nnU-Net would pass over.

    ``prefix`` heads the names in the findings.
    """
    taken, findings, others = [], [], []
    for path in visible(folder):
        fault = no_file(path)
        written = ending_of(path.name, (file_ending.lower(), *IMAGE_ENDINGS))
        if written == file_ending and fault is None:
            taken.append(path)
        elif fault is not None and (written or (path.is_symlink() and not path.exists())):
            findings.append(Finding(f"{prefix}{path.name}", f"{fault[0]} in the place of an image", fault[1],
                                    "an image file", "put the image there, or remove it"))
        elif written:
            findings.append(_other_ending(path, written, file_ending, prefix))
        elif not (file_ending.lower() in (".tif", ".tiff") and path.suffix == ".json"):  # the spacing of a TIFF
            others.append(f"{path.name}{'/' * path.is_dir()}")
    if others:
        shown = ", ".join(others[:NUM_NAMED]) + (f", ... ({len(others)})" if len(others) > NUM_NAMED else "")
        findings.append(Finding(prefix.rstrip("/") or folder.name, "holds what is no image and is not read", shown,
                                f"images with the ending {file_ending}", "nothing, if that is meant", WARNING))
    return taken, findings


def passed_over(folder: Path, file_ending: str) -> list[Finding]:
    """Errors for the files of those label maps that a folder holds under another ending only, companions left aside."""
    stems = {path.name: path.name[:len(path.name) - len(ending_of(path.name))] for path in visible(folder)}
    errors = {Path(finding.file).name: finding
              for finding in errors_among(files_of(folder, file_ending, f"{folder.name}/")[1])}
    return [finding for name, finding in errors.items()
            if not ends_like_a_companion(stems[name]) and not (folder / f"{stems[name]}{file_ending}").is_file()]


def commonest_ending(folder: Path) -> str | None:
    """The file ending that most image files of a folder have; None where it holds none."""
    endings = Counter(ending_of(path.name) for path in visible(folder) if no_file(path) is None)
    del endings[""]
    return endings.most_common(1)[0][0] if endings else None


def _other_ending(path: Path, written: str, file_ending: str, prefix: str) -> Finding:
    name, renamed = f"{prefix}{path.name}", f"{path.name[:-len(written)]}{file_ending}"
    if written.lower() == file_ending.lower():
        return Finding(name, "has the file ending in other letters", written, file_ending, f"rename it to {renamed}")
    is_beside = written.lower() in _OF_PICTURES and file_ending.lower() not in _OF_PICTURES
    return Finding(name, "has another file ending and is not read", written, f"{file_ending}, as in dataset.json",
                   f"convert it to {renamed}, or move it elsewhere", **({"severity": WARNING} if is_beside else {}))
