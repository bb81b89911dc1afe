"""The report in headless Chromium: niivue shows what the files hold, nothing is asked of any other place, tables sort
and filter, and the page fits screens and paper.
"""

import json
import shutil
from urllib.parse import unquote

import nibabel
import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from PIL import Image
from viewed_folders import AFFINES, HOSTILE, NUM_SAMPLES, SHAPE, build_pictures, build_volumes

from medsegdiff_auto.decision.inclusion import PERCENTS
from medsegdiff_auto.reporting import page as pages
from medsegdiff_auto.reporting.report import write_report
from medsegdiff_auto.reporting.tables import Column, table

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: see the extra `test`")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)")
SOFTWARE_WEBGL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
SLOW_MS = 120_000  # a busy machine without a GPU

READ = """([layer, mm]) => {
  const volume = medsegdiffViewer.layers[layer];
  return volume.getValue(...volume.mm2vox(mm), 0);
}"""
MOVE = """(mm) => {
  const nv = medsegdiffViewer.nv;
  nv.scene.crosshairPos = nv.mm2frac(mm, 0, true);
  nv.drawScene();
  nv.createOnLocationChange();
}"""
# The colour that is drawn at the crosshair of each plane, on the lines' canvas or on niivue's, [r, g, b, a] 0 to 255.
PIXELS = """([id, shift]) => {
  const nv = medsegdiffViewer.nv, canvas = document.getElementById(id), copy = document.createElement('canvas');
  [copy.width, copy.height] = [canvas.width, canvas.height];
  nv.drawScene();
  const pen = copy.getContext('2d', { willReadFrequently: true });
  pen.drawImage(canvas, 0, 0);
  const dims = medsegdiffViewer.layers.image.dimsRAS;
  const frac = [...nv.scene.crosshairPos].map((f, axis) => f + shift[axis] / dims[axis + 1]);
  return [0, 1, 2].map((kind) => {
    const found = nv.frac2canvasPosWithTile(frac, kind);
    return found && [...pen.getImageData(Math.round(found.pos[0]), Math.round(found.pos[1]), 1, 1).data];
  });
}"""


class Browser:
    """Chromium with a list of all that its pages asked for and complained about."""

    def __init__(self, chromium):
        self.chromium, self.requests, self.complaints = chromium, [], []

    def open(self, file, width=700, scheme="light", before=""):
        page = self.chromium.new_page(viewport={"width": width, "height": 560}, color_scheme=scheme)
        page.set_default_timeout(SLOW_MS)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text)
                if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append("dialog") or dialog.dismiss())
        page.add_init_script(before)
        page.goto(file.as_uri())
        return page


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=SOFTWARE_WEBGL)
        yield Browser(chromium)
        chromium.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("viewed")
    write_report(folder / "report.html", build_volumes(folder), folder / "predictions", folder / "labelsTs",
                 folder / "imagesTs")
    return folder


@pytest.fixture(scope="module")
def opened(browser, root):
    page = browser.open(root / "report.html")
    page.locator("#viewer").scroll_into_view_if_needed()
    page.wait_for_selector("#viewer[data-state=ready]")
    return page


def show(page, name: str) -> None:
    """Opens a case in the viewer."""
    number = page.evaluate("(name) => [...document.querySelectorAll('#viewer-case option')].findIndex("
                           "(option) => option.textContent.startsWith(name))", name)
    page.select_option("#viewer-case", str(number))
    page.wait_for_selector("#viewer[data-state=ready]")
    assert page.evaluate("medsegdiffViewer.number") == number


def held_by(loops, shape):
    """The voxels inside the lines of a contour, in the order of the slice's axes."""
    centres = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 2)
    inside = [Polygon(np.reshape(line, (-1, 2))).contains_points(centres) for line in loops]
    return np.logical_xor.reduce(inside, initial=False).reshape(shape) if inside else np.zeros(shape, bool)


