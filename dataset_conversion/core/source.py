"""The vocabulary of a converter: what a source is, which cases it has, and what a case holds once it is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medsegdiff_auto.dataset_conversion.core.picture import Picture
    from medsegdiff_auto.dataset_conversion.core.volume import Volume

TRAIN, TEST = "train", "test"


class CaseProblem(Exception):
    """One case cannot be converted; the text is the reason. The other cases are converted all the same."""


@dataclass(frozen=True)
class About:
    """What ``--list`` and ``dataset.json`` say about a source: ``homepage`` is where to get it."""

    title: str
    modality: str
    task: str
    licence: str
    citation: str
    homepage: str


@dataclass(frozen=True)
class Case:
    """A case that is still to be read.

    ``name`` becomes the file name. Cases of one ``patient`` never stand on both sides of a split. ``files`` are all
    source files that it is made of; ``detail`` is whatever else ``Converter.read`` needs, of a type that can be
    pickled. ``part`` is ``TRAIN`` (imagesTr) or ``TEST`` (imagesTs).
    """

    name: str
    patient: str
    files: tuple[Path, ...]
    detail: Any = None
    part: str = TRAIN


@dataclass
class Sample:
    """A case that is read: volumes, or pictures (one RGB picture holds three channels).

    ``label`` is None for a test case without reference. ``raters`` are label maps by the rater's name. ``notes`` tell
    what was repaired.
    """

    channels: list[Volume] | list[Picture]
    label: Volume | Picture | None
    raters: dict[str, Volume | Picture] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Omission:
    """A case or a file that is not converted, and why."""

    name: str
    reason: str


@dataclass
class Contents:
    """What a folder holds, before any voxel is read.

    ``labels`` and ``regions_class_order`` are nnU-Net's, an ignore label included. ``left_out`` is what the
    converter leaves out on purpose, ``problems`` what is wrong with the folder. ``notes`` are facts that the user
    should know of the whole dataset. ``folds`` are official ones, lists of validation cases; without them the folds are
    drawn. Where the spacing is unknown, structures are counted in voxels.
    """

    dataset_name: str
    channel_names: list[str]
    labels: dict[str, int | list[int]]
    cases: list[Case]
    file_ending: str = ".nii.gz"
    regions_class_order: list[int] | None = None
    version: str = "not stated by the source"
    left_out: list[Omission] = field(default_factory=list)
    problems: list[Omission] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    other_files: list[Path] = field(default_factory=list)
    folds: list[list[str]] | None = None
    spacing_is_known: bool = True


class Converter(ABC):
    """One source dataset. A module of this package is a converter when it has an instance of this as ``CONVERTER``."""

    about: About
    has_raters = False  # whether --raters has something to write

    def add_options(self, parser: ArgumentParser) -> None:  # noqa: B027
        """Adds the flags that only this source has."""

    @abstractmethod
    def scan(self, source: Path, options: Namespace) -> Contents:
        """Lists the cases of the folder ``source`` without reading voxels.

        Raises:
            UserError: the folder does not have the layout of this source.
        """

    @abstractmethod
    def read(self, case: Case) -> Sample:
        """Reads a case; called in worker processes.

        Raises:
            CaseProblem: the case cannot be converted.
        """
