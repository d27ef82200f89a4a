import numpy as np
import pytest

from pcdistill.viewing.sheet import THEMES, Row, compose, on_shadow, readable

WHITE = THEMES["white"]


def clear(size: int) -> np.ndarray:
    return np.zeros((size, size, 4), dtype=np.uint8)


def inked(image: object) -> np.ndarray:
    return np.asarray((np.asarray(image) != 255).any(2))


@pytest.mark.parametrize("tile", [32, 100, 220])
@pytest.mark.parametrize("name", ["cup", "night_stand", "a_class_name_that_is_far_too_long_to_be_shown_" * 3])
def test_class_names_stay_in_their_column(name: str, tile: int) -> None:
    sheet = compose([Row(name, "distilled", [clear(tile)])], 1, tile, WHITE, None)
    columns = np.flatnonzero(inked(sheet).any(0))
    assert len(columns) > 5
    assert columns.min() >= 4
    assert columns.max() < sheet.width - tile
    assert sheet.width < 2.6 * tile + 30


@pytest.mark.parametrize("title", ["Short", "A very long title " * 20, "Two\nlines"])
def test_titles_stay_above_the_tiles(title: str) -> None:
    plain = compose([Row("a", "", [clear(100)])], 1, 100, WHITE, None)
    titled = compose([Row("a", "", [clear(100)])], 1, 100, WHITE, title)
    assert titled.width == plain.width
    extra = titled.height - plain.height
    assert extra > 0
    assert inked(titled)[: extra + 10].any()


def test_tiles_are_laid_over_the_paper_by_their_alpha() -> None:
    half = np.full((40, 40, 4), 128, dtype=np.uint8)
    pixels = np.asarray(compose([Row("a", "", [half])], 1, 40, WHITE, None)).astype(int)
    assert abs(int(pixels[pixels.shape[0] // 2, -20, 0]) - 255) <= 1
    dark = np.asarray(compose([Row("a", "", [half])], 1, 40, THEMES["dark"], None)).astype(int)
    assert dark[dark.shape[0] // 2, -20, 0] == pytest.approx(128 + 20 * 127 / 255, abs=1)


def test_a_shadow_darkens_the_paper_but_not_the_cloud() -> None:
    picture = clear(2)
    picture[0, 0] = (200, 100, 50, 255)
    over = on_shadow(picture, np.full((2, 2), 0.5, dtype=np.float32))
    assert over[0, 0].tolist() == [200, 100, 50, 255]
    assert over[1, 1].tolist() == [0, 0, 0, 128]


def test_a_name_is_written_once_for_the_rows_that_share_it() -> None:
    rows = [Row("chair", "initial", [clear(100)]), Row("chair", "distilled", [clear(100)])]
    together = compose(rows, 1, 100, WHITE, None)
    apart = compose([rows[0], Row("sofa", "distilled", [clear(100)])], 1, 100, WHITE, None)
    assert apart.height > together.height
    assert inked(apart).sum() > inked(together).sum()


def test_names_are_made_readable() -> None:
    assert readable("night_stand") == "night stand"
    assert readable("a\nb") == "a b"
