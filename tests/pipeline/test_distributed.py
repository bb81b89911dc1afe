"""Two processes on the CPU train one network on one divided batch, and end together, whatever ends them."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import MethodType

import pytest
import torch
from chain import command
from two_processes import PATIENCE_S, by_two_processes

from medsegdiff_auto.training.planned_training import initialized_trainer, random_batch, read_plans
from medsegdiff_auto.training.checkpoints import load_safely
from medsegdiff_auto.training.run import TrainingRequest, build_trainer
from medsegdiff_auto.training.schedule import TrainingLength, polynomial_learning_rate
from medsegdiff_auto.training.termination import EXIT_CODE, STOP_FILE
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff

NUM_STEPS = 2
LENGTH = TrainingLength(num_epochs=3, num_iterations_per_epoch=2)
HOURS_PER_EPOCH = (0.3, 0.7)  # by the clock of each process, of one hour in all


def trained_weights(rank: int, plans_file: Path) -> dict:
    """What two steps on batches of its own leave in a process."""
    torch.manual_seed(rank)  # other weights at first: DDP sends those of the first process to all
    plans, dataset_json = read_plans(plans_file)
    trainer = initialized_trainer(nnUNetTrainerMedSegDiff, plans, "2d", dataset_json, torch.device("cpu"))
    trainer.seed = 0
    losses = [float(trainer.train_step(random_batch(trainer, 10 * step + rank))["loss"]) for step in range(NUM_STEPS)]
    return {"weights": weights_of(trainer), "losses": losses, "batch_size": trainer.batch_size}


def weights_of(trainer) -> dict:
    """The weights that are trained and their average."""
    averaged = {f"average of {name}": value for name, value in trainer.ema.network.state_dict().items()}
    return trainer.bare_network.state_dict() | averaged


def different(first: dict, second: dict) -> list[str]:
    """Names of the weights that are not equal to the last bit."""
    assert first.keys() == second.keys()
    return [name for name, value in first.items() if not torch.equal(value, second[name])]


def test_two_processes_see_other_batches_and_keep_the_same_weights(chain_2d, folders, tmp_path):
    folders(chain_2d.root)
    plans_file = chain_2d.model / "plans.json"
    first, second = by_two_processes(trained_weights, tmp_path / "group", plans_file)
    assert first["losses"] != second["losses"]
    assert first["batch_size"] + second["batch_size"] == read_plans(plans_file)[0]["configurations"]["2d"]["batch_size"]
    assert different(first["weights"], second["weights"]) == []


def conditioner_of(batches: list[dict], plans_file: Path) -> dict:
    """The weights of nnU-Net's network after one step of SGD on each batch."""
    torch.manual_seed(0)
    plans, dataset_json = read_plans(plans_file)
    trainer = initialized_trainer(nnUNetTrainerMedSegDiff, plans, "2d", dataset_json, torch.device("cpu"))
    for batch in batches:
        trainer.train_step(batch)
    return trainer.bare_network.conditioner.state_dict()


def half_batches(plans_file: Path) -> list[tuple[dict, dict]]:
    """For every step the halves of a batch."""
    plans, dataset_json = read_plans(plans_file)
    plans["configurations"]["2d"]["batch_size"] = 2
    trainer = initialized_trainer(nnUNetTrainerMedSegDiff, plans, "2d", dataset_json, torch.device("cpu"))
    return [(random_batch(trainer, 10 * step), random_batch(trainer, 10 * step + 1)) for step in range(NUM_STEPS)]


def of_half_batches(rank: int, plans_file: Path, halves: list[tuple[dict, dict]]) -> dict:
    return conditioner_of([of_step[rank] for of_step in halves], plans_file)


def test_two_processes_leave_the_weights_of_one_with_the_whole_batch(chain_2d, folders, tmp_path):
    """Those of nnU-Net's network: the denoiser's noise and times are each process's own."""
    folders(chain_2d.root)
    plans_file = chain_2d.model / "plans.json"
    halves = half_batches(plans_file)
    whole = [{"data": torch.cat([first["data"], second["data"]]),
              "target": [torch.cat(pair) for pair in zip(first["target"], second["target"])]}
             for first, second in halves]
    by_one, start = conditioner_of(whole, plans_file), conditioner_of([], plans_file)
    for found in by_two_processes(of_half_batches, tmp_path / "group", plans_file, halves):
        moved = sum((by_one[name] - start[name]).abs().sum() for name in start)
        apart = sum((by_one[name] - found[name]).abs().sum() for name in start)
        assert apart < 1e-3 * moved, (apart, moved)


