"""``model.zip``: a trained model as one file without code, which is checked before anything of it is written.

    member                            content
    manifest.json                     :class:`Manifest`: whose model, licences, versions, and every other member
    README.md                         the model card
    plans.json, dataset.json          of the model folder
    dataset_fingerprint.json          where the model folder has it
    sampling.json                     what was fitted
    fold_K/weights.safetensors        the averaged weights that predict
    fold_K/fold.json                  :class:`~medsegdiff_auto.inference.model_unpacking.FoldFacts`
    FOLDER/postprocessing.json        the steps of FOLDER/postprocessing.pkl, as plain values
    self_test.json, .safetensors      what the model answers to a phantom

Free of torch.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Literal

from pydantic import Field, StrictStr

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.schemas import STRICT, validated

FORMAT = 1
MANIFEST, CARD, SELF_TEST = "manifest.json", "README.md", "self_test"
FINGERPRINT = "dataset_fingerprint.json"
WEIGHTS, FACTS, POSTPROCESSING = "weights.safetensors", "fold.json", "postprocessing.json"
_FOLD, _SELECTION = r"fold_(?:all|\d{1,3})", r"(?:crossval_results|selection)_folds_\d{1,3}(?:_\d{1,3}){0,99}"
_TEXTS = rf"{MANIFEST}|{CARD}|plans\.json|dataset\.json|{FINGERPRINT}|sampling\.json|{SELF_TEST}\.json|" \
         rf"{_FOLD}/{FACTS}|{_SELECTION}/{POSTPROCESSING}"
_TENSORS = rf"{SELF_TEST}\.safetensors|{_FOLD}/{WEIGHTS}"
REQUIRED = (MANIFEST, CARD, "plans.json", "dataset.json", f"{SELF_TEST}.json", f"{SELF_TEST}.safetensors")
MOST_MEMBERS, MOST_BYTES_OF_TEXT = 1000, 2 ** 26
BLOCK = 2 ** 20

Digest = Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[StrictStr, Field(max_length=10_000)]
DatasetName = Annotated[StrictStr, Field(pattern=r"^Dataset\d{3}_[A-Za-z0-9_.+-]{1,100}$")]
ModelName = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9]{1,100}__[A-Za-z0-9_.+-]{1,100}__[A-Za-z0-9_.+-]{1,100}$")]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Member:
    """Checksum (SHA-256) and size in bytes of a member."""

    __pydantic_config__ = STRICT

    sha256: Digest
    size: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Score:
    """Mean Dice of a structure over validation cases, [0, 1], with the 95 % bootstrap interval over the cases.

    The interval is None for fewer than two cases.
    """

    __pydantic_config__ = STRICT

    dice: Share
    low: Share | None
    high: Share | None
    num_cases: Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Terms:
    """Under which terms a model is handed over; None where nothing is said.

    Attributes:
        weights_licence, data_licence: of the weights, and of the data that they were trained on.
        citation: what to cite.
    """

    __pydantic_config__ = STRICT

    weights_licence: Text | None = None
    data_licence: Text | None = None
    citation: Text | None = None


@dataclass(frozen=True)
class Manifest:
    """What a model file says of itself.

    Attributes:
        model: nnU-Net's name of the model folder, ``Trainer__Plans__configuration``.
        versions: of the packages that exported it.
        data_fingerprint: checksum of ``dataset_fingerprint.json``; None where the model folder has none.
        scores: of the validation cases of all folds together, by structure.
        files: every other member.
    """

    __pydantic_config__ = STRICT

    format: Literal[1]
    dataset: DatasetName
    model: ModelName
    versions: dict[str, Text]
    terms: Terms
    data_fingerprint: Digest | None
    scores: dict[str, Score] = field(default_factory=dict)
    files: dict[str, Member] = field(default_factory=dict)


@dataclass(frozen=True)
class Archive:
    """A model file that is open and was found sound.

    Attributes:
        file: its path.
    """

    file: Path
    manifest: Manifest
    parts: zipfile.ZipFile

    @property
    def folds(self) -> list[int | str]:
        """Folds that it holds, numbers before ``all``."""
        names = [name.partition("/")[0].removeprefix("fold_") for name in self.manifest.files if name.endswith(WEIGHTS)]
        return [*sorted(int(name) for name in names if name.isdigit()), *(name for name in names if name == "all")]

    def extract(self, folder: Path) -> None:
        """Writes every member below a folder.

        Raises:
            UserError: the disk has no room.
        """
        needed, free = sum(part.file_size for part in self.parts.infolist()), shutil.disk_usage(folder).free
        if needed > free:
            raise UserError(f"There is no room for {self.file}.", found=f"{free / 1e9:.2f} GB free in {folder}",
                            expected=f"{needed / 1e9:.2f} GB", fix="make room, or import it into another folder")
        for part in self.parts.infolist():
            file = folder / part.filename
            file.parent.mkdir(exist_ok=True)
            with self.parts.open(part) as source, file.open("xb") as target:
                shutil.copyfileobj(source, target, BLOCK)


@contextmanager
def opened(file: Path) -> Iterator[Archive]:
    """A model file, after its members' names, kinds, sizes and checksums were compared with its manifest.

    Raises:
        UserError: it is damaged, was changed, or holds what no model file holds; nothing of it was written.
    """
    try:
        stream: IO[bytes] = file.open("rb")
    except OSError as failure:
        raise _refused(file, failure.strerror or str(failure), "a file that can be read") from failure
    with stream:
        with _damage_in_four_lines(file):
            parts = zipfile.ZipFile(stream)
            _require_harmless(file, parts, stream.seek(0, 2))
            manifest = _manifest(file, parts)
            _require_members(file, parts, manifest)
        yield Archive(file, manifest, parts)


def checksum_and_size(stream: IO[bytes]) -> Member:
    """The manifest's entry of what a stream holds."""
    digest, size = hashlib.sha256(), 0
    while block := stream.read(BLOCK):
        digest.update(block)
        size += len(block)
    return Member(digest.hexdigest(), size)


