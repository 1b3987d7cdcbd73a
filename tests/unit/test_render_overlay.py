"""Drawing: colours of tracks, and what a painter changes in a picture and what it leaves."""

import itertools

import numpy as np
import pytest

from vis_core.masks import rle
from vis_core.render.overlay import Drawn, Painter
from vis_core.render.palette import track_color

SIZE = (120, 160)


def disc(y: float, x: float, radius: float, size: rle.Size = SIZE) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def drawn(*tracks: tuple[int, np.ndarray], labels: list[str] | None = None) -> Drawn:
    masks = rle.encode(np.array([mask for _, mask in tracks]).reshape(-1, *tracks[0][1].shape))
    ids = [track_id for track_id, _ in tracks]
    return Drawn(track_ids=ids, labels=labels or [str(i) for i in ids], masks=masks)


def painted(what: Drawn, size: rle.Size = SIZE, shown: rle.Size = SIZE, **settings) -> np.ndarray:
    image = np.full((*shown, 3), 100, np.uint8)
    Painter("clip", size, shown, **settings).paint(image, what)
    return image


def grown(mask: np.ndarray, by: int) -> np.ndarray:
    """Everything within `by` pixels, along rows and columns."""
    padded = np.pad(mask, by)
    height, width = mask.shape
    shifts = itertools.product(range(2 * by + 1), repeat=2)
    return np.any([padded[y : y + height, x : x + width] for y, x in shifts], axis=0)


# --- colours --------------------------------------------------------------------------------------


def test_colour_follows_from_video_and_track_alone():
    """Known values: a change here gives everybody's tracks other colours."""
    assert track_color("clip_0000", 0) == (211, 153, 19)
    assert track_color("clip_0000", 1) == (167, 76, 253)
    assert track_color("a/b", 0) != track_color("clip_0000", 0)


@pytest.mark.parametrize("video_id", ["clip_0000", "a/b", "", "\udcff"])
def test_neighbouring_tracks_look_different(video_id):
    colors = np.array([track_color(video_id, i) for i in range(12)], float)
    apart = np.linalg.norm(colors[:, None] - colors[None], axis=2)
    assert apart[~np.eye(12, dtype=bool)].min() > 35


def test_black_text_can_be_read_on_every_colour():
    """Contrast of at least 4.5 to 1, as WCAG 2 asks of text."""
    colors = np.array([track_color("clip", i) for i in range(500)]) / 255
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    contrast = (linear @ [0.2126, 0.7152, 0.0722] + 0.05) / 0.05
    assert contrast.min() > 4.5


# --- masks ----------------------------------------------------------------------------------------


def test_only_mask_outline_and_label_change():
    mask = disc(70, 80, 30)
    image = painted(drawn((0, mask)))
    changed = (image != 100).any(axis=2)
    away = ~grown(mask, 3)
    label = np.zeros(SIZE, bool)
    label[20:40, 50:80] = True  # above the upper left corner of the mask
    assert not (changed & away & ~label).any()
    assert changed[mask].all()


def test_inside_is_a_blend_and_the_outline_is_the_colour():
    mask = disc(70, 80, 30)
    image, color = painted(drawn((3, mask))), np.array(track_color("clip", 3))
    inner = ~grown(~mask, 3)
    expected = np.rint(0.55 * 100 + 0.45 * color)
    assert (image[inner] == expected).all()
    assert np.abs(image[70, 110].astype(int) - color).max() < 40  # the rightmost pixel


def test_a_hole_stays_as_it_was():
    ring = disc(60, 80, 40) & ~disc(60, 80, 20)
    assert (painted(drawn((0, ring)))[60, 80] == 100).all()


def test_order_of_rows_does_not_matter():
    tracks = [(0, disc(60, 60, 30)), (1, disc(60, 80, 30)), (7, disc(80, 70, 30))]
    pictures = [painted(drawn(*order)) for order in itertools.permutations(tracks)]
    assert all((picture == pictures[0]).all() for picture in pictures)


def test_lower_ids_are_on_top():
    mask = disc(60, 80, 30)
    image = painted(drawn((0, mask), (1, mask)))
    under, over = (np.array(track_color("clip", i)) for i in (1, 0))
    below = np.rint(0.55 * 100 + 0.45 * under)
    assert (image[60, 95] == np.rint(0.55 * below + 0.45 * over)).all()


@pytest.mark.parametrize("shown", [(60, 80), (30, 40), (240, 320), (119, 161)])
def test_masks_follow_the_size_shown(shown):
    mask = disc(70, 80, 30)
    image = painted(drawn((0, mask), labels=[""]), shown=shown)
    rows = (np.arange(shown[0]) * SIZE[0] / shown[0]).astype(int)
    columns = (np.arange(shown[1]) * SIZE[1] / shown[1]).astype(int)
    expected = mask[rows][:, columns]
    core, around = ~grown(~expected, 3), grown(expected, 3)
    changed = (image != 100).any(axis=2)
    changed[: round(42 * shown[0] / SIZE[0])] = False  # the label's background
    assert changed[core].all() and not changed[~around].any()


def test_one_pixel_is_still_seen_at_a_quarter_of_the_size():
    dot = np.zeros(SIZE, bool)
    dot[90, 101] = True
    image = painted(drawn((0, dot)), shown=(30, 40))
    assert (image[22, 25] != 100).any()


def test_nothing_to_draw():
    empty = np.zeros(SIZE, bool)
    assert (painted(drawn((0, empty))) == 100).all()
    nothing = Drawn(track_ids=[], labels=[], masks=[])
    assert (painted(nothing) == 100).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2), (33, 47)])
def test_masks_that_fill_odd_frames(size):
    image = painted(drawn((0, np.ones(size, bool))), size=size, shown=size)
    assert (image != 100).any(axis=2).all()


# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("corner", [(2, 2), (2, 157), (117, 2), (117, 157)])
@pytest.mark.parametrize("label", ["0", "0 a long name 0.99", "0 ab\tc ‮日本 🙂", "x" * 200])
def test_labels_stay_within_the_picture(corner, label):
    """Any text, anywhere: the picture keeps its size, and some of the label is seen."""
    mask = disc(*corner, 2)
    image = painted(drawn((0, mask), labels=[label]))
    plate = (image == track_color("clip", 0)).all(axis=2)
    assert plate.sum() > 50


def test_labels_make_room_for_each_other():
    mask = disc(60, 80, 15)
    colors = [track_color("clip", i) for i in range(3)]
    image = painted(drawn(*((i, mask) for i in range(3))))
    for color in colors:
        assert (image == color).all(axis=2).sum() > 30


def test_scale_makes_letters_larger():
    mask = disc(60, 80, 15)
    color = track_color("clip", 0)
    small, large = (painted(drawn((0, mask)), scale=scale) for scale in (1.0, 2.0))
    assert (large == color).all(axis=2).sum() > 2 * (small == color).all(axis=2).sum()
