"""A solver, a decoder or a score is one file: those of tests/additions, laid beside the others, are found everywhere.
"""

import json
import re
import sys
import tracemalloc
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from textwrap import indent
from types import ModuleType

import numpy as np
import pytest
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from medsegdiff_auto.cli import evaluate, predict
from medsegdiff_auto.decision.decoder import decode
from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.schedules import Schedule
from medsegdiff_auto.diffusion.solver import Step
from medsegdiff_auto.evaluation.metrics_table import read_rows
from medsegdiff_auto.explanation.record import draw
from medsegdiff_auto.explanation.reverse import reverse_section
from medsegdiff_auto.networks.sampling_network import content_seed
from medsegdiff_auto.planning.plan_document import diffusion_lines
from medsegdiff_auto.reporting.report import write_report
from medsegdiff_auto.sampling.case_memory import CaseMemory
from medsegdiff_auto.sampling.case_size import CaseSize
from medsegdiff_auto.sampling.coherent import CoherentSampler
from medsegdiff_auto.sampling.conditions import Conditions
from medsegdiff_auto.sampling.tile_memory import TileMemory
from medsegdiff_auto.sampling.tiling import Tiles
from medsegdiff_auto.sampling.volume_store import InMemory
from medsegdiff_auto.selection.choice import Candidate, candidates, fused_label_map
from medsegdiff_auto.selection.stored_samples import StoredCase
from medsegdiff_auto.tables import DECODERS, SCORES, SOLVERS

TESTS = Path(__file__).parent
ADDITIONS = TESTS / "additions"
TABLES = {"solvers": SOLVERS, "decoders": DECODERS, "scores": SCORES}
sys.path[:0] = [str(TESTS / room) for room in ("networks", "evaluation", "reporting")]
from scored_folder import score_folder  # noqa: E402
from tiny_networks import STATE, NUM_OUTPUTS, random_image, randomised, tiny_network  # noqa: E402

CHANGED = {"solver": "renoise", "fusion": "majority"}
CLASSES = LabelManager({"background": 0, "edge": 1, "core": 2}, None)


@pytest.fixture
def added():
    """The folders of tests/additions are searched as well, as long as a test runs."""
    packages = {kind: import_module(table.package) for kind, table in TABLES.items()}
    for kind, package in packages.items():
        package.__path__.append(str(ADDITIONS / kind))
    yield
    for kind, package in packages.items():
        package.__path__.remove(str(ADDITIONS / kind))
        for file in (ADDITIONS / kind).glob("*.py"):
            sys.modules.pop(f"{package.__name__}.{file.stem}", None)


