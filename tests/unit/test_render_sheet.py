"""The contact sheet: where its pictures lie, and how it is made to fit."""

import io

import numpy as np
import pytest
from PIL import Image

from vis_core.errors import ReelmaskError
from vis_core.render.sheet import Strip, contact_sheet


def strips(rows: int = 3, columns: int = 4, size=(180, 320), seed: int = 0) -> list[Strip]:
    """Noise on one colour per picture: little of it can be compressed."""
    rng = np.random.default_rng(seed)
    return [
        Strip(
            caption=f"row {row}",
            pictures=[
                (rng.integers(0, 200, 3) + rng.integers(0, 40, (*size, 3))).astype(np.uint8)
                for _ in range(columns)
            ],
        )
        for row in range(rows)
    ]


def opened(data: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "PNG"
    return np.asarray(picture.convert("RGB")).astype(int)


def test_pictures_lie_in_rows_and_columns():
    made = strips()
    sheet = opened(contact_sheet(made, 1 << 20))
    assert sheet.shape == (3 * (26 + 180 + 6), 4 * (320 + 6) + 6, 3)
    for row, strip in enumerate(made):
        for column, picture in enumerate(strip.pictures):
            top, left = row * 212 + 26, 6 + column * 326
            part = sheet[top : top + 180, left : left + 320]
            assert np.abs(part.mean(axis=(0, 1)) - picture.mean(axis=(0, 1))).max() < 6


@pytest.mark.parametrize("size", [(180, 100), (60, 320), (2, 2)])
def test_pictures_of_other_shapes_are_centred(size):
    bright = np.full((*size, 3), 250, np.uint8)
    sheet = opened(contact_sheet([Strip(caption="", pictures=[bright])], 1 << 20))
    rows, columns = np.nonzero(sheet.min(axis=2) > 200)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == size
    assert abs((rows.min() + rows.max()) / 2 - (26 + 89.5)) <= 1
    assert abs((columns.min() + columns.max()) / 2 - (6 + 159.5)) <= 1


def test_a_row_may_have_fewer_pictures_or_none():
    made = [*strips(rows=1), Strip(caption="nothing", pictures=[])]
    assert opened(contact_sheet(made, 1 << 20)).shape == (2 * 212, 4 * 326 + 6, 3)


def test_fewer_colours_where_it_must_be_small():
    made = strips(rows=1, columns=2)
    free = contact_sheet(made, 1 << 24)
    tight = contact_sheet(made, 70_000)
    assert len(tight) <= 70_000 < len(free)
    assert np.abs(opened(tight) - opened(free)).mean() < 12


def test_a_sheet_that_cannot_fit_is_an_error():
    with pytest.raises(ReelmaskError, match="does not fit 1000 bytes"):
        contact_sheet(strips(rows=1, columns=1), 1000)


def test_small_saturated_spots_keep_their_colour():
    """Labels are few pixels among many: their colours must not be averaged away."""
    rng = np.random.default_rng(1)
    picture = np.repeat(rng.integers(60, 160, (180, 320, 1)), 3, axis=2).astype(np.uint8)
    picture[20:34, 40:60] = 255, 0, 200
    sheet = opened(contact_sheet([Strip(caption="", pictures=[picture] * 4)], 400_000))
    assert np.abs(sheet[26 + 27, 6 + 50] - (255, 0, 200)).max() < 40


def test_same_pictures_same_bytes():
    assert contact_sheet(strips(1, 2), 70_000) == contact_sheet(strips(1, 2), 70_000)
