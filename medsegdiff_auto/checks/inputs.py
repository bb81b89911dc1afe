"""The check of what a prediction reads and where it writes, before a network is loaded."""

import functools
import logging
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.checks.channels import check_channels
from medsegdiff_auto.checks.dataset_json import channel_files
from medsegdiff_auto.findings import Finding, errors_among, findings_table, raise_errors
from medsegdiff_auto.files.listing import commonest_ending, visible
from medsegdiff_auto.nnunet.readers import find_reader

logger = logging.getLogger(__name__)


def check_inputs(input_folder: str | Path, dataset_json: dict,
                 num_processes: int = 2, shown: Callable[[Path], str] = str) -> tuple[dict[str, list[Path]], list[str]]:
    """The image files of each intact case of a folder, in the order of the channels, and the cases that are left out.

    Every file is read, by ``num_processes`` threads; ``dataset_json`` is that of the model, ``shown`` turns a
    path into the name that findings give to it. All findings are logged as a table. A case is left out for a channel
    that is missing, empty, truncated, not an image, 4-D, NaN, constant, or on another grid than its first channel.

    Raises:
        UserError: the folder is missing or holds no image of the model's file ending, or no case is intact.
    """
    folder = Path(input_folder)
    cases, findings = _list_cases(folder, dataset_json["file_ending"])
    reader = find_reader(dataset_json, [path for files in cases.values() for path in files.values()])
    check = functools.partial(_case_findings, reader, dataset_json, shown)
    with ThreadPoolExecutor(max(1, num_processes)) as pool:
        of_cases = dict(zip(cases, pool.map(check, cases.values())))
    left_out = [finding.file for finding in errors_among(findings)]  # files that belong to no case
    left_out += [case for case, of_one_case in of_cases.items() if errors_among(of_one_case)]
    findings += [finding for of_one_case in of_cases.values() for finding in of_one_case]
    intact = {
        case: [files[channel] for channel in sorted(files)]
        for case, files in cases.items() if case not in left_out
    }
    if not intact:
        raise_errors(findings, str(folder), "the table above")
    if findings:
        logger.info("%s\n", findings_table(findings))
    return intact, left_out


def check_case(files: list[Path], dataset_json: dict, shown: Callable[[Path], str] = str) -> None:
    """Checks the images of one case, its channels in their order; ``shown`` turns a path into the name that messages
    give to it.

    Raises:
        UserError: the case is not intact.
    """
    findings = _case_findings(find_reader(dataset_json, files), dataset_json, shown, dict(enumerate(files)))
    raise_errors(findings, "The image", "the log")


def require_other_folder(input_folder: str | Path, output_folder: str | Path) -> None:
    """Check that the output goes elsewhere than the input lies: results would be taken for input the next time.

    Raises:
        UserError: the folders are the same.
    """
    if Path(input_folder).resolve() == Path(output_folder).resolve():
        raise UserError("The output folder is the input folder.", found=str(output_folder),
                        expected="a folder of its own", fix="choose another folder with -o")


def require_writable(output_folder: str | Path) -> Path:
    """Create ``output_folder`` if need be, and make sure that files can be written into it.

    Raises:
        UserError: a file has that name, or the folder cannot be created or written.
    """
    folder = Path(output_folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as failure:
        reason = "a file of that name" if folder.is_file() else failure.strerror or str(failure)
        raise UserError(f"The output folder {folder} cannot be written.", found=reason,
                        expected="a folder in which files can be created",
                        fix="choose another folder with -o, or repair its permissions") from failure
    return folder


def _list_cases(folder: Path, file_ending: str) -> tuple[dict[str, dict[int, Path]], list[Finding]]:
    if not folder.is_dir():
        raise UserError("The input folder does not exist." if not folder.exists() else "The input is not a folder.",
                        found=str(folder), expected=f"a folder of images CASE_0000{file_ending}", fix="correct -i")
    cases, findings = channel_files(folder, file_ending)
    common = None if cases else commonest_ending(folder)
    if (not cases and not errors_among(findings)) or common not in (None, file_ending):
        present = [path.name for path in visible(folder)]
        shown = ", ".join(present[:3]) + (", ..." if len(present) > 3 else "") if present else "an empty folder"
        is_renamed = common is not None and common.lower() == file_ending.lower()
        raise UserError(f"The input folder {folder} holds no image that the model can read.", found=shown,
                        expected=f"images named CASE_0000{file_ending}",
                        fix=f"rename the images to end in {file_ending}" if is_renamed else
                        f"convert the images to {file_ending}, as in the model's training data")
    return cases, findings


def _case_findings(reader, dataset_json: dict, shown: Callable[[Path], str], files: dict[int, Path]) -> list[Finding]:
    return check_channels(files, reader, dataset_json, shown)[0]
