"""Which names a case may have: the one rule for images, listings, tables and converted datasets."""

from pathlib import Path

COMPANION_SUFFIXES = ("_uncertainty", "_mutual_information", "_samples", "_probabilities", "_inclusion", ".seg")
LABELS_SUFFIX = "_seg"  # nnU-Net stores the preprocessed labels of CASE as CASE_seg
EXPECTED = "a name that is no path, does not begin with a dot and does not end like a companion file"


def case_name_fault(name: str, is_for_training: bool = False) -> str | None:
    """Why a case cannot have this name, as the end of the sentence that the name begins; None where it can.

    A path would leave the folder of the results, a hidden file is passed over, and the files of a case would replace
    companions of another one: ``a_samples.nii.gz`` holds the samples of ``a``.
    """
    if not name or Path(name).name != name:
        return "is a path, which could lead out of the folder of the results"
    if name.startswith("."):
        return "begins with a dot, as hidden files do"
    if name.splitlines() != [name]:
        return "holds a line break"
    if any("\ud800" <= character <= "\udfff" for character in name):
        return "is not written in UTF-8"
    reserved = (*COMPANION_SUFFIXES, LABELS_SUFFIX) if is_for_training else COMPANION_SUFFIXES
    suffix = next((suffix for suffix in reserved if name.endswith(suffix)), None)
    return f"ends in {suffix}, as a companion file of another case does" if suffix else None


def ends_like_a_companion(stem: str) -> bool:
    """Whether a file beside predictions holds a map of a case and is no prediction itself."""
    return stem.endswith(COMPANION_SUFFIXES)
