"""Volumes that are read and written slab by slab, in memory or on disk; the values do not depend on where they lie.

    code    meaning
    shape   (*leading, *spatial) with three spatial axes
    rows    slices of the first spatial axis, which slabs are cut along

A volume on disk is a file without a name, which vanishes with the process. It is read and written explicitly: pages of
a memory map would count as resident memory. Its order is slice by slice, so that a slab is one contiguous read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from tempfile import TemporaryFile
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

WHOLE = slice(None)
ELEMENTS_PER_BLOCK = 2 ** 22  # of what is computed voxel by voxel: 16 MB of float32 per temporary


class VolumeStore(ABC):
    """A volume of which a slab at a time is in use.

    Attributes:
        shape: (*leading, *spatial).
        can_be_written: a part of the spatial axes on disk is only read.
    """

    shape: tuple[int, ...]
    can_be_written = True

    @abstractmethod
    def read(self, rows: slice = WHOLE) -> Tensor:
        """(*leading, rows, *rest); a view where the volume is in memory."""

    def values(self, rows: slice) -> Tensor:
        """Reads rows in the order of their axes: logarithms of other orders differ in the last bit."""
        return self.read(rows).contiguous()

    @abstractmethod
    def write(self, rows: slice, values: Tensor) -> None:
        """Stores (*leading, rows, *rest), or what broadcasts to it."""

    @abstractmethod
    def __getitem__(self, index: int) -> VolumeStore:
        """One entry of the first leading axis, which shares the values."""

    @abstractmethod
    def cropped(self, place: Sequence[slice]) -> VolumeStore:
        """Part of the spatial axes, to be read."""

    @abstractmethod
    def on_cpu(self) -> VolumeStore:
        """The volume where the CPU reaches it."""

    @property
    def all_rows(self) -> slice:
        """All slices of the first spatial axis."""
        return slice(0, self.shape[-3])

    def blocks(self) -> Iterator[slice]:
        """All rows, in groups of at most :data:`ELEMENTS_PER_BLOCK` values."""
        return blocks(self.all_rows, torch.Size(self.shape).numel() // self.shape[-3])


class InMemory(VolumeStore):
    """A tensor (*leading, *spatial) on any device."""

    def __init__(self, tensor: Tensor):
        self.tensor, self.shape = tensor, tuple(tensor.shape)

    def read(self, rows: slice = WHOLE) -> Tensor:
        return self.tensor[..., rows, :, :]

    def write(self, rows: slice, values: Tensor) -> None:
        self.tensor[..., rows, :, :] = values

    def __getitem__(self, index: int) -> InMemory:
        return InMemory(self.tensor[index])

    def cropped(self, place: Sequence[slice]) -> InMemory:
        return InMemory(self.tensor[(..., *place)])

    def on_cpu(self) -> InMemory:
        return InMemory(self.tensor.cpu())


class OnDisk(VolumeStore):
    """An open file: for every slice of the first spatial axis the leading axes, then the slice.

    Args:
        offset, stride: bytes from the beginning to the first slice, and from one slice to the next.
        place: the part of the stored spatial axes that is read; None for all.
    """

    def __init__(self, file: FileIO, shape: Sequence[int], dtype: torch.dtype, stride: int, offset: int = 0,
                 place: Sequence[slice] | None = None):
        self.file, self.stored_shape, self.dtype, self.stride, self.offset = file, tuple(shape), dtype, stride, offset
        self.place = [slice(*one.indices(size)) for one, size in zip(place or [WHOLE] * 3, self.stored_shape[-3:])]
        self.shape = (*self.stored_shape[:-3], *(one.stop - one.start for one in self.place))
        self.can_be_written = self.shape == self.stored_shape

    def read(self, rows: slice = WHOLE) -> Tensor:
        start, stop, _ = rows.indices(self.shape[-3])
        values = torch.empty((*self.stored_shape[:-3], stop - start, *self.stored_shape[-2:]), dtype=self.dtype)
        for piece, position in self._pieces(values, start + self.place[0].start):
            _read(self.file, _bytes_of(piece), position)
        return values[(..., *self.place[1:])]

    def write(self, rows: slice, values: Tensor) -> None:
        assert self.can_be_written, "a part of a volume on disk is only read"
        start, stop, _ = rows.indices(self.shape[-3])
        values = values.to(self.dtype).expand(*self.shape[:-3], stop - start, *self.shape[-2:])
        for piece, position in self._pieces(values, start):
            _write(self.file, _bytes_of(piece.contiguous()), position)

    def _pieces(self, values: Tensor, first_slice: int) -> Iterator[tuple[Tensor, int]]:
        """Every slice of every leading entry of values that begin at a slice, and where it lies in the file."""
        leading = [values[index] for index in np.ndindex(self.stored_shape[:-3])]
        size = self.dtype.itemsize * self.stored_shape[-2] * self.stored_shape[-1]
        for number in range(values.shape[-3]):
            for entry, volume in enumerate(leading):
                yield volume[number], self.offset + (first_slice + number) * self.stride + entry * size

    def __getitem__(self, index: int) -> OnDisk:
        rest = self.stored_shape[1:]
        size = self.dtype.itemsize * torch.Size(rest).numel() // rest[-3]
        return OnDisk(self.file, rest, self.dtype, self.stride, self.offset + index * size, self.place)

    def cropped(self, place: Sequence[slice]) -> OnDisk:
        place = [slice(*one.indices(size)) for one, size in zip(place, self.shape[-3:])]
        inside = [slice(outer.start + one.start, outer.start + one.stop) for outer, one in zip(self.place, place)]
        return OnDisk(self.file, self.stored_shape, self.dtype, self.stride, self.offset, inside)

    def on_cpu(self) -> OnDisk:
        return self


@dataclass(frozen=True)
class Storage:
    """Where volumes are kept.

    Attributes:
        folder: of the files; None keeps the volumes in memory.
        device: of volumes in memory.
    """

    folder: Path | None = None
    device: torch.device | str = "cpu"

    @property
    def is_on_disk(self) -> bool:
        return self.folder is not None

    def empty(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> VolumeStore:
        """A volume that is written before it is read."""
        if self.folder is None:
            with torch.inference_mode(False):  # who is given the volume may write into it outside of that mode
                return InMemory(torch.empty(tuple(shape), dtype=dtype, device=self.device))
        stride = dtype.itemsize * (torch.Size(shape).numel() // shape[-3])
        return OnDisk(TemporaryFile(dir=self.folder, buffering=0), shape, dtype, stride)

    def on_cpu(self) -> Storage:
        """Storage of what is computed on the CPU: the same folder, or memory."""
        return Storage(self.folder)


class SlabReader:
    """The slab of a store under the tiles at hand, read once for all tiles of a row."""

    def __init__(self, store: VolumeStore):
        self.store, self.rows, self.slab = store, None, None

    def __call__(self, rows: slice) -> Tensor:
        """(*leading, rows, *rest)."""
        if rows != self.rows:
            self.slab = None  # before the next one is read
            self.rows, self.slab = rows, self.store.read(rows)
        return self.slab


def in_memory(array: np.ndarray) -> InMemory:
    """An array as a store, without a copy."""
    return InMemory(torch.from_numpy(array))


def blocks(rows: slice, elements_per_slice: int) -> Iterator[slice]:
    """The rows in groups of at most :data:`ELEMENTS_PER_BLOCK` values, at least one slice each."""
    thickness = max(1, ELEMENTS_PER_BLOCK // max(1, elements_per_slice))
    for start in range(rows.start, rows.stop, thickness):
        yield slice(start, min(start + thickness, rows.stop))


def _bytes_of(values: Tensor) -> memoryview:
    return memoryview(values.numpy().reshape(-1).view(np.uint8))


def _read(file: FileIO, buffer: memoryview, position: int) -> None:
    file.seek(position)
    while len(buffer):
        count = file.readinto(buffer)
        assert count, f"the file of a volume ends at {file.tell()}"
        buffer = buffer[count:]


def _write(file: FileIO, buffer: memoryview, position: int) -> None:
    file.seek(position)
    while len(buffer):
        buffer = buffer[file.write(buffer):]
