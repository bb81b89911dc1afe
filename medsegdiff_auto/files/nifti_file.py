"""A NIfTI file as its bytes say: the header, and whether all voxels are there. Compressed or not, whatever its name.

Both readers of NIfTI pass over faults: ITK fills up missing voxels with zeros and turns NaN into them, nibabel does not
know what ITK makes of a grid.
"""

import gzip
import io
import zlib
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from medsegdiff_auto.files.geometry import RAS_TO_LPS, Geometry
from medsegdiff_auto.files.unreadable import COPY_AGAIN, UnreadableScan, last_line
from medsegdiff_auto.findings import Finding

NIFTI_ENDINGS = (".nii", ".nii.gz")
_CHUNK_BYTES, _MAX_OFFSET = 1 << 22, 1 << 40
_HEADERS = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}


def is_nifti(path: Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return path.name.lower().endswith(NIFTI_ENDINGS)


def load_nifti(path: Path) -> nibabel.Nifti1Image:
    """The image by nibabel, also of an uncompressed file that is named ``.nii.gz``, which nibabel refuses."""
    if path.name.lower().endswith(".gz") and not is_gzip(path):
        return nibabel.Nifti1Image.from_bytes(path.read_bytes())
    return nibabel.load(path)


def is_gzip(path: Path) -> bool:
    """Whether the content is compressed."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def read_header(path: Path, shown: str) -> nibabel.Nifti1Header | None:
    """The header as it is stored; None for a file that has none.

    Raises:
        UnreadableScan: the gzip stream is damaged, or the header asks for voxels that no reader knows.
    """
    with _opened(path, shown) as stream:
        header = _header(stream.read(max(_HEADERS)))
    if header is None:
        return None
    try:
        header.get_data_dtype()
    except (HeaderDataError, KeyError) as failure:
        raise UnreadableScan(Finding(shown, "has voxels of an unknown type", last_line(failure),
                                     "whole numbers or floats of 8 to 64 bits", COPY_AGAIN)) from None
    if not 0 <= header["vox_offset"] < _MAX_OFFSET:
        raise UnreadableScan(Finding(shown, "has a header that does not say where its voxels begin",
                                     f"vox_offset {float(header['vox_offset']):g}", "352", COPY_AGAIN))
    slope, inter = (float(header[field]) for field in ("scl_slope", "scl_inter"))
    is_scaled = np.isfinite(slope) and slope != 0
    if not np.isfinite(inter) if is_scaled else np.isfinite(inter) and inter != 0:
        raise UnreadableScan(
            Finding(shown, "has a scale of intensities that readers take differently",
                    f"scl_slope {slope:g}, scl_inter {inter:g}", "two finite numbers, the slope not 0",
                    "save the file again with the intensities that it should have"))
    return header


def grid_of(header: nibabel.Nifti1Header) -> Geometry | None:
    """The grid as nibabel takes it from a header (sform, else qform), in ITK's axes; None where it has neither."""
    if header["sform_code"] <= 0 and header["qform_code"] <= 0:
        return None
    affine = RAS_TO_LPS @ header.get_best_affine()
    kept = min(3, max(2, int(header["dim"][0])))
    size = tuple(int(extent) for extent in header["dim"][1:kept + 1])
    spacing_mm = tuple(float(edge) for edge in np.linalg.norm(affine[:-1, :kept], axis=0))
    return Geometry(size, spacing_mm, affine[np.ix_([*range(kept), 3], [*range(kept), 3])])


def require_all_voxels(path: Path, header: nibabel.Nifti1Header, shown: str) -> int:
    """Reads the file to its end, once; returns the number of NaN and infinite values that are stored.

    Raises:
        UnreadableScan: it ends before its voxels do, or the gzip stream is damaged.
    """
    num_axes = int(header["dim"][0])
    num_voxels = int(np.prod(header["dim"][1:num_axes + 1], dtype=np.int64))
    dtype = header.get_data_dtype()
    missing, num_nonfinite = num_voxels * dtype.itemsize, 0
    with _opened(path, shown) as stream:
        stream.seek(max(int(header["vox_offset"]), header.sizeof_hdr + 4))
        while chunk := stream.read(_CHUNK_BYTES):
            voxels = chunk[:max(0, min(missing, len(chunk) // dtype.itemsize * dtype.itemsize))]
            missing -= min(missing, len(chunk))
            if dtype.kind == "f":
                num_nonfinite += int(np.count_nonzero(~np.isfinite(np.frombuffer(voxels, dtype))))
    if missing:
        needed = num_voxels * dtype.itemsize
        raise UnreadableScan(
            Finding(shown, "is truncated", f"{needed - missing} bytes of voxels", f"{needed} bytes, as its header says",
                    COPY_AGAIN))
    return num_nonfinite


@contextmanager
def _opened(path: Path, shown: str):
    try:
        with gzip.open(path) if is_gzip(path) else path.open("rb") as stream:
            yield stream
    except EOFError:
        raise UnreadableScan(
            Finding(shown, "is truncated", f"a gzip stream that ends early, after {path.stat().st_size} bytes",
                    "a complete file", COPY_AGAIN)) from None
    except (gzip.BadGzipFile, zlib.error) as failure:
        raise UnreadableScan(
            Finding(shown, "is damaged", last_line(failure), "an intact gzip stream", COPY_AGAIN)) from None


def _header(start: bytes) -> nibabel.Nifti1Header | None:
    for order in ("little", "big"):
        kind = _HEADERS.get(int.from_bytes(start[:4], order))
        if kind is not None and len(start) >= kind.sizeof_hdr:
            header = kind.from_fileobj(io.BytesIO(start), check=False)
            return header if header["magic"].item()[:2] == b"n+" else None
    return None
