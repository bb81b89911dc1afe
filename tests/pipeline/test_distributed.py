"""Two processes on the CPU train one network on one divided batch."""

import torch
from chain import command

from medsegdiff_auto.benchmarks.planned_training import initialized_trainer, random_batch, read_plans
from medsegdiff_auto.training.checkpoints import load_safely
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff

NUM_STEPS = 2


def trained_weights(rank: int, world_size: int, plans_file, configuration, folder) -> None:
    """Takes steps on a batch of its own and stores weights and losses."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world_size)
    torch.manual_seed(rank)  # other weights at first: DDP sends those of the first process to all
    plans, dataset_json = read_plans(plans_file)
    trainer = initialized_trainer(nnUNetTrainerMedSegDiff, plans, configuration, dataset_json, torch.device("cpu"))
    trainer.seed = 0
    losses = [float(trainer.train_step(random_batch(trainer, 10 * step + rank))["loss"]) for step in range(NUM_STEPS)]
    torch.save((trainer.bare_network.state_dict(), trainer.ema.network.state_dict(), losses, trainer.batch_size),
               folder / f"{rank}.pth")
    torch.distributed.destroy_process_group()


def test_two_processes_see_other_batches_and_keep_the_same_weights(chain_2d, folders, tmp_path, monkeypatch):
    folders(chain_2d.root)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "29511")
    torch.multiprocessing.spawn(trained_weights, (2, chain_2d.model / "plans.json", "2d", tmp_path), 2)
    (first, first_average, first_losses, first_batch), (second, second_average, second_losses, second_batch) = (
        torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1))
    assert first_losses != second_losses
    assert first_batch + second_batch == read_plans(chain_2d.model / "plans.json")[0]["configurations"]["2d"]["batch_size"]
    for key, value in first.items():
        assert torch.equal(value, second[key]) and torch.equal(first_average[key], second_average[key]), key


def test_the_command_trains_and_validates_a_fold_by_two_processes(spare_fold):
    assert command("train 902 2d 4 --iterations 4 -device cpu --seed 0 -num_gpus 2") == 0
    assert load_safely(spare_fold / "checkpoint_final.pth")["num_train_steps_done"] == 4
    assert (spare_fold / "validation" / "summary.json").is_file()


def test_more_processes_than_samples_in_a_batch_are_refused(spare_fold, capsys):
    assert command("train 902 2d 4 --iterations 4 -device cpu -num_gpus 99") == 2
    assert "The batch cannot be divided" in capsys.readouterr().err