def new_trainer(preprocessed: Path, model: Path) -> nnUNetTrainerMedSegDiff:
    """A trainer of the fold that no other test trains."""
    request = TrainingRequest(preprocessed.name, "2d", 4, "MedSegDiffPlans", "nnUNetTrainerMedSegDiff", "cpu", LENGTH)
    torch.manual_seed(0)
    trainer = build_trainer(request, preprocessed, model)
    trainer.seed = 0
    return trainer


def run(trainer) -> dict:
    """What a training leaves in a process: weights, learning rates of every epoch, exit code, losses of every epoch."""
    rates, start = [], trainer.on_train_epoch_start

    def start_and_record() -> None:
        start()
        rates.append([optimizer.param_groups[0]["lr"] for _, optimizer in trainer.trained_parts])

    trainer.on_train_epoch_start, exit_code = start_and_record, 0
    try:
        trainer.run_training()
    except SystemExit as end:
        exit_code = end.code
    losses = [trainer.denoiser_losses, [float(loss) for loss in trainer.logger.get_value("train_losses", step=None)]]
    return {"weights": weights_of(trainer), "rates": rates, "exit_code": exit_code, "losses": losses,
            "num_steps": trainer.num_train_steps_done}


def stopped(rank: int, preprocessed: Path, model: Path) -> dict:
    """Ended by a STOP file."""
    trainer = new_trainer(preprocessed, model)
    (Path(trainer.output_folder) / STOP_FILE).touch()
    return run(trainer)


def ended_by_the_clock(rank: int, preprocessed: Path, model: Path) -> dict:
    """Ended by the clock, which is faster in the second process; in the first the hour is over after four epochs."""
    nnUNetTrainerMedSegDiff.hours = property(lambda trainer: HOURS_PER_EPOCH[rank] * trainer.current_epoch)
    trainer = new_trainer(preprocessed, model)
    trainer.max_hours, trainer.num_epochs = 1.0, 9
    return run(trainer)


def at_call(trainer, hook: str, number: int) -> None:
    """Sends SIGTERM to this process at one of the calls of a hook of the trainer, counted from 1."""
    call, calls = getattr(trainer, hook), []

    def counted(_trainer, *args):
        calls.append(args)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return call(*args)

    setattr(trainer, hook, MethodType(counted, trainer))


def terminated_and_continued(rank: int, preprocessed: Path, model: Path) -> dict:
    """SIGTERM to the second process in the third of six steps; then on from the checkpoint, and anew without SIGTERM.
    """
    trainer = new_trainer(preprocessed, model)
    if rank == 1:
        at_call(trainer, "new_train_step", 3)
    ends = {"terminated": run(trainer)}
    trainer = new_trainer(preprocessed, model)
    trainer.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_latest.pth"))
    resumed_at = trainer.num_train_steps_done, trainer.current_epoch, len(trainer.outputs_to_repeat)
    return ends | {"resumed_at": resumed_at, "continued": run(trainer),
                   "uninterrupted": run(new_trainer(preprocessed, model))}


def terminated_at_last(rank: int, preprocessed: Path, model: Path) -> dict:
    """The second process gets SIGTERM in the last epoch's validation."""
    trainer = new_trainer(preprocessed, model)
    if rank == 1:
        at_call(trainer, "validation_step", LENGTH.num_epochs * LENGTH.num_val_iterations_per_epoch)
    return run(trainer)


@pytest.fixture
def by_both(chain_2d, spare_fold, tmp_path):
    """Runs one of the trainings above by two processes and gives what it left in each."""
    return lambda training: by_two_processes(training, tmp_path / "group", chain_2d.preprocessed, chain_2d.model)


def only(ends: list[dict]) -> dict:
    """The end of a training in both processes, which is the same in both."""
    first, second = ends
    assert different(first["weights"], second["weights"]) == []
    assert {**first, "weights": 0} == {**second, "weights": 0}
    return first


def test_a_stop_file_ends_both_processes_after_the_epoch(by_both, spare_fold):
    end = only(by_both(stopped))
    assert (end["num_steps"], end["exit_code"]) == (2, 0)
    assert load_safely(spare_fold / "checkpoint_final.pth")["current_epoch"] == 1
    assert not (spare_fold / STOP_FILE).exists()


