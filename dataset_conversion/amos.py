"""AMOS 2022: fifteen organs in abdominal CT and MR.

    amos22/
      dataset.json  readme.md
      imagesTr/amos_0001.nii.gz  labelsTr/amos_0001.nii.gz      training, 200 CT and 40 MR
      imagesVa/...               labelsVa/...                   validation, 100 CT and 20 MR
      imagesTs/...                                              test, without label maps

Numbers up to 500 are CT, higher ones MR. Layout: the ``readme.md`` inside the archive (Zenodo record 7262581), repeated
on public mirrors; it says "less than 500", the converter of nnU-Net counts 500 as CT, and so does this one, because
there are 500 CT scans. Codes: the archive's ``dataset.json`` (spelled "arota" and "postcava" there) and the task page
of the challenge. The first release had no labelsVa; its validation images are left out. Which scans are of one person
is not stated.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from medsegdiff_auto.dataset_conversion.core.layout import require_files, unpaired
from medsegdiff_auto.dataset_conversion.core.source import TEST, About, Case, Contents, Converter, Sample
from medsegdiff_auto.dataset_conversion.core.volume import read_volume
from medsegdiff_auto.files.listing import listed

LAST_CT = 500
# nnU-Net normalises CT as CT, any other name by mean and deviation
CHANNELS = {"ct": "CT", "mr": "MR", "both": "CT or MR"}
LABELS = {
    "background": 0, "spleen": 1, "right kidney": 2, "left kidney": 3, "gallbladder": 4, "esophagus": 5, "liver": 6,
    "stomach": 7, "aorta": 8, "inferior vena cava": 9, "pancreas": 10, "right adrenal gland": 11,
    "left adrenal gland": 12, "duodenum": 13, "bladder": 14, "prostate or uterus": 15
}


class AMOS(Converter):
    """The folder amos22; the validation scans are training cases too, unless --official-validation makes them the only
    fold.
    """

    about = About(
        title="AMOS 2022", modality="CT and MR, 3-D", task="15 abdominal organs",
        licence="CC BY 4.0 on Zenodo, as redistributors state it; the paper's page at OpenReview names a CC BY-NC "
                "licence",
        citation="Ji et al., AMOS: A Large-Scale Abdominal Multi-Organ Benchmark for Versatile Medical Image "
                 "Segmentation, "
                 "NeurIPS 2022, arXiv 2206.08023",
        homepage="https://zenodo.org/record/7262581")

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("--modality", choices=CHANNELS, default="both",
                            help="ct is task 1 of the challenge, both is task 2 (default: %(default)s)")
        parser.add_argument("--official-validation", action="store_true",
                            help="one fold, trained on imagesTr and validated on imagesVa, in place of five drawn ones")

    def scan(self, source: Path, options: Namespace) -> Contents:
        require_files(
            source, {
                "imagesTr/amos_*.nii.gz": "training scans", "labelsTr/amos_*.nii.gz": "label maps of training scans",
                **({"imagesVa/amos_*.nii.gz": "validation scans",
                    "labelsVa/amos_*.nii.gz": "label maps of them"} if options.official_validation else {})
            }, "AMOS")
        cases, problems, names = [], [], {}
        notes = ["the source does not say which scans are of one person: each counts as a patient"]
        for part in ("Tr", "Va"):
            images, labels = (_scans(source / f"{kind}{part}", options.modality) for kind in ("images", "labels"))
            if part == "Va" and images and not labels:
                notes.append(f"the {len(images)} validation scans have no label maps at hand (labelsVa)")
                continue
            names[part] = sorted(set(images) & set(labels))
            cases += [Case(name, name, (images[name], labels[name])) for name in names[part]]
            problems += unpaired(images, labels)
        tests = _scans(source / "imagesTs", options.modality)
        cases += [Case(name, name, (path,), part=TEST) for name, path in tests.items()]
        return Contents(dataset_name="AMOS" if options.modality == "both" else f"AMOS-{CHANNELS[options.modality]}",
                        channel_names=[CHANNELS[options.modality]], labels=LABELS, cases=cases, problems=problems,
                        notes=notes if tests else [*notes, "the test scans are not at hand (imagesTs)"],
                        folds=[names["Va"]] if options.official_validation else None)

    def read(self, case: Case) -> Sample:
        image = read_volume(case.files[0])
        return Sample([image], None if case.part == TEST else read_volume(case.files[1]))


def _scans(folder: Path, modality: str) -> dict[str, Path]:
    """The files of a folder that are of the modality, by case name."""
    files = {
        path.name.removesuffix(".nii.gz"): path
        for path in listed(folder, "amos_[0-9][0-9][0-9][0-9].nii.gz")
    }
    return {name: path for name, path in files.items() if modality in ("both", _modality(name))}


def _modality(name: str) -> str:
    return "ct" if int(name.removeprefix("amos_")) <= LAST_CT else "mr"


CONVERTER = AMOS()
