"""The page for the browser: what it holds, and that a real Chromium shows it, from disk and without a network."""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pcdistill.cli import main
from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.geometry.nearest import nearest_real
from pcdistill.viewing import Exhibit, Real, Scores, html_page, write_page
from pcdistill.viewing.browser.page import WEB, content
from pcdistill.viewing.scene import PART_COLOURS, view_rotation
from tests.viewing.browser import opened, pixels, settle, started

NAMES = ("night_stand", "empty", "ball", "</script><script>document.title = 'stolen'</script>")


def exhibit(bits: int = 8, frames: int = 3, each: int = 3, points: int = 40) -> Exhibit:
    """Three classes with `each` clouds that shrink from frame to frame, one without, and real ones beside them."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 2, 3]).repeat_interleave(each)
    start = torch.nn.functional.normalize(torch.randn(3 * each, points, 3, generator=generator), dim=-1)
    way = tuple(start * (1 - 0.2 * frame) * torch.tensor([1.0, 0.8, 0.5]) for frame in range(frames))
    clouds = PointClouds(way[-1], labels, NAMES)
    real = PointClouds(way[-1].flip(0) * 0.9 + 0.05, labels.flip(0), NAMES)
    found = nearest_real(clouds, real)
    return Exhibit(
        "a <b>set</b> & more", clouds, way, tuple(range(0, 10 * frames, 10)), Real(found, real.points[found.index]),
        losses=tuple(1.0 / (step + 1) for step in range(1000)), bits=bits, nbytes=999,
        facts={"made by": "a <i>test</i>"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("page") / "set.html"
    scores = Scores("accuracies", ["arm", "accuracy"], [["<u>krr</u>", "88.4"], ["random", "85.4"]])
    write_page(exhibit(), made, scores=scores)
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as found:
        yield found


@pytest.fixture(scope="module")
def address(path: Path) -> str:
    return path.as_uri()


# What is in it


def unpacked(made: Exhibit) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    meta, data = content(made)
    block = gzip.decompress(base64.b64decode(data))
    return json.loads(json.dumps(meta, allow_nan=False)), {
        name: np.frombuffer(block, "<" + where["type"], where["length"], where["offset"])
        for name, where in meta["arrays"].items()
    }


def centred(points: Tensor, by: Tensor) -> np.ndarray:
    low, high = by.amin(1, keepdim=True), by.amax(1, keepdim=True)
    return np.asarray(points - (low + high) / 2)


@pytest.mark.parametrize(("bits", "levels"), [(5, 255), (8, 255), (12, 65535), (32, 65535)])
def test_coordinates_are_there_to_half_a_level(bits: int, levels: int) -> None:
    made = exhibit(bits)
    meta, arrays = unpacked(made)
    step = meta["span"] / levels
    way = (arrays["way"].reshape(3, 9, 40, 3) / levels - 0.5) * meta["span"]
    for frame, found in zip(made.frames, way, strict=True):
        assert np.abs(found - centred(frame, made.frames[-1])).max() < 0.51 * step
    assert made.real is not None
    beside = made.real.nearest.points
    real = (arrays["real"].reshape(9, 40, 3) / levels - 0.5) * meta["span"]
    assert np.abs(real - centred(beside, beside)).max() < 0.51 * step
    assert meta["arrays"]["way"]["offset"] % arrays["way"].itemsize == 0
    assert meta["rows"] == [[0, 1, 2], [], [3, 4, 5], [6, 7, 8]]
    assert meta["places"] == [0, 1, 2] * 3


def test_long_histories_of_loss_are_thinned() -> None:
    meta, _ = unpacked(exhibit())
    assert (meta["losses"][0], meta["losses"][-1]) == (1.0, 0.001)
    assert (len(meta["losses"]), meta["lossSteps"]) == (400, [0, 1000])


def test_soft_labels_are_told() -> None:
    made = exhibit()
    soft = torch.full((9, 4), 0.1)
    soft[:, 2] = 0.7
    clouds = PointClouds(made.clouds.points, soft, NAMES, classes=made.clouds.labels)
    told = content(Exhibit("soft", clouds, made.frames, made.steps))[0]["soft"]
    assert len(told) == 9
    assert all(text.startswith("ball 70 %, ") for text in told)


def test_shades_stay_below_the_grey() -> None:
    """Behind the scale the palette has the grey of real clouds, and then the colours of parts."""
    made = exhibit()
    meta, arrays = unpacked(made)
    assert made.real is not None
    values = arrays["shade:real"].reshape(3, 9, 40)
    assert values.max() < meta["grey"] == 255 - len(PART_COLOURS)
    away = (made.frames[1][4, :, None] - made.real.dense[4]).norm(dim=-1).amin(1)
    high = float(next(one["high"] for one in meta["colourings"] if one["name"] == "real"))
    np.testing.assert_allclose(values[1, 4] / (meta["grey"] - 1) * high, away.clamp(max=high), atol=0.05 * high)
    assert len(meta["map"]) == 256 * 3
    grey = np.reshape(meta["map"], (256, 3))[meta["grey"]]
    assert np.ptp(grey) < 15


def with_parts(made: Exhibit) -> Exhibit:
    """Upper and lower halves, in the real clouds, too."""
    assert made.real is not None
    names = PartNames.shared(("up_per", "lower"), 4)
    halves = [(points[..., 2] < 0).long() for points in (made.clouds.points, made.real.nearest.points)]
    clouds = replace(made.clouds, parts=halves[0], part_names=names)
    return replace(made, clouds=clouds, real=made.real._replace(parts=halves[1]))


def test_parts_have_places_in_the_palette_in_all_frames() -> None:
    made = with_parts(exhibit())
    meta, arrays = unpacked(made)
    told = next(one for one in meta["colourings"] if one["name"] == "part")
    assert [name for name, _ in told["parts"]] == ["up per", "lower"]
    places = np.array([place for _, place in told["parts"]])
    colours = np.reshape(meta["map"], (256, 3))[places]
    np.testing.assert_array_equal(colours, np.rint(255 * PART_COLOURS[:2]))
    assert made.clouds.parts is not None
    assert made.real is not None
    assert made.real.parts is not None
    own = places[made.clouds.parts.numpy()]
    np.testing.assert_array_equal(arrays["shade:part"].reshape(3, *own.shape), np.stack([own] * 3))
    np.testing.assert_array_equal(arrays["real:part"].reshape(own.shape), places[made.real.parts.numpy()])
    assert all(one["parts"] == [] for one in meta["colourings"] if one["name"] != "part")


def test_same_set_same_page() -> None:
    assert html_page(exhibit()) == html_page(exhibit())


class Elements(HTMLParser):
    """The tags of a page, and the addresses in their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str | None] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action", "data")]


