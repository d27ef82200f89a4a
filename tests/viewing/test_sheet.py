from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from pcdistill.viewing import sheet
from pcdistill.viewing.scene import PART_COLOURS, colour_map
from pcdistill.viewing.sheet import THEMES, Legend, Row, Sheet, flow, lay_out, on_shadow, readable

WHITE = THEMES["white"]
LEGEND = Legend("distance moved", "none at all", "0.23")


def clear(size: int) -> np.ndarray:
    return np.zeros((size, size, 4), dtype=np.uint8)


def inked(image: Image.Image) -> np.ndarray:
    return np.asarray((np.asarray(image) != 255).any(2))


def blank(sheet: Sheet, tile: int = 100) -> Image.Image:
    """The sheet with nothing on its tiles."""
    return sheet.filled([clear(tile)] * len(sheet.corners))


@pytest.mark.parametrize("tile", [32, 100, 220])
@pytest.mark.parametrize("name", ["cup", "night_stand", "a_class_name_that_is_far_too_long_to_be_shown_" * 3])
def test_class_names_stay_in_their_column(name: str, tile: int) -> None:
    sheet = blank(lay_out([Row(name, "distilled", 1)], tile, WHITE), tile)
    columns = np.flatnonzero(inked(sheet).any(0))
    assert len(columns) > 5
    assert columns.min() >= 4
    assert columns.max() < sheet.width - tile
    assert sheet.width < 2.6 * tile + 30


@pytest.mark.parametrize("title", ["Short", "A very long title " * 20, "Two\nlines"])
@pytest.mark.parametrize("tile", [40, 100])
def test_titles_stay_above_the_tiles_and_on_the_sheet(title: str, tile: int) -> None:
    plain, titled = (lay_out([Row("a", "", 1)], tile, WHITE, text) for text in (None, title))
    assert titled.page.width == plain.page.width
    extra = titled.corners[0][1] - plain.corners[0][1]
    assert extra == titled.page.height - plain.page.height > 0
    seen = inked(blank(titled, tile))
    assert seen[: titled.corners[0][1]].any()
    assert not seen[:, [0, -1]].any()


def test_tiles_are_laid_over_the_paper_by_their_alpha() -> None:
    half = np.full((40, 40, 4), 128, dtype=np.uint8)
    for theme, expected in ((WHITE, 255), (THEMES["dark"], 128 + 20 * 127 / 255)):
        sheet = lay_out([Row("a", "", 1)], 40, theme)
        x, y = sheet.corners[0]
        pixels = np.asarray(sheet.filled([half])).astype(int)
        assert pixels[y + 20, x + 20, 0] == pytest.approx(expected, abs=1)
        assert sheet.filled([half]).mode == "RGB"


def test_clear_paper_shows_any_page_through_and_on_white_looks_like_white() -> None:
    """What is seen of the sheet over white is the white sheet: no fringe around letters or tiles."""
    tile = np.zeros((100, 100, 4), dtype=np.uint8)
    tile[20:60, 20:60] = (100, 50, 20, 128)  # premultiplied
    tile[60:80] = (0, 0, 0, 70)  # a shadow
    rows = [Row("night_stand", "initial", 1), Row("night_stand", "distilled", 1), Row("bed", "distilled", 1)]
    theme = replace(THEMES["transparent"], rule=WHITE.rule, faint=WHITE.faint)
    pair = [lay_out(rows, 100, style, "A title", LEGEND) for style in (theme, WHITE)]
    lying, white = (sheet.filled([tile] * 3) for sheet in pair)
    assert lying.mode == "RGBA"
    alpha = np.asarray(lying)[..., 3]
    assert (alpha == 0).mean() > 0.5
    x, y = pair[0].corners[0]
    assert tuple(np.asarray(lying)[y + 30, x + 30]) == (199, 100, 40, 128)
    page = Image.new("RGBA", lying.size, "white")
    page.alpha_composite(lying)
    assert np.abs(np.asarray(page)[..., :3].astype(int) - np.asarray(white)).max() <= 2


@pytest.mark.parametrize("name", ["white", "dark"])
def test_letters_are_those_of_ink_on_that_paper(name: str) -> None:
    """Pixel by pixel as if they were written on it and not on a layer above."""
    theme = THEMES[name]
    sheet = lay_out([Row("chair", "", 1)], 220, theme)
    direct = Image.new("RGB", sheet.page.size, theme.paper)
    font = ImageFont.load_default(220 * 0.098)
    ImageDraw.Draw(direct).text((20, sheet.corners[0][1] + 110), "chair", fill=theme.ink, font=font, anchor="lm")
    np.testing.assert_allclose(np.asarray(blank(sheet, 220)).astype(int), np.asarray(direct), atol=2)


def test_a_shadow_darkens_the_paper_but_not_the_cloud() -> None:
    picture = clear(2)
    picture[0, 0] = (200, 100, 50, 255)
    over = on_shadow(picture, np.full((2, 2), 0.5, dtype=np.float32))
    assert over[0, 0].tolist() == [200, 100, 50, 255]
    assert over[1, 1].tolist() == [0, 0, 0, 128]


def test_a_name_is_written_once_for_the_rows_that_share_it() -> None:
    together = blank(lay_out([Row("chair", "initial", 1), Row("chair", "distilled", 1)], 100, WHITE))
    apart = blank(lay_out([Row("chair", "initial", 1), Row("sofa", "distilled", 1)], 100, WHITE))
    assert apart.height > together.height
    assert inked(apart).sum() > inked(together).sum()


