"""BraTS: glioma in four MRI sequences, as three nested regions.

    2015         {HGG,LGG}/brats_2013_pat0001_1/VSD.Brain.XX.O.MR_{Flair,T1,T1c,T2}.N/VSD.*.mha,
                 beside them VSD.Brain_3more.XX.O.OT.N/VSD.*.mha
                 1 necrosis, 2 oedema, 3 non-enhancing core, 4 enhancing tumour
    2017 - 2019  {HGG,LGG}/Brats18_CBICA_AAB_1/Brats18_CBICA_AAB_1_{flair,t1,t1ce,t2,seg}.nii.gz
    2020, 2021   BraTS20_Training_001/BraTS20_Training_001_{flair,t1,t1ce,t2,seg}.nii[.gz], BraTS2021_00006/...
                 1 necrosis and non-enhancing core, 2 oedema, 4 enhancing tumour
    2023         BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t1n,t1c,t2w,t2f,seg}.nii.gz
                 1 necrotic core, 2 oedema, 3 enhancing tumour
    Decathlon    Task01_BrainTumour: FLAIR, T1, T1 with contrast, T2 along a fourth axis
                 1 oedema, 2 non-enhancing core, 3 enhancing tumour

All become 1 oedema, 2 necrotic or non-enhancing core, 3 enhancing tumour. Layouts: Menze et al. 2015, Bakas et al.
2018, Baid et al. 2021 (arXiv 2107.02314), the challenge pages of 2023, the ``dataset.json`` of the Decathlon. In BraTS
2020 one case (355) has its mask under another name, ``W39_1998.09.19_Segm.nii``.
"""

from __future__ import annotations

import re
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from medsegdiff_auto.dataset_conversion import msd
from medsegdiff_auto.dataset_conversion.core.labels import relabel
from medsegdiff_auto.dataset_conversion.core.layout import shown_entries
from medsegdiff_auto.dataset_conversion.core.source import (TEST, TRAIN, About, Case, Contents, Converter, Omission,
                                                            Sample)
from medsegdiff_auto.dataset_conversion.core.volume import read_volume
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.listing import listed

CHANNELS = ["T1", "T1 with contrast", "T2", "FLAIR"]
LABELS = {"background": 0, "whole tumour": [1, 2, 3], "tumour core": [2, 3], "enhancing tumour": [3]}
UNLABELLED = re.compile(r"validation|testing", re.IGNORECASE)


@dataclass(frozen=True)
class Edition:
    """How an edition names files: ``file`` finds the sequence (and the case, unless a folder names it), ``parts`` are
    the four sequences in the order of ``CHANNELS`` and the mask, ``codes`` its labels, ``patient`` the patient in the
    case's
    name."""

    version: str
    file: re.Pattern
    parts: tuple[str, ...]
    codes: dict[int, int]
    patient: re.Pattern


EDITIONS = (
    Edition("2015",
            re.compile(r"VSD\.Brain(?:_\d+more)?\.XX\.(?:O|XX)\.(?P<part>MR_T1c|MR_T1|MR_T2|MR_Flair|OT)\.\d+\.mha"),
            ("MR_T1", "MR_T1c", "MR_T2", "MR_Flair", "OT"), {0: 0, 1: 2, 2: 1, 3: 2, 4: 3},
            re.compile(r"(brats_\w+?_pat\d+)_\d+")),
    Edition("2017 to 2019", re.compile(r"(?P<case>Brats1[789]_\w+)_(?P<part>flair|t1|t1ce|t2|seg)\.nii(?:\.gz)?"),
            ("t1", "t1ce", "t2", "flair", "seg"), {0: 0, 1: 2, 2: 1, 4: 3}, re.compile(r"(.+)_\d+")),
    Edition("2020", re.compile(r"(?P<case>BraTS20_\w+)_(?P<part>flair|t1|t1ce|t2|seg)\.nii(?:\.gz)?"),
            ("t1", "t1ce", "t2", "flair", "seg"), {0: 0, 1: 2, 2: 1, 4: 3}, re.compile(r"(.+)")),
    Edition("2021", re.compile(r"(?P<case>BraTS2021_\w+)_(?P<part>flair|t1|t1ce|t2|seg)\.nii(?:\.gz)?"),
            ("t1", "t1ce", "t2", "flair", "seg"), {0: 0, 1: 2, 2: 1, 4: 3}, re.compile(r"(.+)")),
    Edition("2023", re.compile(r"(?P<case>BraTS-[A-Z]+-\d+-\d+)-(?P<part>t1n|t1c|t2w|t2f|seg)\.nii(?:\.gz)?"),
            ("t1n", "t1c", "t2w", "t2f", "seg"), {0: 0, 1: 2, 2: 1, 3: 3}, re.compile(r"(.+)-\d+")),
)
MISNAMED_MASK = re.compile(r"W39_.*_Segm\.nii(?:\.gz)?")
# the Decathlon's sequences are FLAIR, T1, T1 with contrast, T2
MSD_CODES, MSD_ORDER = {0: 0, 1: 1, 2: 2, 3: 3}, (1, 2, 3, 0)