@pytest.mark.parametrize("case", sorted(AFFINES))
def test_the_values_and_the_voxel_at_a_place_are_those_of_the_files(opened, root, case):
    show(opened, case)
    files = {"prediction": f"predictions/{case}", "reference": f"labelsTs/{case}",
             "uncertainty": f"predictions/{case}_uncertainty"}
    on_disk = {layer: nibabel.load(root / f"{file}.nii.gz") for layer, file in files.items()}
    samples = np.asarray(nibabel.load(root / f"predictions/{case}_samples.nii.gz").dataobj)
    places = [(12, 1, 1), (1, 1, 8), (5, 7, 4), (6, 7, 4), (3, 9, 6), (0, 0, 0), (13, 17, 9)]
    for place in places:
        mm = [float(v) for v in (AFFINES[case] @ [*place, 1])[:3]]
        true = {layer: float(np.asarray(image.dataobj)[place]) for layer, image in on_disk.items()}
        for layer, value in true.items():
            assert opened.evaluate(READ, [layer, mm]) == pytest.approx(value, abs=0.003), (layer, place)
        opened.evaluate(MOVE, mm)
        text = opened.inner_text("#viewer-place")
        names = {0: "background", 1: "organ", 2: HOSTILE}
        assert text.startswith(f"voxel {', '.join(map(str, place))} ·")
        assert f"mask {names[true['prediction']]} · reference {names[true['reference']]}" in text
        for label in (1, 2):
            held = int((samples[place] == label).sum())
            assert (f"{names[label]} in {held} of {NUM_SAMPLES} samples" in text) == (held > 0)


def test_masks_and_contours_are_drawn_where_the_voxels_are(opened):
    show(opened, "oblique")
    opened.uncheck("#show-image"), opened.uncheck("#show-inclusion"), opened.uncheck("#show-reference")
    opened.evaluate("(fill) => { const slider = document.getElementById('fill'); slider.value = fill;"
                    "slider.oninput(); }", 1)
    opened.evaluate(MOVE, [float(v) for v in (AFFINES["oblique"] @ [12, 1, 1, 1])[:3]])  # one voxel of the organ alone
    corner = [0.3, 0.3, 0.3]  # beside the crosshair, within the voxel
    inside = opened.evaluate(PIXELS, ["viewer-canvas", corner])
    outside = opened.evaluate(PIXELS, ["viewer-canvas", [1.3, 1.3, 1.3]])
    assert [pixel[:3] for pixel in inside] == [pytest.approx([230, 159, 0], abs=3)] * 3  # #E69F00
    assert all(pixel is None or max(pixel[:3]) < 10 for pixel in outside)
    edge = opened.evaluate(PIXELS, ["viewer-lines", [0.25, 0.25, 0.25]])  # a diamond around the voxel's centre
    far = opened.evaluate(PIXELS, ["viewer-lines", [1.3, 1.3, 1.3]])
    assert [pixel[:3] for pixel in edge] == [pytest.approx([230, 159, 0], abs=12)] * 3
    assert all(pixel is None or pixel[3] == 0 for pixel in far)
    opened.uncheck("#show-prediction")
    assert all(max(pixel[:3]) < 10 for pixel in opened.evaluate(PIXELS, ["viewer-canvas", corner]))
    assert all(pixel[3] == 0 for pixel in opened.evaluate(PIXELS, ["viewer-lines", [0.25, 0.25, 0.25]]))
    opened.check("#show-uncertainty")
    assert any(max(pixel[:3]) > 10 for pixel in opened.evaluate(PIXELS, ["viewer-canvas", corner]))
    for switch in ("image", "prediction", "inclusion", "reference"):
        opened.check(f"#show-{switch}")
    opened.uncheck("#show-uncertainty")


