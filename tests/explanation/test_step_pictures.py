"""Pictures of the notebook show the values that they are given."""

import numpy as np
import pytest

from medsegdiff_auto.explanation.step_pictures import curves, maps


def shown(picture):
    """The maps of a picture, without its colour bars."""
    return [axes.images[0] for axes in picture.figure.axes if axes.images]


def test_a_row_shows_its_image_and_its_maps_in_order_within_the_limits_of_their_kind():
    state = np.linspace(-2, 2, 12).reshape(1, 3, 4)
    image, first, second = shown(maps({"row": ("state", [state, -state])}, images=[state * 10]))
    assert np.array_equal(first.get_array(), state[0]) and np.array_equal(second.get_array(), -state[0])
    assert first.get_clim() == second.get_clim() == (-1, 1)
    assert image.get_cmap().name == "gray" and image.get_clim() == pytest.approx(np.percentile(10 * state, (1, 99)))


def test_an_empty_place_stays_empty_and_the_titles_stand_above_their_columns():
    picture = maps({"row": ("mask", [None, np.eye(3)])}, titles=["nothing", "one"])
    assert len(shown(picture)) == 1
    assert [axes.get_title() for axes in picture.figure.axes if axes.images] == ["one"]


def test_an_outline_runs_round_the_mask_in_the_maps_of_its_size_only():
    mask = np.zeros((9, 9))
    mask[2:7, 2:7] = 1
    picture = maps({"row": ("share", [mask, np.zeros((3, 3))])}, outline=mask)
    first, second, _ = picture.figure.axes
    (path,) = first.collections[0].get_paths()
    assert path.vertices.min() == 1.5 and path.vertices.max() == 6.5 and not second.collections


def test_curves_have_their_values_and_a_dot_in_the_name_makes_dots():
    axes = curves({"title": ("x", "y", {"line": ([0, 1], [2, 3]), ".dots": ([0, 1], [4, 5])})}).figure.axes[0]
    line, dots = axes.lines
    assert line.get_ydata().tolist() == [2, 3] and dots.get_ydata().tolist() == [4, 5]
    assert (line.get_linestyle(), dots.get_linestyle()) == ("-", "None")
    assert [words.get_text() for words in axes.get_legend().get_texts()] == ["line", "dots"]


def test_a_notebook_gets_a_png():
    assert maps({"": ("mask", [np.eye(3)])})._repr_png_().startswith(b"\x89PNG")