class BraTS(Converter):
    """The folder of an edition's training data, or one that holds training and validation data, or Task01_BrainTumour.
    """

    about = About(
        title="BraTS 2015 to 2023", modality="MRI, 3-D: T1, T1 with contrast, T2, FLAIR",
        task="glioma: whole tumour, tumour core and "
        "enhancing tumour as nested regions",
        licence="registration with the challenge; CC BY-NC-SA 3.0 CH (2015), terms of the year "
        "(others); CC BY-SA 4.0 (Decathlon)",
        citation="Menze et al., The Multimodal Brain Tumor Image Segmentation Benchmark, IEEE TMI "
        "34 (2015); Bakas et al., Scientific Data 4 (2017); Baid et al., arXiv 2107.02314 (2021)",
        homepage="https://www.synapse.org/brats")

    def scan(self, source: Path, options: Namespace) -> Contents:
        if (source / "dataset.json").is_file():
            return _scan_decathlon(source, options)
        found, editions = _find_files(source)
        if not found:
            raise UserError(
                f"{source} is not the folder of a BraTS edition: no file has the name of a sequence.",
                found=shown_entries(source),
                expected="for example BraTS2021_00006/BraTS2021_00006_flair.nii.gz, or any other edition's names",
                fix="give the folder that holds the folders of the cases, unpacked")
        cases, problems = [], []
        for name, parts in sorted(found.items()):
            edition = editions[name]
            missing = [part for part in edition.parts if part not in parts]
            files = tuple(parts[part] for part in edition.parts if part in parts)
            patient = edition.patient.fullmatch(name)
            if missing and missing != [edition.parts[-1]]:
                problems.append(Omission(name, f"a sequence is missing: {', '.join(missing)}"))
            elif missing and not UNLABELLED.search(f"{source.absolute().name}/{files[0].relative_to(source)}"):
                problems.append(Omission(name, f"image without a mask: {missing[0]} is missing"))
            else:
                cases.append(
                    Case(name,
                         patient.group(1) if patient else name, files, edition.codes, TEST if missing else TRAIN))
        return _contents(cases, problems, " and ".join(sorted({edition.version for edition in editions.values()})))

    def read(self, case: Case) -> Sample:
        if len(case.files) <= 2:
            frames = read_volume(case.files[0]).frames()
            channels, masks = [frames[index] for index in MSD_ORDER], case.files[1:]
        else:
            channels, masks = [read_volume(file) for file in case.files[:4]], case.files[4:]
        if not masks:
            return Sample(channels, None)
        mask = read_volume(masks[0])
        return Sample(channels, mask.like(relabel(mask.voxels, case.detail, masks[0].name)))


def _find_files(source: Path) -> tuple[dict[str, dict[str, Path]], dict[str, Edition]]:
    found: dict[str, dict[str, Path]] = {}
    editions: dict[str, Edition] = {}
    for file in listed(source, "**/*.*"):
        if MISNAMED_MASK.fullmatch(file.name):
            found.setdefault(file.parent.name, {})["seg"] = file
        for edition in EDITIONS:
            match = edition.file.fullmatch(file.name)
            if match:
                name = match.groupdict().get("case") or file.parent.parent.name
                found.setdefault(name, {})[match["part"]] = file
                editions[name] = edition
    return {name: parts for name, parts in found.items() if name in editions}, editions


def _scan_decathlon(source: Path, options: Namespace) -> Contents:
    task = msd.CONVERTER.scan(source, options)
    if len(task.channel_names) != len(CHANNELS) or len(task.labels) != len(MSD_CODES):
        raise UserError(f"{source} is another task of the Decathlon.",
                        found=f"{task.dataset_name}: {', '.join(task.channel_names)}",
                        expected="Task01_BrainTumour: FLAIR, T1w, t1gd, T2w", fix=f"medsegdiff_convert msd -i {source}")
    cases = [Case(case.name, case.patient, case.files, MSD_CODES, case.part) for case in task.cases]
    contents = _contents(cases, task.problems, f"Decathlon {task.version}")
    contents.notes, contents.other_files = task.notes, task.other_files
    return contents


def _contents(cases: list[Case], problems: list[Omission], version: str) -> Contents:
    return Contents(dataset_name="BraTS", channel_names=CHANNELS, labels=LABELS, regions_class_order=[1, 2, 3],
                    cases=cases, problems=problems, version=version)


CONVERTER = BraTS()