def test_contours_hold_the_voxels_that_so_many_samples_hold(opened, root):
    show(opened, "permuted")
    opened.select_option("#viewer-sample", "all")
    image = nibabel.load(root / "predictions" / "permuted_samples.nii.gz")
    in_order = nibabel.as_closest_canonical(image)  # niivue's order of axes
    samples = np.asarray(in_order.dataobj)
    opened.evaluate(MOVE, [float(v) for v in (AFFINES["permuted"] @ [5, 7, 4, 1])[:3]])
    place = np.round(np.linalg.inv(in_order.affine) @ AFFINES["permuted"] @ [5, 7, 4, 1]).astype(int)[:3]
    contours = opened.evaluate("Object.fromEntries(medsegdiffViewer.contours)")
    for axis in range(3):
        slices = np.take(samples, place[axis], axis=axis)
        for number, label in enumerate((1, 2)):
            held = (slices == label)
            for percent in (PERCENTS[0], PERCENTS[-1]):
                loops = contours[f"inclusion {percent} {number} {axis} {place[axis]}"]
                wanted = held.sum(-1) * 100 >= percent * NUM_SAMPLES
                np.testing.assert_array_equal(held_by(loops, wanted.shape), wanted)
            for k in (0, NUM_SAMPLES - 1):
                loops = contours[f"sample {k} {number} {axis} {place[axis]}"]
                np.testing.assert_array_equal(held_by(loops, held.shape[:2]), held[..., k])
    opened.select_option("#viewer-sample", "none")


def test_the_buttons_go_round_all_cases_with_the_flagged_one_first(opened):
    titles = opened.locator("#viewer-case option").all_inner_texts()
    assert titles[0].startswith("permuted · flagged") and len(titles) == len(AFFINES)
    show(opened, "permuted")
    seen = []
    for _ in titles:
        opened.click("#viewer-previous")
        opened.wait_for_selector("#viewer[data-state=ready]")
        seen.append(opened.evaluate("medsegdiffViewer.number"))
    assert seen == [2, 1, 0] and opened.input_value("#viewer-case") == "0"


def test_sliders_change_slice_window_and_zoom(opened):
    show(opened, "flipped")
    slide = "([id, value]) => { const slider = document.getElementById(id); slider.value = value; slider.oninput({" \
            "target: slider}); }"
    opened.evaluate(slide, ["slice-axial", 2])
    assert opened.inner_text("#slice-axial-value") == f"3 of {SHAPE[2]}"
    assert opened.inner_text("#viewer-place").split(" · ")[0].endswith(f", {SHAPE[2] - 1 - 2}")  # its z axis is flipped
    opened.evaluate(slide, ["low", 90])
    assert opened.evaluate("medsegdiffViewer.layers.image.cal_min") == pytest.approx(90, abs=1)
    crosshair = "medsegdiffViewer.nv.frac2canvasPosWithTile(medsegdiffViewer.nv.scene.crosshairPos, 0).pos"
    before = opened.evaluate(crosshair)
    extent = opened.evaluate("medsegdiffViewer.nv.screenSlices[0].fovMM[0]")
    opened.evaluate(slide, ["zoom", 4])
    after = opened.evaluate(crosshair)
    assert opened.evaluate("medsegdiffViewer.nv.screenSlices[0].fovMM[0]") == pytest.approx(extent / 4)
    assert after == pytest.approx(before, abs=1)
    canvas = opened.locator("#viewer-canvas").bounding_box()
    opened.mouse.move(canvas["x"] + canvas["width"] / 2, canvas["y"] + canvas["height"] / 3)
    places = [opened.inner_text("#viewer-place")]
    opened.mouse.wheel(0, 120)
    opened.wait_for_timeout(300)
    assert opened.inner_text("#viewer-place") != places[0]


def test_a_colour_picture_is_shown_upright(browser, tmp_path):
    write_report(tmp_path / "report.html", build_pictures(tmp_path), tmp_path / "predictions", tmp_path / "labelsTs",
                 tmp_path / "imagesTs")
    page = browser.open(tmp_path / "report.html", width=390, scheme="dark")
    page.locator("#viewer").scroll_into_view_if_needed()
    page.wait_for_selector("#viewer[data-state=ready]")
    values = page.evaluate("([[x, y]]) => medsegdiffViewer.layers.image.getValues(19 - x, 15 - y, 0)", [[3, 2]])
    corners = page.evaluate("[[0, 0], [1, 1]].map(([a, b]) => medsegdiffViewer.nv.frac2canvasPos([a, b, 0.5]))")
    name = page.evaluate("document.getElementById('viewer-case').selectedOptions[0].textContent").split(" · ")[0]
    colours = np.asarray(Image.open(tmp_path / "imagesTs" / f"{name}_0000.png"))
    assert values == pytest.approx(colours[2, 3].tolist())
    assert corners[0][0] > corners[1][0] and corners[0][1] > corners[1][1]  # niivue's x and y run against the picture's
    assert not page.evaluate("medsegdiffViewer.nv.opts.isOrientationTextVisible")
    assert page.locator("#viewer-planes").is_hidden() and "mm" not in page.inner_text("#viewer-place")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_a_browser_that_cannot_draw_it_says_why(browser, root):
    page = browser.open(root / "report.html", before="HTMLCanvasElement.prototype.getContext = () => null")
    page.locator("#viewer").scroll_into_view_if_needed()
    page.wait_for_selector("#viewer[data-state=failed]")
    assert page.inner_text("#viewer-message") == "The viewer cannot be shown: this browser offers no WebGL 2."
    page.close()


