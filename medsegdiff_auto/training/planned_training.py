"""Trainers of a plan without its dataset, batches of random images for them, and what a step of them takes."""

from __future__ import annotations

import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, time

import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from medsegdiff_auto.nnunet.dataset_files import image_file
from medsegdiff_auto.nnunet.managers import determine_num_input_channels

DATASET_JSON = "dataset.json"


def read_plans(plans_file: Path) -> tuple[dict, dict]:
    """Plans and the ``dataset.json`` beside them."""
    return load_json(str(plans_file)), load_json(str(plans_file.parent / DATASET_JSON))


def initialized_trainer(trainer_class: type[nnUNetTrainer], plans: dict, configuration: str, dataset_json: dict,
                        device: torch.device, data_folder: Path | None = None,
                        num_epochs: int | None = None) -> nnUNetTrainer:
    """A trainer that could take its first step, with nothing but its plans unless there is preprocessed data.

    ``num_epochs`` is nnU-Net's thousand where it is None; few of them give our trainer AdamW for both networks.
    """
    plans = copy.deepcopy(plans) | {"continue_training": False}
    trainer = trainer_class(plans, configuration, 0, dataset_json, device)
    if num_epochs is not None:
        trainer.num_epochs = num_epochs
    with TemporaryDirectory() as folder:  # nnU-Net looks at the names of the preprocessed files
        image_file(Path(folder), "case").touch()
        trainer.preprocessed_dataset_folder = folder if data_folder is None else str(data_folder)
        trainer.initialize()
    trainer.network.train()
    trainer.set_deep_supervision_enabled(True)
    trainer._checkpoint_time = time()
    return trainer


def random_batch(trainer: nnUNetTrainer, seed: int) -> dict:
    """Images of noise and random labels in the sizes that nnU-Net's loader gives."""
    generator = torch.Generator().manual_seed(seed)
    patch_size, batch_size = trainer.configuration_manager.patch_size, trainer.batch_size
    num_channels = determine_num_input_channels(trainer.plans_manager, trainer.configuration_manager,
                                                trainer.dataset_json)
    num_labels, regions = trainer.label_manager.num_segmentation_heads, trainer.label_manager.has_regions
    targets = []
    for scale in trainer._get_deep_supervision_scales():
        size = [round(n * s) for n, s in zip(patch_size, scale)]
        shape = (batch_size, num_labels if regions else 1, *size)
        targets.append(torch.randint(0, 2 if regions else num_labels, shape, generator=generator).float())
    return {"data": torch.randn(batch_size, num_channels, *patch_size, generator=generator), "target": targets}


def seconds_of_step(trainer: nnUNetTrainer, batch: dict, device: torch.device) -> float:
    """Wall time of one ``train_step``, the device's queue emptied before and after."""
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    synchronize()
    begin = perf_counter()
    trainer.train_step(batch)
    synchronize()
    return perf_counter() - begin
