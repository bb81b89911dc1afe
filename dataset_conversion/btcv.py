"""BTCV, also called Synapse: thirteen organs in abdominal CT.

``Abdomen/RawData.zip`` as the authors distribute it (30 training and 20 test scans, numbers 0011 to 0020 do not exist):

    RawData/
      Training/img/img0001.nii.gz      Training/label/label0001.nii.gz
      Testing/img/img0061.nii.gz       without label maps

Many copies hold the same files as ``imagesTr/img0001.nii.gz``, ``labelsTr/label0001.nii.gz`` and
``imagesTs/img0061.nii.gz``.

Organs and licence: the pages of the challenge, synapse.org, syn3193805/wiki/89480, quoted in PaddleSeg's
contrib/MedicalSeg/configs/synapse. Folders, names and codes: the page of the UNETR bundle and the BTCV tutorial of
Project-MONAI, which agree. That no person was scanned twice is not stated; each scan counts as a patient.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from medsegdiff_auto.dataset_conversion.core.layout import require_files, unpaired
from medsegdiff_auto.dataset_conversion.core.source import TEST, About, Case, Contents, Converter, Sample
from medsegdiff_auto.dataset_conversion.core.volume import read_volume
from medsegdiff_auto.files.listing import listed

LABELS = {
    "background": 0, "spleen": 1, "right kidney": 2, "left kidney": 3, "gallbladder": 4, "esophagus": 5, "liver": 6,
    "stomach": 7, "aorta": 8, "inferior vena cava": 9, "portal and splenic veins": 10, "pancreas": 11,
    "right adrenal gland": 12, "left adrenal gland": 13
}
AS_DISTRIBUTED, AS_COPIED = ("Training/img", "Training/label", "Testing/img"), ("imagesTr", "labelsTr", "imagesTs")


class BTCV(Converter):
    """The folder RawData, with Training/ and Testing/."""

    about = About(
        title="BTCV, Multi-Atlas Labeling Beyond the Cranial Vault: abdomen", modality="CT, portal venous phase, 3-D",
        task="13 abdominal organs",
        licence="terms of use of Synapse, accepted at registration; no licence text was found",
        citation="Landman et al., MICCAI Multi-Atlas Labeling Beyond the Cranial Vault, Workshop and Challenge, 2015",
        homepage="https://www.synapse.org/#!Synapse:syn3193805/wiki/89480")

    def scan(self, source: Path, options: Namespace) -> Contents:
        images_folder, labels_folder, tests_folder = AS_COPIED if (source / AS_COPIED[0]).is_dir() else AS_DISTRIBUTED
        require_files(
            source, {f"{images_folder}/img*.nii.gz": "training scans", f"{labels_folder}/label*.nii.gz": "label maps"},
            "BTCV")
        images, labels = _by_number(source / images_folder, "img"), _by_number(source / labels_folder, "label")
        tests = _by_number(source / tests_folder, "img")
        cases = [Case(name, name, (images[name], labels[name])) for name in images if name in labels]
        cases += [Case(name, name, (path,), part=TEST) for name, path in tests.items()]
        return Contents(dataset_name="BTCV", channel_names=["CT"], labels=LABELS, cases=cases, problems=unpaired(
            images, labels), notes=[] if tests else [f"the test scans are not at hand ({tests_folder})"])

    def read(self, case: Case) -> Sample:
        image = read_volume(case.files[0])
        return Sample([image], None if case.part == TEST else read_volume(case.files[1]))


def _by_number(folder: Path, prefix: str) -> dict[str, Path]:
    """The scans or label maps of a folder by their case, btcv_0001."""
    return {f"btcv_{path.name.removeprefix(prefix).removesuffix('.nii.gz')}": path
            for path in listed(folder, f"{prefix}*.nii.gz")}


CONVERTER = BTCV()