def test_tables_sort_by_their_numbers_and_keep_the_rows_with_a_text(browser, root):
    page = browser.open(root / "report.html")
    cases = page.locator("#predictions table.sortable").filter(has_text="flipped").first
    column = lambda n: cases.locator(f"tbody tr td:nth-child({n})").all_inner_texts()
    heading = cases.locator("th button", has_text="Dice").first
    at = int(heading.evaluate("(button) => button.parentElement.cellIndex")) + 1
    unsorted = [float(text) for text in column(at)]
    heading.click()
    assert [float(text) for text in column(at)] == sorted(unsorted)
    heading.click()
    assert [float(text) for text in column(at)] == sorted(unsorted, reverse=True)
    link = page.locator("#predictions .tools a")
    assert unquote(link.get_attribute("href")) == "predictions/cases.csv"
    assert link.evaluate("(a) => a.href") == (root / "predictions" / "cases.csv").as_uri()
    page.close()


def test_long_tables_keep_the_rows_with_a_text_and_put_what_is_not_known_last(browser, tmp_path):
    rows = [{"case": f"case_{i}", "score": None if i == 3 else float((7 * i) % 25)} for i in range(12)]
    html = table([Column("case", "case"), Column("score", "score", 1)], rows)
    (tmp_path / "t.html").write_text(pages.document("t", "", [("a", "a", html)], scripts=(pages.SORTING,)))
    page = browser.open(tmp_path / "t.html")
    column = lambda: page.locator("tbody tr:visible td:nth-child(2)").all_inner_texts()
    page.locator("th button").nth(1).click()
    known = sorted(row["score"] for row in rows if row["score"] is not None)
    assert column() == [*(f"{v:.1f}" for v in known), "–"]
    page.locator("th button").nth(1).click()
    assert column() == [*(f"{v:.1f}" for v in known[::-1]), "–"]
    page.locator("input[type=search]").fill("CASE_1")
    assert sorted(page.locator("tbody tr:visible td:first-child").all_inner_texts()) == ["case_1", "case_10", "case_11"]
    page.close()


@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_is_no_wider_than_the_window_and_its_paper(browser, root, width):
    page = browser.open(root / "report.html", width=width, scheme="dark" if width == 390 else "light")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = page.evaluate("['color', 'backgroundColor'].map((key) => getComputedStyle(document.body)[key])")
    assert (sum(json.loads(f"[{paper[4:-1]}]")) < sum(json.loads(f"[{ink[4:-1]}]"))) == (width == 390)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 718, "height": 1000})  # of A4 with margins of 1 cm
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    assert page.locator("#viewer").is_hidden() and page.locator("img").first.is_visible()
    assert page.pdf(format="A4", margin=dict.fromkeys(("left", "right", "top", "bottom"), "1cm"))[:5] == b"%PDF-"
    page.close()


def test_no_page_asked_for_anything_and_none_complained(browser, opened):
    """Last: of all that the tests above have opened, and of a picture that is forced into a page."""
    assert {url.split(":")[0] for url in browser.requests} <= {"file", "data", "blob"}
    assert {url.rpartition("/")[2] for url in browser.requests if url.startswith("file")} <= {"report.html", "t.html"}
    assert browser.complaints == []
    opened.evaluate("document.body.append(Object.assign(new Image(), { src: 'http://192.0.2.1/picture.png' }))")
    opened.wait_for_timeout(300)
    assert len(browser.complaints) == 1 and "Content Security Policy" in browser.complaints[0]
