"""Masks as COCO RLE agree with pycocotools and with plain dense arrays."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from vis_core.masks import rle
from vis_core.masks.counts import decode_counts, encode_counts

SIZES = st.tuples(st.integers(1, 13), st.integers(1, 13))


@st.composite
def dense_masks(draw: st.DrawFn, size: tuple[int, int] | None = None) -> np.ndarray:
    """(N, H, W) noise of any density, blocks, full and empty masks, also of one pixel."""
    height, width = size or draw(SIZES)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks = []
    for density in draw(st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0, 2.0]), max_size=5)):
        mask = rng.random((height, width)) < density
        if density == 2.0:
            y, x = rng.integers(0, height), rng.integers(0, width)
            mask = np.zeros((height, width), bool)
            mask[y : y + rng.integers(1, 5), x : x + rng.integers(1, 5)] = True
        masks.append(mask)
    return np.array(masks, bool).reshape(-1, height, width)


def pairs_of_masks() -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    return SIZES.flatmap(lambda size: st.tuples(dense_masks(size), dense_masks(size)))


def coco_encode(masks: np.ndarray) -> list[bytes]:
    return [coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"] for mask in masks]


def size_of(masks: np.ndarray) -> tuple[int, int]:
    return masks.shape[1], masks.shape[2]


def text_of(runs: list[int]) -> bytes:
    """The text of run lengths as they stand, bad ones too, one bit group at a time."""
    text = bytearray()
    for index, run in enumerate(runs):
        value = run - (runs[index - 2] if index > 2 else 0)
        more = True
        while more:
            group, value = value & 0x1F, value >> 5
            more = value != (-1 if group & 0x10 else 0)
            text.append((group | (0x20 if more else 0)) + 48)
    return bytes(text)


@settings(deadline=None, max_examples=200)
@given(dense_masks())
def test_dense_masks_go_to_the_bytes_of_pycocotools_and_back(masks):
    texts = rle.encode(masks)
    assert texts == coco_encode(masks)
    assert np.array_equal(rle.decode(texts, size_of(masks)), masks)
    assert rle.validate_counts(texts, size_of(masks)) == texts


@settings(deadline=None, max_examples=100)
@given(dense_masks())
def test_areas_and_boxes_are_those_of_the_dense_masks(masks):
    texts, size = coco_encode(masks), size_of(masks)
    areas, boxes = rle.areas(texts, size), rle.boxes(texts, size)
    assert areas.dtype == np.int64 and boxes.dtype == np.float32
    assert areas.tolist() == masks.sum(axis=(1, 2)).tolist()
    assert boxes.shape == (len(masks), 4)
    for mask, box in zip(masks, boxes, strict=True):
        y, x = np.nonzero(mask)
        tight = (x.min(), y.min(), x.max() + 1, y.max() + 1) if len(y) else (0, 0, 0, 0)
        assert tuple(box) == tight


@settings(deadline=None, max_examples=100)
@given(pairs_of_masks())
def test_overlaps_are_those_of_the_dense_masks(pair):
    a, b = pair
    size = size_of(a)
    common = (a[:, None] & b[None]).sum(axis=(2, 3))
    total = (a[:, None] | b[None]).sum(axis=(2, 3))
    iou = common / np.maximum(total, 1)
    texts = rle.encode(a), rle.encode(b)
    assert np.array_equal(rle.intersection_areas(*texts, size), common)
    assert np.allclose(rle.iou_matrix(*texts, size), iou, rtol=0, atol=1e-12)
    assert np.allclose(rle.dense_iou(a, b), iou, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=100)
@given(dense_masks())
def test_union_and_intersection_are_those_of_the_dense_masks(masks):
    texts, size = rle.encode(masks), size_of(masks)
    joined = rle.decode([rle.union(texts, size), rle.intersection(texts, size)], size)
    assert np.array_equal(joined[0], masks.any(axis=0))
    if len(masks):
        assert np.array_equal(joined[1], masks.all(axis=0))


@settings(deadline=None, max_examples=100)
@given(dense_masks(), st.data())
def test_crops_are_cut_and_pasted_exactly(masks, data):
    texts, size = rle.encode(masks), size_of(masks)
    tight = rle.crops(texts, size)
    assert rle.encode_crops(tight, size) == texts
    for mask, text, crop in zip(masks, texts, tight, strict=True):
        assert np.array_equal(rle.paste(crop, size), mask)
        assert crop.box == tuple(rle.boxes([text], size)[0])
        x0, x1 = sorted(data.draw(st.tuples(*[st.integers(0, size[1])] * 2)))
        y0, y1 = sorted(data.draw(st.tuples(*[st.integers(0, size[0])] * 2)))
        cut = rle.decode_crop(text, size, (x0, y0, x1, y1))
        assert np.array_equal(cut, mask[y0:y1, x0:x1])


def test_masks_of_video_size_survive():
    rng = np.random.default_rng(0)
    size = (1080, 1919)
    blob = rng.random((300, 400)) < 0.999
    crops = [rle.Crop(mask=blob, x0=1500, y0=700), rle.Crop(mask=blob[:, :1], x0=0, y0=780)]
    texts = rle.encode_crops(crops, size)
    dense = np.stack([rle.paste(crop, size) for crop in crops])
    assert texts == coco_encode(dense)
    assert np.array_equal(rle.decode(texts, size), dense)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=9), max_size=5))
def test_any_run_lengths_survive_the_text(rows):
    """Also runs that no frame has, up to the largest."""
    texts = [text_of(row) for row in rows]
    runs = decode_counts(texts)
    bounds = runs.offsets
    assert [runs.lengths[a:b].tolist() for a, b in itertools.pairwise(bounds)] == rows
    assert encode_counts(runs) == texts
    official = [coco.frPyObjects({"size": [1, 1], "counts": row}, 1, 1) for row in rows]
    assert [item["counts"] for item in official] == texts


def test_no_masks_at_all():
    size = (4, 5)
    assert rle.validate_counts([], size) == []
    assert rle.encode_crops([], size) == rle.crops([], size) == []
    assert rle.areas([], size).shape == (0,)
    assert rle.boxes([], size).shape == (0, 4)
    assert rle.iou_matrix([], [rle.empty_mask(size)], size).shape == (0, 1)
    assert rle.decode([], size).shape == (0, 4, 5)
    assert rle.union([], size) == rle.empty_mask(size)


def test_empty_masks_overlap_nothing_not_even_each_other():
    size = (4, 5)
    empty = rle.empty_mask(size)
    full = rle.encode(np.ones((1, 4, 5)))[0]
    assert empty == coco_encode(np.zeros((1, 4, 5)))[0]
    assert rle.iou_matrix([empty, full], [empty, full], size).tolist() == [[0, 0], [0, 1]]


# --- untrusted masks ------------------------------------------------------------------------------

GOOD = coco_encode(np.eye(6)[None])[0]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (b"", "no run lengths"),
        (GOOD[:-1], "cover 35 pixels|breaks off"),
        (text_of([36])[:1], "breaks off"),
        (text_of([35]), "cover 35 pixels, but 6 x 6"),
        (text_of([40, 3, -7]), "run of -7"),
        (text_of([-1, 37]), "run of -1"),
        (b"\x00\xff garbage", "byte 0 is not COCO RLE text"),
        (b"oooooooooooo0", "more than 35 bits"),
        (text_of([2**31 - 1] * 3), "cover 6442450941 pixels"),
        ("text", "expected bytes, got str"),
    ],
)
def test_malformed_masks_are_refused_by_number(mask, message):
    with pytest.raises(ValueError, match=f"mask 1: .*({message})"):
        rle.validate_counts([GOOD, mask], (6, 6))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=12) | st.text("0123456789abcdeoPQ@", max_size=8).map(str.encode))
def test_arbitrary_bytes_are_refused_or_are_a_mask_of_this_size(text):
    """What passes is safe for pycocotools: it has exactly the frame's pixels."""
    try:
        (mask,) = rle.validate_counts([text], (4, 4))
    except ValueError:
        return
    dense = coco.decode([{"size": [4, 4], "counts": mask}])[:, :, 0]
    assert np.array_equal(rle.decode([mask], (4, 4))[0], dense)
    assert coco_encode(dense[None]) == [mask]


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([2, 3, 0, 4, 7], [2, 7, 7]),
        ([16, 0], [16]),
        ([0, 16, 0], [0, 16]),
        ([0, 0, 3, 13], [3, 13]),
        ([3, 0, 0, 0, 13], [16]),
        ([0, 0, 0, 16], [0, 16]),
    ],
)
def test_empty_runs_inside_are_rewritten(runs, expected):
    """pycocotools stops merging at an empty run and would lose pixels."""
    assert rle.validate_counts([text_of(runs)], (4, 4)) == [text_of(expected)]
    assert rle.encode_runs([runs], (4, 4)) == [text_of(expected)]