def write_archive(folder: Path, manifest: Manifest, file: Path) -> Manifest:
    """Writes all files below a folder as a model file, the same bytes for the same content; returns its manifest.

    Args:
        manifest: without :attr:`Manifest.files`.
        file: not yet in its place (:func:`~medsegdiff_auto.writing.atomically`).
    """
    from dataclasses import asdict, replace

    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = {}
    for name in names:
        assert re.fullmatch(f"{_TEXTS}|{_TENSORS}", name), name
        with (folder / name).open("rb") as stream:
            files[name] = checksum_and_size(stream)
    manifest = replace(manifest, files=files)
    with zipfile.ZipFile(file, "w") as parts:
        text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False, allow_nan=False)
        parts.writestr(_entry(MANIFEST), text + "\n")
        for name in names:
            with (folder / name).open("rb") as source, parts.open(
                    _entry(name), "w", force_zip64=files[name].size > 2 ** 30) as target:
                shutil.copyfileobj(source, target, BLOCK)
    return manifest


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
    entry.compress_type = zipfile.ZIP_STORED if re.fullmatch(_TENSORS, name) else zipfile.ZIP_DEFLATED
    return entry


def _require_harmless(file: Path, parts: zipfile.ZipFile, num_bytes: int) -> None:
    """Looks at the list of members alone: names, kinds, sizes.

    Weights lie in it as they are, and texts are short: what is unpacked is never much more than the file.
    """
    entries = parts.infolist()
    if MANIFEST not in {entry.filename for entry in entries}:
        raise _refused(file, f"no {MANIFEST}", f"a file that medsegdiff_export wrote; it has a {MANIFEST}",
                       "export the model with medsegdiff_export; unpack nnU-Net's own zip files with "
                       "nnUNetv2_install_pretrained_model_from_zip, if you trust them")
    if len(entries) > MOST_MEMBERS:
        raise _refused(file, f"{len(entries)} members", f"at most {MOST_MEMBERS}")
    seen: set[str] = set()
    for entry in entries:
        name, kind = entry.filename, stat.S_IFMT(entry.external_attr >> 16)
        shown, is_text = repr(entry.orig_filename)[:200], re.fullmatch(_TEXTS, name)
        if entry.orig_filename != name or not (is_text or re.fullmatch(_TENSORS, name)):
            raise _refused(file, f"a member named {shown}", "the files of a model, by their names, and no others")
        if name in seen:
            raise _refused(file, f"{shown} twice", "every member once")
        if kind not in (0, stat.S_IFREG):
            raise _refused(file, f"{shown} is a link or a device", "plain files")
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _refused(file, f"{shown} is encrypted or packed in another way", "members stored or deflated")
        if is_text and entry.file_size > MOST_BYTES_OF_TEXT:
            raise _refused(file, f"{shown} of {entry.file_size} bytes", f"texts of at most {MOST_BYTES_OF_TEXT} bytes")
        if not is_text and (entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size):
            raise _refused(file, f"{shown} is packed: {entry.compress_size} bytes become {entry.file_size}",
                           "tensors stored as they are")
        seen.add(name)
    if sum(entry.compress_size for entry in entries) > num_bytes:
        raise _refused(file, "members that lie over each other", "every member in a place of its own")