def test_names_from_files_are_text(path: Path) -> None:
    found = Elements()
    found.feed(path.read_text())
    assert found.addresses == []
    assert found.tags.count("script") == 3
    assert not {"b", "i", "u"} & set(found.tags)


def test_a_colouring_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="'critical' without a network, expected --model NETWORK"):
        html_page(exhibit(), colour="critical")


def test_the_bundle_is_made_of_the_scripts_beside_it() -> None:
    """`make web` after a change."""
    bundle = (WEB / "viewer.bundle.js").read_text()
    (names,) = re.findall(r"SOURCES = \[(.*?)\]", (WEB / "build.mjs").read_text())
    digest = hashlib.sha256()
    for name in re.findall(r'"(.*?)"', names):
        digest.update((WEB / name).read_bytes())
    code = bundle.partition("*/\n")[2]
    own = hashlib.sha256(code.encode()).hexdigest()
    assert bundle.startswith(f"/* sources {digest.hexdigest()}\ncode {own}\n")
    assert "The MIT License" in bundle.split("*/")[0]
    scripts = {path.name for path in WEB.glob("*.js")} - {"viewer.bundle.js"}
    assert scripts <= set(re.findall(r'"(.*?)"', names))


def test_nothing_is_left_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_page(exhibit(), tmp_path / "file" / "a.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# In a browser


def inked(picture: np.ndarray) -> np.ndarray:
    """Where something else than paper and grey is."""
    return picture.max(2) - picture.min(2) > 40


def test_it_draws_all_clouds_and_asks_for_nothing(browser: Any, address: str) -> None:
    with opened(browser, address) as (page, notes):
        cells = page.locator(".cell")
        assert cells.count() == 9
        shot = pixels(page, "#stage")
        box = page.locator("#stage").bounding_box()
        for cell in cells.all():
            where = cell.bounding_box()
            left, top, side = int(where["x"] - box["x"]), int(where["y"] - box["y"]), int(where["width"])
            own = shot[max(top, 0) : top + side, left : left + side]
            assert inked(own).mean() > 0.02
        assert page.title() == "a <b>set</b> & more"
        assert page.locator("#facts").inner_text().split("\n") == ["made by", "a <i>test</i>"]
        assert page.get_by_role("row", name="<u>krr</u> 88.4").count() == 1
        assert page.locator("#curve polyline").count() == 1
    assert notes.said == []
    assert notes.asked == [address]


def test_points_are_where_the_camera_of_the_pictures_sees_them(browser: Any, tmp_path: Path) -> None:
    """Two points: the page's own matrix and perspective against NumPy's."""
    ends = torch.tensor([[[0.6, 0.1, -0.5], [-0.6, -0.1, 0.5]]])
    write_page(Exhibit("two", PointClouds(ends, torch.tensor([0]), ("pair",)), (ends,)), tmp_path / "two.html")
    meta, _ = content(Exhibit("two", PointClouds(ends, torch.tensor([0]), ("pair",)), (ends,)))
    seen = ends[0].numpy() @ view_rotation().T
    with opened(browser, (tmp_path / "two.html").as_uri()) as (page, _):
        page.locator("#cell").fill("320")
        picture = inked(pixels(page, ".cell"))
    half = picture.shape[0] / 2
    for x, y, z in seen:
        column, row = half + half * meta["focal"] / (meta["distance"] - z) * np.array([x, -y])
        # A disc of the sphere's size about it, and nothing else.
        radius = half * meta["focal"] * meta["radius"] / (meta["distance"] - z)
        room = int(radius) + 4
        around = picture[int(row) - room : int(row) + room + 1, int(column) - room : int(column) + room + 1]
        assert 0.75 < around.sum() / (np.pi * radius**2) < 1.1  # less the gloss, which is white
        down, across = np.nonzero(around)
        assert np.abs([down.mean() - room, across.mean() - room]).max() < 2


def test_parts_are_named_beside_their_colours(browser: Any, tmp_path: Path) -> None:
    write_page(with_parts(exhibit()), tmp_path / "parts.html", colour="part")
    with opened(browser, (tmp_path / "parts.html").as_uri()) as (page, notes):
        assert page.locator("#parts li").all_inner_texts() == ["up per", "lower"]
        assert not page.locator("#scale").is_visible()
        picture = pixels(page, "#stage").astype(int)
        blue, orange = (picture[..., 2] - picture[..., 0] > 60), (picture[..., 0] - picture[..., 2] > 60)
        assert blue.sum() > 300
        assert orange.sum() > 300
        assert np.nonzero(blue[:250])[0].mean() != np.nonzero(orange[:250])[0].mean()
        page.locator("#colour").select_option("height")
        assert page.locator("#scale").is_visible()
        assert not page.locator("#parts").is_visible()
        assert notes.said == []


def test_controls_change_the_picture(browser: Any, address: str) -> None:
    with opened(browser, address) as (page, notes):
        distilled = pixels(page, "#stage")
        page.get_by_role("radio", name="Initial").click()
        initial = pixels(page, "#stage")
        assert inked(initial).sum() > 1.2 * inked(distilled).sum()  # the clouds shrank
        assert page.get_by_role("radio", name="Initial").get_attribute("aria-checked") == "true"
        mark = page.locator("#curve .mark")
        at_start = float(mark.get_attribute("x1"))
        page.locator("#slider").fill("1")
        assert at_start < float(mark.get_attribute("x1")) == float(mark.get_attribute("x2")) < 312
        assert page.locator("#step").inner_text() == "step 10 of 20"
        between = inked(pixels(page, "#stage")).sum()
        assert inked(distilled).sum() < between < inked(initial).sum()
        page.get_by_role("radio", name="Nearest real").click()
        assert not np.array_equal(pixels(page, "#stage"), distilled)
        page.locator("#colour").select_option("moved")  # which says nothing of real clouds: they are grey
        assert not inked(pixels(page, "#stage")).any()
        page.locator("#colour").select_option("height")
        page.get_by_role("radio", name="Distilled").click()
        assert np.array_equal(pixels(page, "#stage"), distilled)

        page.locator("#colour").select_option("moved")
        moved = pixels(page, "#stage")
        assert np.array_equal(inked(moved), inked(distilled)) or np.mean(inked(moved) != inked(distilled)) < 0.01
        assert not np.array_equal(moved, distilled)
        assert page.locator("#low").inner_text() == "0"
        page.locator("#colour").select_option("height")
        page.locator("#size").fill("2")
        assert inked(pixels(page, "#stage")).sum() > 1.5 * inked(distilled).sum()
        page.locator("#theme").click()
        dark = pixels(page, "#stage")
        assert np.median(dark) < 40
    assert notes.said == []


def test_all_clouds_turn_together(browser: Any, address: str) -> None:
    with opened(browser, address) as (page, _):
        before = pixels(page, "#wall")
        page.mouse.move(300, 300)
        page.mouse.down()
        page.mouse.move(420, 330, steps=4)
        page.mouse.up()
        after = pixels(page, "#wall")
        assert page.locator("#one").is_hidden()  # a drag is no click
        boxes = [cell.bounding_box() for cell in page.locator(".cell").all()]
        top = page.locator("#wall").bounding_box()
        for box in boxes[:6]:
            x, y, side = int(box["x"] - top["x"]), int(box["y"] - top["y"]), int(box["width"])
            part = (slice(y, y + side), slice(x, x + side))
            assert (before[part] != after[part]).any()
        page.keyboard.press("0")
        page.evaluate("() => document.activeElement.blur()")
        page.mouse.move(5, 5)
        page.wait_for_timeout(300)  # the mark below the mouse fades
        assert np.array_equal(pixels(page, "#wall"), before)


def test_classes_can_be_hidden(browser: Any, address: str) -> None:
    with opened(browser, address) as (page, notes):
        assert page.get_by_role("heading", name="ball 3 clouds").is_visible()
        page.locator("#filter summary").click()
        assert page.locator("#classes label").count() == 3  # none for a class without clouds
        page.locator("#classes").get_by_label("ball").uncheck()
        assert page.locator("#chosen").inner_text() == "2 of 3"
        assert page.get_by_role("heading", name="ball 3 clouds").is_hidden()
        page.get_by_role("searchbox").fill("night")
        assert page.locator("#classes li:visible").count() == 1
        page.get_by_role("searchbox").fill("")
        page.locator("[data-all=no]").click()
        assert page.locator("#none").is_visible()
        settle(page)
        assert not inked(pixels(page, "#wall")).any()
        page.locator("[data-all=yes]").click()
        assert page.locator("#chosen").inner_text() == "all 3"
        page.keyboard.press("Escape")
        page.locator(".cell").first.click()
        page.locator("#filter summary").click()
        page.locator("[data-all=no]").click()
        page.locator("#after").click()  # there is none
        assert page.locator("#one-name").text_content() == "night stand, cloud 1 of 3"
        page.keyboard.press("Escape")
        assert page.evaluate("() => document.activeElement.tagName") == "SUMMARY"
    assert notes.said == []


def test_it_can_be_used_without_a_mouse(browser: Any, address: str) -> None:
    with opened(browser, address) as (page, notes):

        def focused() -> str:
            return str(page.evaluate("() => document.activeElement.getAttribute('aria-label')"))

        page.locator(".cell[tabindex='0']").focus()
        assert focused() == "night stand, cloud 1 of 3"
        page.keyboard.press("ArrowRight")
        assert focused() == "night stand, cloud 2 of 3"
        page.keyboard.press("ArrowDown")
        assert focused() == "ball, cloud 2 of 3"
        page.keyboard.press("End")
        assert focused().endswith("cloud 3 of 3")
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        wall = pixels(page, "#stage")
        page.keyboard.press("Enter")
        assert page.get_by_role("dialog").get_by_role("heading").text_content() == "night stand, cloud 2 of 3"
        assert page.locator("#views figcaption").all_inner_texts() == ["initial", "step 20 of 20", "nearest real"]
        assert "Chamfer distance" in page.locator("#one-facts").inner_text()
        alone = pixels(page, "#stage")
        assert inked(alone).sum() > 0.5 * inked(wall).sum()
        page.keyboard.press("d")
        assert not np.array_equal(pixels(page, "#stage"), alone)
        page.keyboard.press("ArrowRight")
        assert page.locator("#one-name").text_content() == "night stand, cloud 3 of 3"
        page.keyboard.press("Escape")
        assert focused() == "night stand, cloud 3 of 3"
        page.keyboard.press("i")
        assert page.locator("#step").inner_text() == "step 0 of 20"
        page.keyboard.press("]")
        assert page.locator("#step").inner_text() == "step 10 of 20"
        page.keyboard.press("c")
        assert page.locator("#colour").input_value() == "moved"
        page.keyboard.press("?")
        assert page.get_by_role("dialog", name="Keys").is_visible()
        page.keyboard.press("Escape")
        page.keyboard.press(" ")
        page.wait_for_selector("#play[aria-label=Pause]")
        for _ in range(100):
            if page.locator("#step").inner_text() == "step 20 of 20":
                break
            page.wait_for_timeout(100)
        assert page.locator("#step").inner_text() == "step 20 of 20"
    assert notes.said == []


def test_every_control_has_a_name(browser: Any, address: str) -> None:
    with opened(browser, address) as (page, _):
        page.locator("#filter summary").click()
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, [role=region], [role=group]")]
                .filter((it) => it.offsetParent && !(it.getAttribute("aria-label") || it.labels?.length
                    || it.textContent.trim() || it.getAttribute("aria-labelledby")))
                .map((it) => it.outerHTML)"""
        )
        assert nameless == []
        assert page.locator("html").get_attribute("lang") == "en"
        assert page.locator("h1").count() == 1


@pytest.mark.parametrize(("width", "height"), [(360, 640), (2560, 1440)])
def test_it_fits_a_telephone_and_a_projector(browser: Any, address: str, width: int, height: int) -> None:
    with opened(browser, address, width, height, has_touch=True) as (page, notes):
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        stage = page.locator("#stage").bounding_box()
        assert stage["height"] > 0.4 * height
        assert inked(pixels(page, "#stage")).sum() > 5000
        page.locator(".cell").first.tap()
        assert page.get_by_role("dialog").is_visible()
        for view in page.locator("#views figure").all():
            assert inked(pixels(page, view)).sum() > 1500
        for button in ("#close", "#after"):
            box = page.locator(button).bounding_box()
            assert box["x"] + box["width"] <= width
        page.locator("#close").tap()
        assert page.get_by_role("dialog").is_hidden()
        size = float(page.evaluate("() => parseFloat(getComputedStyle(document.body).fontSize)"))
        assert size >= (20 if width > 2200 else 14)
    assert notes.said == []


def test_a_picture_can_be_saved(browser: Any, address: str, tmp_path: Path) -> None:
    with opened(browser, address) as (page, _):
        with page.expect_download() as download:
            page.locator("#shot").click()
        download.value.save_as(tmp_path / "shot.png")
        assert download.value.suggested_filename == "a-b-set-b-more.png"
        with Image.open(tmp_path / "shot.png") as picture:
            assert inked(np.asarray(picture.convert("RGB"), dtype=np.int64)).mean() > 0.01


def test_only_what_is_in_sight_is_drawn(browser: Any, tmp_path: Path) -> None:
    """Forty classes of 64: the buttons are all there, and scrolling brings their clouds."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(2560, 16, 3, generator=generator).clamp(-1, 1)
    names = tuple(f"class {number}" for number in range(40))
    clouds = PointClouds(points, torch.arange(40).repeat_interleave(64), names)
    write_page(Exhibit("large", clouds, (points,), bits=8), tmp_path / "large.html")
    with opened(browser, (tmp_path / "large.html").as_uri()) as (page, notes):
        assert page.locator(".cell").count() == 2560
        drawn = "() => viewer.stage.renderer.info.render.points"
        assert 0 < page.evaluate(drawn) < 16 * 100
        page.locator("#wall").evaluate("(wall) => wall.scrollTo(0, wall.scrollHeight)")
        assert inked(pixels(page, "#wall")).mean() > 0.01
        assert page.get_by_role("button", name="class 39, cloud 64 of 64").is_visible()
    assert notes.said == []


def test_from_an_artefact_by_the_command_line(
    browser: Any, tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--clouds-per-class", "2", "--points", "32", "--objective", "dm", "--members", "1", "--steps", "3"]
    source, made = tmp_path / "a.h5", tmp_path / "deep" / "a.html"
    assert main(["distill", "--data", str(tiny_file), *small, "--snapshots", "1", "--output", str(source)]) == 0
    wanted = ["--real", str(tiny_file), "--class", "ring", "ball", "--colour", "real"]
    assert main(["view", str(source), "--html", str(made), *wanted]) == 0
    size = made.stat().st_size
    assert capsys.readouterr().out.endswith(f"wrote {made}: 4 clouds, {size / 1e6:.1f} MB\n")
    with opened(browser, made.as_uri()) as (page, notes):
        assert page.locator("section:visible h2").all_text_contents() == ["ball 2 clouds", "ring 2 clouds"]
        assert page.locator("#colour").input_value() == "real"
        assert "float32" in page.locator("#facts").inner_text()
        assert inked(pixels(page, "#stage")).mean() > 0.005
    assert notes.said == []
