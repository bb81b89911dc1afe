"""Where nnU-Net compiles, both networks are compiled, and a step is the step of the networks that are not.

The compiler's front end and its derivatives run (``aot_eager``); the generation of GPU code is the device's matter.
"""

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from medsegdiff_auto.training.planned_training import initialized_trainer, random_batch, read_plans
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff

NUM_STEPS = 3


def new_trainer(chain) -> nnUNetTrainerMedSegDiff:
    """A trainer whose weights depend on the seed alone."""
    plans, dataset_json = read_plans(chain.model / "plans.json")
    torch.manual_seed(0)
    trainer = initialized_trainer(nnUNetTrainerMedSegDiff, plans, chain.configuration, dataset_json,
                                  torch.device("cpu"))
    trainer.seed = 0
    return trainer


def losses_of(trainer: nnUNetTrainerMedSegDiff) -> list[tuple[float, float]]:
    """Both losses of a few steps."""
    outputs = [trainer.train_step(random_batch(trainer, step)) for step in range(NUM_STEPS)]
    return [(float(output["loss"]), float(output["denoiser_loss"])) for output in outputs]


def test_compiled_networks_train_alike(chain, monkeypatch):
    expected = losses_of(new_trainer(chain))
    compile_module, compiled, graphs = torch.nn.Module.compile, [], []

    def backend(graph, inputs):
        graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    def compile_without_code_generation(module: torch.nn.Module) -> None:
        compiled.append(module)
        compile_module(module, backend=backend)

    monkeypatch.setattr(nnUNetTrainer, "_do_i_compile", lambda trainer: True)
    monkeypatch.setattr(torch.nn.Module, "compile", compile_without_code_generation)
    torch._dynamo.reset()
    trainer = new_trainer(chain)
    assert compiled == [trainer.bare_network.denoiser, trainer.bare_network.conditioner]
    for ours, theirs in zip(losses_of(trainer), expected):
        assert ours == pytest.approx(theirs, rel=1e-3)
    assert len(graphs) >= len(compiled)
    assert set(trainer.bare_network.state_dict()) == set(new_trainer(chain).bare_network.state_dict())