def test_names_are_made_readable() -> None:
    assert readable("night_stand") == "night stand"
    assert readable("a\nb") == "a b"


@pytest.mark.parametrize(("tile", "columns"), [(32, 1), (64, 2), (220, 3)])
def test_the_legend_of_parts_has_every_colour_in_lines_below_the_tiles(tile: int, columns: int) -> None:
    names = tuple((f"part_{number} of many", number) for number in range(len(PART_COLOURS)))
    plain, told = (
        lay_out([Row("a", "", columns)], tile, WHITE, None, words) for words in (None, Legend("part", names=names))
    )
    assert told.corners == plain.corners
    assert told.page.width == plain.page.width
    pixels = np.asarray(blank(told, tile))[plain.page.height - 4 :].astype(int)
    assert not (pixels < 250).any(2)[:, [0, 1, -2, -1]].any()
    places = []
    for colour in PART_COLOURS:
        down, across = np.nonzero((pixels == np.rint(255 * colour)).all(2))
        assert np.ptp(down) == np.ptp(across) >= 4  # a square
        places.append((int(down.min()), int(across.min())))
    assert places == sorted(places)  # as they are read
    assert len({down for down, _ in places}) > 1


@pytest.mark.parametrize(("tile", "columns"), [(32, 1), (64, 1), (220, 3)])
@pytest.mark.parametrize("legend", [LEGEND, Legend("distance to the nearest real cloud", "0", "0.123 radii")])
def test_the_legend_is_below_the_tiles_and_all_on_the_sheet(tile: int, columns: int, legend: Legend) -> None:
    plain, told = (lay_out([Row("a", "", columns)], tile, WHITE, None, words) for words in (None, legend))
    assert told.corners == plain.corners
    below = slice(plain.page.height - 4, told.page.height)
    pixels = np.asarray(blank(told, tile))[below].astype(int)
    ink = (pixels < 250).any(2)
    assert ink.any()
    assert not ink[:, [0, 1, -2, -1]].any()
    assert not ink[-1].any()
    # The bar goes through the colour map from left to right, words of both sides beside it.
    bar = np.ptp(pixels, axis=2) > 60
    across = np.flatnonzero(bar.any(0))
    assert np.ptp(across) + 1 == len(across) >= 10
    middle = pixels[np.flatnonzero(bar.any(1)).mean().round().astype(int)]
    for share, column in ((0.0, across[0]), (1.0, across[-1])):
        expected = 255 * colour_map(np.array([share], dtype=np.float32))[0]
        np.testing.assert_allclose(middle[column], expected, atol=2)
    assert ink[:, : across[0] - 1].any()
    assert ink[:, across[-1] + 2 :].any()


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (4, 4), (5, 3), (10, 5), (40, 10)])
def test_single_clouds_flow_into_lines_with_their_names_below(count: int, columns: int) -> None:
    sheet = flow([f"class_{number}" for number in range(count)], 80, WHITE)
    assert len(sheet.corners) == count
    lefts = sorted({x for x, _ in sheet.corners})
    assert len(lefts) == columns
    assert (np.diff(lefts) == 80).all()
    seen = inked(blank(sheet, 80))
    for x, y in sheet.corners:
        assert not seen[y : y + 80, x : x + 80].any()
        name = np.flatnonzero(seen[y + 80 : y + 100, x : x + 80].any(0))
        assert abs((name[0] + name[-1]) / 2 - 40) < 3
    assert not seen[:, [0, -1]].any()


def test_the_bar_of_the_footer_grows_with_the_share() -> None:
    sheet = flow(["a", "b", "c"], 120, WHITE, "A title", LEGEND, footer=True)
    assert sheet.footer is not None
    faint, lengths = np.array(WHITE.faint), []
    pages = [sheet.with_progress(share, "step 5 / 20", "step 20 / 20").page for share in (0.0, 0.25, 0.5, 1.0)]
    empty, *_ = feet = [np.asarray(page.crop(sheet.footer).convert("RGB")) for page in pages]
    bar = (empty == WHITE.rule).all(2)
    row = bar.sum(1).argmax()
    for page, foot in zip(pages, feet, strict=True):
        lengths.append(int((foot[row][bar[row]] == faint).all(1).sum()))
        np.testing.assert_array_equal(np.asarray(page)[: sheet.footer[1]], np.asarray(sheet.page)[: sheet.footer[1]])
    assert lengths[0] == 0
    assert lengths[2] == pytest.approx(2 * lengths[1], abs=2)
    assert lengths[3] == bar[row].sum() > 100
    plain = flow(["a"], 120, WHITE)
    assert plain.with_progress(0.5, "x", "x") is plain


def test_letters_that_no_font_has_are_spelt(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would all be the same box."""
    pytest.importorskip("matplotlib", reason="its font")
    assert sheet._spelt("Stühle, weiß é Ω") == "Stühle, weiß é Ω"
    assert sheet._spelt("a 椅子") == "a \\u6905\\u5b50"
    assert sheet._font(20, "Stühle").getname()[0] == "DejaVu Sans"
    assert sheet._font(20, "chairs").getname() == ImageFont.load_default(20).getname()
    monkeypatch.setattr(sheet, "_larger_font", lambda: None)
    assert sheet._spelt("Stühle") == "St\\xfchle"