@pytest.mark.parametrize("runs", [[1.5, 14.5], [[16]], ["16"], [-1, 17], [17], [], [2**40]])
def test_bad_run_lists_are_refused(runs):
    with pytest.raises(ValueError, match="mask 0: "):
        rle.encode_runs([runs], (4, 4))


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5), (1 << 16, 1 << 16)])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(ValueError, match="mask size"):
        rle.validate_counts([], size)
    with pytest.raises(ValueError, match="mask size"):
        rle.areas([b"0"], size)
    with pytest.raises(ValueError, match="mask size"):
        rle.empty_mask(size)


def test_dense_masks_of_no_pixels_are_refused():
    with pytest.raises(ValueError, match="mask size"):
        rle.encode(np.zeros((1, 0, 4), bool))
    with pytest.raises(ValueError, match=r"expected \(N, H, W\)"):
        rle.encode(np.zeros((3, 4), bool))


def test_crops_beyond_the_frame_are_refused():
    crop = rle.Crop(mask=np.ones((2, 2), bool), x0=3, y0=0)
    with pytest.raises(ValueError, match=r"crop 0 \(3, 0, 5, 2\) does not lie within 4 x 4"):
        rle.encode_crops([crop], (4, 4))
    with pytest.raises(ValueError, match="does not lie within"):
        rle.decode_crop(rle.empty_mask((4, 4)), (4, 4), (-1, 0, 2, 2))


def test_polygons_are_filled_by_the_rule_of_coco():
    square = [1, 1, 1, 3, 3, 3, 3, 1]
    mask = rle.decode([rle.encode_polygons([square, [5, 5, 5, 7, 7, 7]], (8, 8))], (8, 8))[0]
    merged = coco.merge(coco.frPyObjects([square, [5, 5, 5, 7, 7, 7]], 8, 8))
    expected = coco.decode([merged])[:, :, 0]
    assert np.array_equal(mask, expected)
    assert mask[1:3, 1:3].all()


@pytest.mark.parametrize(
    "polygon", [[0, 0, 1, 1], [0, 0, 1, 1, 2], [0, 0, 1, 1, 1e9, 2], [0, 0, 1, float("nan"), 2, 2]]
)
def test_bad_polygons_are_refused(polygon):
    with pytest.raises(ValueError, match="polygon"):
        rle.encode_polygons([polygon], (8, 8))
