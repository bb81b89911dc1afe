"""The page: offline, complete for every preset, and honest about what a preset does not have."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from medsegdiff_auto.explanation.case import state_of
from medsegdiff_auto.explanation.page import Facts, sections_of, write_page
from medsegdiff_auto.explanation.plane import Plane
from medsegdiff_auto.explanation.record import draw
from medsegdiff_auto.explanation.words import log_snr_words, number

PICTURES = ["schedule", "forward", "reverse", "filters", "attention", "samples"]
WITHOUT_A_STATE = ["filters", "attention", "latent", "samples"]
FACTS = Facts("Balls <1>", "model", {"case": "ball"}, [{"name": "a & b", "axis 0": 5.0}], "ddim", 3,
              "medsegdiff_explain -d 1")


@pytest.fixture(scope="module")
def written(network, predictor, tile, tmp_path_factory):
    """The folder of the page of an untrained model of every preset."""
    folder = tmp_path_factory.mktemp("page") / "out"
    write_page(folder, FACTS, sections_of(FACTS, network, tile, draw(predictor, tile)))
    return folder


def test_the_page_loads_nothing_and_runs_nothing(written):
    html = (written / "explained.html").read_text(encoding="utf-8")
    # "://", not "http": a picture's base64 holds every four letters once in 16 million, and a page has a million
    assert "<script" not in html and "://" not in html and "@import" not in html and "url(" not in html
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', html))
    assert all(link.startswith("data:image/png;base64,") for link in re.findall(r'src="([^"]*)"', html))
    assert "Balls &lt;1&gt;" in html and "<1>" not in html


def test_the_pictures_of_the_page_are_the_files_beside_it(written, preset):
    expected = [name for name in PICTURES if preset != "simple_diffusion" or name not in ("filters", "attention")]
    expected = WITHOUT_A_STATE if preset == "auto" else expected
    assert sorted(file.stem for file in written.glob("*.png")) == sorted(expected)
    html = (written / "explained.html").read_text(encoding="utf-8")
    embedded = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]*)", html)]
    assert embedded == [(written / f"{name}.png").read_bytes() for name in expected]
    for png in embedded:
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        assert pixels.shape[1] <= 1640 and pixels.std() > 5


def test_every_section_cites_its_source_or_says_that_the_model_has_none(written, preset):
    html = (written / "explained.html").read_text(encoding="utf-8")
    for name in WITHOUT_A_STATE if preset == "auto" else PICTURES:
        section = re.search(rf'<section id="{name}">.*?</section>', html, re.DOTALL).group()
        if preset == "simple_diffusion" and name in ("filters", "attention"):
            assert "This model has none" in section and "<img" not in section
        else:
            assert "Source: " in section and 'class="equation"' in section and "<img" in section


@pytest.mark.parametrize("preset, pictures", [("state", PICTURES), ("auto", WITHOUT_A_STATE)])
def test_a_tile_without_foreground_and_a_single_sample_of_one_step_are_drawn_too(make, preset, pictures):
    full = make.tile(3, "classes", 1)
    reference = np.zeros_like(full.reference)
    tile = replace(full, reference=reference, x_start=state_of(reference, full.structures, "classes", 3, None),
                   plane=Plane.through(reference > 0, (3.0, 1.0, 1.0)))
    network = make.network(preset, 3, "classes")
    predictor = make.predictor(network)
    predictor.draw = lambda condition, noise, **options: network.sample_probabilities(condition, noise, 1, **options)
    facts = replace(FACTS, num_steps=1, structures=[])
    sections = {one.anchor: one for one in sections_of(facts, network, tile, draw(predictor, tile))}
    assert all(sections[name].png for name in pictures)
    assert not any("nan" in re.sub(r"base64,[^\"]*", "", one.html) for one in sections.values())


def test_a_folder_that_cannot_be_written_is_refused(make, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OSError, match="exists"):
        write_page(tmp_path / "out", FACTS, [])
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("value, words", [(-3.9861, "−3.99"), (float("-inf"), "−∞"), (0.0, "0"), (12.0, "12")])
def test_numbers_have_three_digits_and_a_true_minus(value, words):
    assert number(value) == words


@pytest.mark.parametrize("value, words", [(-2.21, "−2.2"), (-73.0, "−∞"), (float("inf"), "∞"), (0.04, "0.0")])
def test_a_log_snr_has_one_decimal_or_is_infinite(value, words):
    assert log_snr_words(value) == words
