"""``nnunet_adamw`` needs no training of its own: nnU-Net's network in our checkpoint is the one that it would train."""

import shutil

import torch
from folds_place import command, use
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock

from medsegdiff_auto.inference.model import load_model
from medsegdiff_auto.inference.plain_network import plain_of_nnunet, plain_of_ours
from medsegdiff_auto.nnunet.managers import ConfigurationManager, with_faster_norm
from medsegdiff_auto.training import plain, run, trainer
from medsegdiff_auto.training.checkpoints import load_safely

LINE = "train 921 2d 0 --iterations 20 --seed 5 -device cpu"


class Alone(plain.nnUNetTrainer):
    """nnU-Net's trainer with the optimizer of short trainings, and nothing beside its network."""

    @staticmethod
    def build_network_architecture(plans_manager, configuration_manager, *sizes):
        faster = ConfigurationManager(with_faster_norm(configuration_manager.configuration))
        return stock.nnUNetTrainer.build_network_architecture(plans_manager, faster, *sizes)

    def configure_optimizers(self):
        rate = trainer.SHORT_TRAINING_LEARNING_RATE
        optimizer = torch.optim.AdamW(self.network.parameters(), rate, weight_decay=self.weight_decay, fused=True)
        return optimizer, PolyLRScheduler(optimizer, rate, self.num_epochs)


def test_a_training_of_nnunets_network_alone_ends_with_the_weights_of_the_one_beside_our_denoiser(planned, monkeypatch):
    use(planned, monkeypatch)
    assert command(LINE) == 0
    monkeypatch.setitem(run.TRAINERS, "nnUNetTrainer", type("nnUNetTrainer", (Alone,), {}))
    assert command(f"{LINE} -tr nnUNetTrainer") == 0
    ours, alone = (planned.fold(name, 0) for name in ("nnUNetTrainerMedSegDiff", "nnUNetTrainer"))
    raw = load_safely(ours / "checkpoint_final.pth")["raw_weights"]
    weights = load_safely(alone / "checkpoint_final.pth")["network_weights"]
    assert len(weights) > 10
    for name, value in weights.items():
        assert torch.equal(raw[f"conditioner.unet.{name}"], value), name

    # and nnU-Net's predictor gives the same probabilities of either checkpoint, where they hold the same weights
    device, model = torch.device("cpu"), load_model(ours.parent, [0])
    model.fold_weights[0] = raw
    image = torch.randn(1, 1, 40, 40, generator=torch.Generator().manual_seed(0)).numpy()
    of_ours = plain_of_ours(model, 0, device).probabilities(image)
    assert of_ours.shape[1:] == (1, 40, 40) and torch.allclose(of_ours.sum(0), torch.ones(1, 40, 40))
    assert torch.equal(of_ours, plain_of_nnunet(alone.parent, 0, device).probabilities(image))
    for folder in (ours, alone):
        shutil.rmtree(folder.parent)