def test_the_clock_of_the_first_process_ends_both_and_gives_both_their_learning_rates(by_both):
    end = only(by_both(ended_by_the_clock))
    assert (end["num_steps"], end["exit_code"]) == (4 * LENGTH.num_iterations_per_epoch, 0)
    progress = [HOURS_PER_EPOCH[0] * epoch for epoch in range(4)]
    initial = end["rates"][0]
    assert end["rates"] == [[polynomial_learning_rate(rate, share) for rate in initial] for share in progress]


def test_sigterm_to_one_process_ends_both_and_the_continued_training_is_the_uninterrupted_one(by_both):
    both = by_both(terminated_and_continued)
    terminated, continued, uninterrupted = (only([ends[name] for ends in both])
                                            for name in ("terminated", "continued", "uninterrupted"))
    assert (terminated["num_steps"], terminated["exit_code"]) == (3, EXIT_CODE)
    assert both[0]["resumed_at"] == both[1]["resumed_at"] == (3, 1, 1)
    assert (continued["num_steps"], continued["exit_code"]) == (uninterrupted["num_steps"], 0) == (6, 0)
    assert different(continued["weights"], uninterrupted["weights"]) == []
    for losses, expected in zip(continued["losses"], uninterrupted["losses"], strict=True):
        assert losses == pytest.approx(expected, rel=1e-12)


def test_sigterm_after_the_last_step_ends_both_with_a_finished_training(by_both, spare_fold):
    end = only(by_both(terminated_at_last))
    assert (end["num_steps"], end["exit_code"]) == (6, EXIT_CODE)
    assert load_safely(spare_fold / "checkpoint_final.pth")["num_train_steps_done"] == 6


def test_the_command_trains_and_validates_a_fold_by_two_processes(spare_fold):
    assert command("train 902 2d 4 --iterations 4 -device cpu --seed 0 -num_gpus 2") == 0
    assert load_safely(spare_fold / "checkpoint_final.pth")["num_train_steps_done"] == 4
    assert (spare_fold / "validation" / "summary.json").is_file()
    assert command("train 902 2d 4 --c --iterations 6 -device cpu -num_gpus 2") == 0  # with the seed that it has
    assert load_safely(spare_fold / "checkpoint_final.pth")["num_train_steps_done"] == 6


def by_torchrun(words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m",
         "medsegdiff_auto.cli", *words.split()], capture_output=True, text=True, timeout=PATIENCE_S)


def test_two_processes_of_torchrun_train_what_two_of_our_own_train(spare_fold):
    line = "train 902 2d 4 --iterations 4 -device cpu --seed 0"
    assert command(f"{line} -num_gpus 2") == 0
    own = load_safely(spare_fold / "checkpoint_final.pth")["network_weights"]
    run = by_torchrun(f"{line} --overwrite")
    assert run.returncode == 0, run.stderr
    assert different(own, load_safely(spare_fold / "checkpoint_final.pth")["network_weights"]) == []
    assert run.stdout.count("Mean validation Dice") == run.stdout.count("epoch 4/4") == 1
    assert not list(spare_fold.parents[1].glob(".*.lock"))
    run = by_torchrun(f"{line} --overwrite -num_gpus 2")
    assert run.returncode and "torchrun says by how many processes" in run.stderr


def test_the_command_passes_sigterm_on_and_ends_with_a_checkpoint_and_with_all_that_it_started(spare_fold):
    code = "import sys; from medsegdiff_auto.cli.train import main; sys.exit(main(sys.argv[1:]))"
    words = "902 2d 4 --iterations 1500 -device cpu -num_gpus 2".split()
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert any(line.startswith("epoch 1/30 ") for line in process.stdout)
            process.terminate()
            process.communicate(timeout=PATIENCE_S)  # until all have closed the pipe
        finally:
            process.kill()
    assert process.returncode == EXIT_CODE
    assert 50 <= load_safely(spare_fold / "checkpoint_latest.pth")["num_train_steps_done"] < 1500


def test_more_processes_than_samples_in_a_batch_are_refused(spare_fold, capsys):
    assert command("train 902 2d 4 --iterations 4 -device cpu -num_gpus 99") == 2
    assert "The batch cannot be divided" in capsys.readouterr().err
