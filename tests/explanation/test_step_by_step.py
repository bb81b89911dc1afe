"""The notebook runs, is the one that lies beside it with its pictures, keeps its form, and its assertions can fail."""

import ast
import importlib
import re
from functools import cache
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

import medsegdiff_auto.explanation
from medsegdiff_auto.cli.learn import NOTEBOOK

SOURCE = Path(medsegdiff_auto.explanation.__file__).with_name("step_by_step.py")
LARGEST_BYTES, MOST_LINES = 2 * 10 ** 6, 15
SMALL = {"MEDSEGDIFF_STEP_BY_STEP": "small"}


def cells_by_step():
    """Cells of the source under the number of the heading above them; 0 is what comes before the first step."""
    steps, number = {0: []}, 0
    for cell in jupytext.read(SOURCE).cells:
        heading = re.match(r"## (\d+)\. ", cell.source)
        if cell.cell_type == "markdown" and heading:
            number = int(heading.group(1))
            steps[number] = []
        steps[number].append(cell)
    return steps


STEPS = cells_by_step()


def code(number):
    return [cell.source for cell in STEPS[number] if cell.cell_type == "code"]


def text(number):
    return "\n".join(cell.source for cell in STEPS[number] if cell.cell_type == "markdown")


def test_the_steps_are_numbered_from_1_on():
    assert list(STEPS) == list(range(len(STEPS))) and len(STEPS) > 20


@pytest.mark.parametrize("number", list(STEPS)[1:])
def test_a_step_has_one_equation_little_code_something_to_look_at_and_a_number_to_change(number):
    assert text(number).count("$$") == (0 if number == list(STEPS)[-1] else 2), "one equation, but for the real images"
    assert text(number).count("**Look at**") == text(number).count("**Change**") == 1
    assert all(len([line for line in one.splitlines() if line.strip()]) <= MOST_LINES for one in code(number))


@pytest.mark.parametrize("number", list(STEPS)[1:])
def test_every_function_that_a_step_names_exists(number):
    named = re.findall(r"`((?:[a-z]\w*\.)+\w+)`", text(number))
    for name in named:
        module, attribute = f"medsegdiff_auto.{name}".rsplit(".", 1)
        assert hasattr(importlib.import_module(module), attribute) or importlib.util.find_spec(f"{module}.{attribute}")


def test_it_runs_from_the_first_cell_to_the_last(tmp_path, monkeypatch):
    for variable, value in (SMALL | {"IPYTHONDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("MEDSEGDIFF_BRAIN_TUMOUR", raising=False)
    notebook = jupytext.read(SOURCE)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == len(STEPS) - 2, "one for each step, but none of the brain tumours, which are not at hand"
    assert outputs[-1].text == "Skipped: MEDSEGDIFF_BRAIN_TUMOUR names no raw dataset.\n"


def test_the_notebook_with_its_pictures_is_that_of_the_source():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    source = jupytext.read(SOURCE)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [(cell.cell_type, cell.source)
                                                                          for cell in source.cells]
    assert NOTEBOOK.stat().st_size < LARGEST_BYTES


def test_the_notebook_with_its_pictures_was_run_whole_and_shows_one_picture_per_step():
    notebook, number, pictures = nbformat.read(NOTEBOOK, as_version=4), 0, dict.fromkeys(STEPS, 0)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    for cell in notebook.cells:
        heading = re.match(r"## (\d+)\. ", cell.source)
        number = int(heading.group(1)) if heading and cell.cell_type == "markdown" else number
        pictures[number] += sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
    assert pictures == {step: int(0 < step < len(STEPS) - 1) for step in STEPS}


@cache
def _executed(numbers):
    names: dict = {}
    for number in numbers:
        for one in code(number):
            exec(compile(ast.parse(one), f"step {number}", "exec"), names)
    return names


def scaled(factor):
    return lambda function: lambda *args, **kwargs: factor * function(*args, **kwargs)


def unfair(function):
    """The energy score that divides by m^2 in the place of m (m - 1): half of the fair one's reward for two draws."""
    def score(draws, reference):
        to_reference = function(draws[:1].expand_as(draws), reference) + function(draws[1:].expand_as(draws), reference)
        return (function(draws, reference) + to_reference / 2) / 2

    return score


# step: the steps that it needs, what its equation is in the package, and something wrong that is made of it
BROKEN = {
    1: ((0,), "phantoms.posterior.Posterior.probabilities", scaled(0.9)),
    2: ((0, 1), "diffusion.state.state_from_regions", lambda _: lambda regions: regions.float()),
    3: ((0, 1, 2), "diffusion.process.q_sample", lambda f: lambda x, noise, a, s: f(x, noise, a, 1 - a)),
    4: ((0,), "diffusion.schedules.cosine_log_snr", scaled(0.5)),
    5: ((0, 4), "diffusion.schedules.log_snr_shift", scaled(-1)),
    6: ((0, 1, 2), "networks.ff_parser.FFParser.filter_at", lambda f: lambda self, size: f(self, size) ** 2),
    7: ((0, 1, 2, 3, 6), "networks.dynamic_encoding.attentive_fusion", lambda _: lambda m, of_image, of_mask: m),
    8: ((0,), "networks.time_embedding.TIME_SCALE", lambda scale: scale / 10),
    9: ((0, 1, 2), "networks.blocks.SpatialAttention.forward", lambda f: lambda self, x: f(self, x.mul_(2))),
    10: ((0, 1, 2, 3, 4), "diffusion.losses.mse", scaled(0.5)),
    11: ((0, 1, 2, 3, 4, 10), "diffusion.process.velocity", scaled(0.9)),
    12: ((0, 1, 2, 9), "diffusion.objective.denoiser_loss", scaled(0.9)),
    13: ((0, 1, 2, 3, 4, 9, 10, 12), "training.ema.ema_decay", scaled(0.9)),
    14: ((0, 1, 2, 3, 4), "diffusion.solvers.ddim.ddim_step", scaled(0.99)),
    15: ((0, 4), "diffusion.sampling.trailing_times", lambda f: lambda num_steps: f(num_steps) ** 2),
    17: ((0,), "diffusion.energy_score.energy_score", unfair),
    18: ((0, 1, 2, 9), "diffusion.smooth_field.interpolation", scaled(1.1)),
    20: ((0, 1), "diffusion.expected_mask.expected_probabilities", lambda _: lambda logits, *_: logits.sigmoid()),
    21: ((0, 1), "decision.decoders.staple.staple", lambda _: lambda p, samples, labels: p[1] > 0.5),
    22: ((0, 1, 17), "decision.decoders.dice.best_dice_mask", lambda _: lambda masks: masks.mean(0) > 0.5)}


def place_of(name):
    """The module or class that has the last part of a name of the package, and that part."""
    *path, last = name.split(".")
    if path[-1][0].isupper():
        return getattr(importlib.import_module(f"medsegdiff_auto.{'.'.join(path[:-1])}"), path[-1]), last
    return importlib.import_module(f"medsegdiff_auto.{'.'.join(path)}"), last


@pytest.mark.parametrize("number", BROKEN)
def test_a_step_fails_where_its_equation_is_broken(number, monkeypatch):
    monkeypatch.setenv("MEDSEGDIFF_STEP_BY_STEP", "small")
    needed, name, broken = BROKEN[number]
    names, (owner, attribute) = dict(_executed(needed)), place_of(name)
    monkeypatch.setattr(owner, attribute, broken(getattr(owner, attribute)))
    with pytest.raises(AssertionError):
        for one in code(number):
            exec(compile(ast.parse(one), f"step {number}", "exec"), names)