def conftest_of(room: str) -> ModuleType:
    """The builders of another folder of tests."""
    spec = spec_from_file_location(f"conftest_of_{room}", TESTS / room / "conftest.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_their_files_the_additions_are_refused_by_name():
    for value in ({"solver": "renoise"}, {"fusion": "majority"}):
        with pytest.raises(ValueError, match=next(iter(value.values()))):
            STATE.changed(**value)
    assert "volume_similarity" not in SCORES.names()


def test_the_commands_offer_them_without_importing_them(added):
    parser = predict.command_parser()
    args = parser.parse_args(["-i", "in", "-o", "out", "-m", "model", "--solver", "renoise", "--fusion", "majority"])
    assert (args.solver, args.fusion) == ("renoise", "majority")
    assert "renoise}" in parser.format_help() and "majority," in parser.format_help()
    assert not {f"{SOLVERS.package}.renoise", f"{DECODERS.package}.majority"} & set(sys.modules)


def test_the_command_that_scores_names_and_prints_the_score(added, capsys):
    with pytest.raises(SystemExit):
        evaluate.main(["--help"])
    assert "volume similarity" in " ".join(capsys.readouterr().out.split())
    assert evaluate.means_table({"organ": {"dice": 0.5, "volume_similarity": 0.75}}).splitlines() == [
        "structure    dice  volume_similarity", "organ      0.5000             0.7500"]


def test_a_plan_with_them_is_accepted_and_read_back(added):
    changed = STATE.changed(**CHANGED)
    plan = json.loads(json.dumps(changed.to_plan()))
    assert (plan["sampling"]["solver"], plan["sampling"]["fusion"]) == ("renoise", "majority")
    assert DiffusionConfiguration.from_plan(plan) == changed


def test_the_solver_s_step_follows_the_equation(added):
    """To s = 1/3 of the cosine, where alpha is sqrt(3) / 2 and sigma is 1/2; the state counts for nothing."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    t, s = torch.tensor([2 / 3, 1 / 3], dtype=torch.float64)
    found = SOLVERS.row("renoise").step(Step(9 * one, 0.4 * one, t, s, Schedule("cosine"), -1.7 * one))
    assert found.item() == pytest.approx(3 ** 0.5 / 2 * 0.4 + 0.5 * -1.7, abs=1e-12)


@pytest.mark.parametrize("size", [(16, 24), (8, 16, 24)], ids=["2d", "3d"])
def test_the_network_and_the_sampler_of_volumes_draw_the_same_mask_with_the_solver(added, size):
    """The volume is one tile, a slice in 2-D; the noise of its steps is what the network draws."""
    network = randomised(tiny_network(len(size), STATE.changed(**CHANGED))).eval()
    volume = (1,) * (3 - len(size)) + size
    image = random_image(*size, batch_size=1)
    start = torch.randn(1, NUM_OUTPUTS, *size, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(content_seed(start[0]))
    drawn = [start[0], *(torch.randn(start.shape[1:], generator=generator, dtype=torch.float64) for _ in range(2))]
    steps = [noise.reshape(NUM_OUTPUTS, *volume) for noise in drawn]
    place = (slice(None), *(0 for _ in range(3 - len(size))), *(slice(0, n) for n in size))
    with torch.inference_mode():
        alone, by_ddim = (network.sample_probabilities(network.condition(image), start, solver=name)
                          for name in ("renoise", "ddim"))
        conditions = Conditions(network, InMemory(image[0].reshape(-1, *volume)), Tiles(volume, size, [place]), [()],
                                torch.device("cpu"), lambda function, *inputs: function(*inputs), NUM_OUTPUTS, 1e12)
        sampler = CoherentSampler(conditions, 3, "renoise", 1)
        found = sampler.draw((0,), lambda _sample, step, rows: steps[step][:, rows]).read().reshape(alone.shape)
    assert torch.equal(found.argmax(1), alone.argmax(1)) and torch.allclose(found, alone, atol=1e-5)
    assert (by_ddim - alone).abs().max() > 0.01


def test_memory_counts_them(added):
    shape, patch = (60, 50, 40), (20, 20, 20)
    tiles = Tiles(shape, patch, [(slice(None), *(slice(0, n) for n in patch))])
    case = CaseMemory(CaseSize(1, NUM_OUTPUTS, shape, shape), tiles, num_folds=1, num_samples=5, num_views=1,
                      diffusion=STATE, solver="renoise", tile=TileMemory(1.0, 1.0, 1.0), samples_per_call=5,
                      fusion="majority")
    assert case.per_sample == case.volume
    # probabilities, maps, what the vote works with
    assert case.fusing == (4 * NUM_OUTPUTS + 5 + (5 + 8)) * 60 * 50 * 40


def test_the_vote_takes_what_is_stated_for_it(added):
    samples = np.random.default_rng(0).integers(0, 3, (5, 60, 60, 60), dtype=np.uint8)
    decode("majority", np.zeros((3, 1, 1, 1), np.float32), samples[:, :1, :1, :1], CLASSES)
    tracemalloc.start()
    decode("majority", np.zeros((3, 60, 60, 60), np.float32), samples, CLASSES)
    taken = tracemalloc.get_traced_memory()[1] - 3 * 4 * 60 ** 3
    tracemalloc.stop()
    assert 0.7 < taken / (60 ** 3 * DECODERS.row("majority").work_bytes(5, 3, True)) < 1.1


def test_cross_validation_tries_the_decoder_wherever_there_are_two_samples(added):
    listed = candidates([1], 2)
    assert Candidate(1, 2, "majority") in listed and Candidate(1, 1, "majority") not in listed
    samples = np.array([[0, 1, 2, 1], [0, 1, 2, 2], [1, 2, 2, 0]], np.uint8)[:, None, None]
    stored = StoredCase(samples, np.zeros_like(samples), np.ones((3, 1)))
    found = fused_label_map(stored, Candidate(1, 3, "majority"), CLASSES)
    assert found.tolist() == [[[0, 1, 2, 0]]]  # in the last voxel 0, 1 and 2 tie: the lowest
    with pytest.raises(ValueError, match="majority needs at least 1 samples, found 0"):
        decode("majority", np.zeros((3, 1, 1, 1), np.float32), None, CLASSES)


def test_the_plan_document_names_them(added):
    lines = "\n".join(diffusion_lines(STATE.changed(**CHANGED), 0.1, 3))
    assert "2 samples of 3 renoise steps" in lines and "**Fusion** majority of the sampled labels, weight 0.5" in lines


def test_the_explanation_shows_equation_remark_and_source_of_the_solver(added):
    make = conftest_of("explanation")
    tile, network = make.tile_of(2, "classes"), make.network_of("auto", 2, "classes")
    trajectories = draw(make.predictor_of(network), tile).trajectories
    page = reverse_section(tile, trajectories, network.configuration, "renoise").html
    row = SOLVERS.row("renoise")
    assert row.equation in page and row.remark in page and "“Consistency models”, algorithm 1" in page


def test_metrics_csv_has_the_score_behind_the_others_and_its_mean(added, tmp_path):
    header = score_folder(tmp_path)["header"]
    rows = read_rows(tmp_path / "predictions" / "metrics.csv")
    assert list(rows[0])[-2:] == ["ged_floor", "volume_similarity"]
    expected = [1 - abs(row["volume_error_ml"]) / (row["volume_ml"] + row["reference_volume_ml"]) for row in rows]
    assert [row["volume_similarity"] for row in rows] == pytest.approx(expected, rel=1e-4) and min(expected) < 0.9
    assert header["mean"]["organ"]["volume_similarity"] == pytest.approx((expected[0] + expected[2]) / 2, rel=1e-4)
    assert header["definitions"]["volume_similarity"].endswith("Taha and Hanbury 2015")
    assert header["best"]["volume_similarity"] == 1


def test_the_report_has_a_column_of_the_score_and_says_what_it_is(added, tmp_path):
    model = conftest_of("reporting").build(tmp_path, 3, num_cases=1)
    write_report(tmp_path / "report.html", model, tmp_path / "predictions", tmp_path / "labelsTs")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    cases = html[html.index("<h3>Cases"):]
    head, body = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall("<tr>.*?</tr>", cases)[:2])
    row = dict(zip(head, body, strict=True))
    size, reference = float(row["volume (ml)"]), float(row["reference (ml)"])
    assert float(row["volume similarity"]) == pytest.approx(1 - abs(size - reference) / (size + reference), abs=0.005)
    assert "Taha and Hanbury 2015" in html


@pytest.mark.parametrize("file", sorted(ADDITIONS.glob("*/*.py")), ids=lambda file: file.stem)
def test_contributing_shows_the_files_as_they_are(file):
    contributing = (TESTS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = contributing.split("## Adding a solver, a decoder or a score\n")[1].split("\n## ")[0]
    assert indent(file.read_text(encoding="utf-8"), "    ") in section
