"""The page of one case: gathers what is drawn, and writes ``explained.html`` and its pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from medsegdiff_auto.explanation.attention import attention_section
from medsegdiff_auto.explanation.case import Tile
from medsegdiff_auto.explanation.filters import filters_section
from medsegdiff_auto.explanation.forward import forward_section
from medsegdiff_auto.explanation.latent import latent_section, moved_by_scale
from medsegdiff_auto.explanation.record import Drawing
from medsegdiff_auto.explanation.responses import responses
from medsegdiff_auto.explanation.reverse import reverse_section
from medsegdiff_auto.explanation.samples import samples_section
from medsegdiff_auto.explanation.schedule import schedule_section, structure_rows
from medsegdiff_auto.explanation.words import Section, text
from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.networks.sampling_network import SamplingNetwork
from medsegdiff_auto.nnunet.dataset_files import FINGERPRINT_FILE
from medsegdiff_auto.reporting import page
from medsegdiff_auto.reporting.tables import key_value_table
from medsegdiff_auto.writing import staged_output

PAGE_FILE = "explained.html"
NETWORK_WORDS = {
    "conditioned": "nnU-Net's network and a denoiser of the mask on its features",
    "two_encoders": "MedSegDiff as published: one encoder for the image, one for the noisy mask, one decoder",
    "concatenated": "one network that gets the image beside the noisy mask",
}
PREDICTION_WORDS = {"x_start": "the mask (x_0)", "noise": "the noise (eps)", "v": "v = alpha_t eps - sigma_t x_0"}
REFERENCES = (
    "Wu et al. 2022: MedSegDiff: medical image segmentation with diffusion probabilistic model. arXiv 2211.00611.",
    "Wu et al. 2023: MedSegDiff-V2: diffusion-based medical image segmentation with transformer. arXiv 2301.11798.",
    "Ho, Jain, Abbeel 2020: Denoising diffusion probabilistic models. arXiv 2006.11239.",
    "Song, Meng, Ermon 2021: Denoising diffusion implicit models. arXiv 2010.02502.",
    "Salimans, Ho 2022: Progressive distillation for fast sampling of diffusion models. arXiv 2202.00512.",
    "Lu et al. 2022: DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models. arXiv "
    "2211.01095.",
    "Hoogeboom, Heek, Salimans 2023: simple diffusion: end-to-end diffusion for high resolution images. arXiv "
    "2301.11093.",
    "De Bortoli et al. 2025: Distributional diffusion models with scoring rules. ICML.",
    "Isensee et al. 2021: nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation. "
    "Nature Methods 18.",
)
NOTATION = {
    "I": "the image, as the network sees it",
    "x_0, x_t": "the clean mask as a state in [-1, 1]; the state at time t",
    "eps": "standard normal noise",
    "alpha_t, sigma_t": "factors of mask and noise at time t",
    "lambda_t": "log(alpha_t² / sigma_t²), the log signal-to-noise ratio",
    "m_I, m_x": "features of the image and of the noisy mask",
    "d_i": "typical diameter of the structures along axis i, in voxels",
}


@dataclass(frozen=True)
class Facts:
    """What the first section says, and what the schedule's section says of the structures."""

    title: str
    subtitle: str
    table: dict[str, object]
    structures: list[dict]
    solver: str
    num_steps: int
    command: str


def facts_of(model: TrainedModel, tile: Tile, checkpoint: str, num_steps: int, seed: int, command: str) -> Facts:
    """The facts of a model and a tile."""
    c = model.diffusion
    dataset, fold = model.plans_manager.dataset_name, f"fold {model.folds[0]}"
    table = {"model": model.folder.name,
             "fold and checkpoint": f"{fold}, {checkpoint} (averaged weights)",
             "preset": c.preset,
             "network": NETWORK_WORDS[c.network.architecture],
             "predicts": PREDICTION_WORDS[c.network.parameterisation],
             "case": f"{tile.case}, a validation case of {fold}",
             "tile": " x ".join(map(str, tile.plane.size)) + " voxels around the reference",
             "slice drawn": "the whole tile" if tile.plane.index is None else
             f"number {tile.plane.index} across the first axis, where the reference is largest",
             "structures": ", ".join(s.name for s in tile.structures),
             "samples": f"{len(tile.noise)}, each by {drawn_words(c, num_steps)}, seed {seed}"}
    fingerprint = model.folder / FINGERPRINT_FILE
    measured = json.loads(fingerprint.read_text(encoding="utf-8")) if fingerprint.is_file() else None
    rows = structure_rows(measured, model.configuration_manager.spacing, model.plans_manager.transpose_forward)
    return Facts(f"{dataset}: how {tile.case} is segmented", model.folder.name, table, rows, c.sampling.solver,
                 num_steps, command)


def drawn_words(c: DiffusionConfiguration, num_steps: int) -> str:
    """By what a sample is drawn."""
    if not c.network.sees_state:
        return "latent noise of its own in one step"
    return f"{num_steps} {c.sampling.solver} steps"


def sections_of(facts: Facts, network: SamplingNetwork, tile: Tile, drawing: Drawing) -> list[Section]:
    """All sections of the page, in order."""
    c, moved = network.configuration, None
    if c.has_expected_mask:
        moved = moved_by_scale(network, drawing.condition, tile.plane)
    return [
        Section("overview", "What this is", text(
            "One real case on its way through one trained model: how samples are drawn out of noise, what the filters "
            "have learned, where image and mask meet, and how far the samples agree. Every picture is drawn from this "
            "model and this case; nothing is a sketch.") + key_value_table(facts.table)),
        *([schedule_section(c, facts.num_steps, facts.structures), forward_section(tile, c),
           reverse_section(tile, drawing.trajectories, c, facts.solver)] if c.network.sees_state else []),
        filters_section(responses(network), len(tile.plane.size)),
        attention_section(tile, drawing.gates, drawing.trajectories[0].steps, c),
        latent_section(tile, moved, c),
        samples_section(tile, drawing, c),
        Section("notation", "Symbols and sources",
                key_value_table(NOTATION) + "<ul>" + "".join(f"<li>{words}</li>" for words in REFERENCES) + "</ul>"),
        Section("command", "Command", page.code_block([facts.command])),
    ]


def write_page(folder: Path, facts: Facts, sections: list[Section]) -> None:
    """Writes every picture and the page, all at once."""
    html = page.document(facts.title, facts.subtitle, [(s.anchor, s.heading, s.html) for s in sections])
    with staged_output(folder, last=PAGE_FILE) as stage:
        for one in sections:
            if one.png is not None:
                (stage / f"{one.anchor}.png").write_bytes(one.png)
        (stage / PAGE_FILE).write_text(html, encoding="utf-8")