def _manifest(file: Path, parts: zipfile.ZipFile) -> Manifest:
    try:
        return validated(Manifest, json.loads(parts.read(MANIFEST).decode("utf-8")))
    except (ValueError, RecursionError) as failure:
        raise _refused(file, f"{MANIFEST}: {str(failure) or 'nested too deeply'}"[:300],
                       f"a {MANIFEST} of format {FORMAT}, as medsegdiff_export of this version writes it") from failure


def _require_members(file: Path, parts: zipfile.ZipFile, manifest: Manifest) -> None:
    """Compares what is there with the manifest, every byte of it."""
    there, listed = {entry.filename for entry in parts.infolist()} - {MANIFEST}, manifest.files.keys()
    folders = {name.partition("/")[0] for name in there if name.startswith("fold_")}
    needed = {*REQUIRED, *(f"{folder}/{name}" for folder in folders or {"fold_0"} for name in (WEIGHTS, FACTS))}
    wrong = [f"{name} is not in {MANIFEST}" for name in sorted(there - listed)]
    wrong += [f"{name} is missing" for name in sorted((listed | needed) - there - {MANIFEST})]
    if wrong:
        raise _refused(file, "; ".join(wrong[:3]), f"every member that {MANIFEST} lists, and no other")
    for name in sorted(there):
        with parts.open(name) as stream:
            found = checksum_and_size(stream)
        if found != manifest.files[name] or found.size != parts.getinfo(name).file_size:
            raise _refused(file, f"another content of {name}: {found.size} bytes, SHA-256 {found.sha256[:12]}...",
                           f"{manifest.files[name].size} bytes, SHA-256 {manifest.files[name].sha256[:12]}...")


@contextmanager
def _damage_in_four_lines(file: Path) -> Iterator[None]:
    try:
        yield
    except (UserError, MemoryError):
        raise
    except OSError as failure:
        if failure.errno is not None:
            raise
        raise _refused(file, str(failure), "a whole zip file") from failure
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError,
            ArithmeticError, LookupError) as failure:  # the bytes of a damaged file fail in any way
        found = f"{type(failure).__name__}: {failure}"[:200]
        raise _refused(file, found, "a whole zip file that medsegdiff_export wrote") from failure


def _refused(file: Path, found: str, expected: str,
             fix: str = "copy the file again, or have the model exported again") -> UserError:
    return UserError(f"{file} is not taken for a model.", found=found, expected=expected,
                     fix=f"{fix}; nothing of it was written or run")
