"""The motion front end: what moves on its own is found, whatever the camera does."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from tests.support.fakes import fake_video
from tests.support.moving_disc import Scene, moving_disc
from vis_core.columns import content_digest
from vis_core.config import build
from vis_core.errors import UsageError
from vis_core.flow.camera import camera_flow, fit_camera
from vis_core.flow.dis import DisFlow
from vis_core.masks import rle
from vis_core.schema import predictions_to_table
from vis_core.systems.flow_match import FLOW_MATCH, FlowMatchPredictConfig
from vis_core.systems.flow_match.evidence import beyond, median
from vis_core.types import FrameBatch, FramePrediction
from vis_core.windows import ShardWindow


def predict(
    frames: np.ndarray,
    *,
    start: int = 0,
    stop: int | None = None,
    batch_size: int = 8,
    **settings: object,
) -> list[FramePrediction]:
    """The rows of frames [start, stop), given these and the halo that the system asks for."""
    stop = len(frames) if stop is None else stop
    config = FlowMatchPredictConfig(**settings)
    spec = FLOW_MATCH.window(config)
    first, last = max(0, start - spec.halo_before), min(len(frames), stop + spec.halo_after)
    video = fake_video("v", len(frames), height=frames.shape[1], width=frames.shape[2])

    def batches() -> Iterator[FrameBatch]:
        for at in range(first, last, batch_size):
            index = np.arange(at, min(at + batch_size, last))
            yield FrameBatch(
                video_id="v",
                frame_index=index,
                pts_seconds=index / 25,
                frames=frames[index],
                rank=index,
            )

    predictor = FLOW_MATCH.make_predictor(config)
    return list(predictor.predict(batches(), ShardWindow(video=video, start=start, stop=stop)))


def decoded(row: FramePrediction) -> np.ndarray:
    return rle.decode(row.masks, (row.height, row.width))


def ious(row: FramePrediction, truth: np.ndarray) -> list[float]:
    return rle.dense_iou(decoded(row), truth[None])[:, 0].tolist()


def digest(rows: list[FramePrediction]) -> str:
    return content_digest(predictions_to_table(rows, fingerprint="", member=""))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return moving_disc()


@pytest.fixture(scope="module")
def rows(scene) -> list[FramePrediction]:
    return predict(scene.frames)


# --- what is found --------------------------------------------------------------------------------


def test_a_disc_over_a_panning_background_is_found_and_nothing_else(scene, rows):
    """In every frame one mask, IoU 0.8 or more; 0.93 or more on average. The camera moves."""
    best = [max(ious(row, disc), default=0) for row, disc in zip(rows, scene.discs, strict=True)]
    assert min(best) > 0.8 and np.mean(best) > 0.93
    assert [len(row) for row in rows] == [1] * len(rows)


def two_discs(apart: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Discs that fly away from each other before a camera at rest; the second lies on top."""
    first = moving_disc(24, start=(160 - apart // 2, 90), speed=(-4, 0), pan=(0, 0))
    second = moving_disc(24, start=(160 + apart // 2, 90), speed=(4, 0), pan=(0, 0))
    frames = np.where(second.discs[..., None], second.frames, first.frames)
    return frames, first.discs & ~second.discs, second.discs


def test_two_that_touch_and_move_apart_are_two():
    """Of one colour, and they overlap at first: only their motion tells them apart."""
    frames, first, second = two_discs(apart=30)
    row = predict(frames)[1]
    assert (first[1] & np.roll(second[1], -1, axis=1)).any(), "they still touch"
    assert len(row) == 2
    assert max(ious(row, first[1])) > 0.7 and max(ious(row, second[1])) > 0.7


def test_scores_tell_clear_from_doubtful(scene, rows):
    """From 0 to 1; the same disc scores less where the background shines through."""
    ground = moving_disc(speed=(0, 0), start=(-99, -99)).frames
    pale = np.where(scene.discs[..., None], scene.frames * 0.45 + ground * 0.55, ground)
    clear, doubtful = (
        np.array([row.scores.max(initial=0) for row in found])[5:-5]
        for found in (rows, predict(pale.astype(np.uint8)))
    )
    assert ((clear > 0) & (clear < 1)).all()
    assert 0 < np.median(doubtful) < np.median(clear) - 0.1


def test_rows_are_complete(rows):
    for index, row in enumerate(rows):
        assert (row.frame_index, row.height, row.width) == (index, 180, 320)
        assert np.array_equal(row.boxes, rle.boxes(row.masks, (180, 320)))
        assert (row.labels == 1).all() and (np.diff(row.scores) <= 0).all()


def test_at_most_kept_masks_are_kept_the_best_ones():
    frames, *_ = two_discs(apart=90)
    both, one = predict(frames)[6], predict(frames, kept_masks=1)[6]
    assert len(both) == 2 and len(one) == 1 and one.scores[0] == both.scores.max()


# --- the flow -------------------------------------------------------------------------------------


def test_the_flow_leads_to_the_next_frame(scene, rows):
    """The background moves against the camera, the disc by its own speed; no flow at the end."""
    assert rows[-1].flow is None
    dxdy = rows[10].flow.dxdy.astype(np.float32)
    assert dxdy.shape == (2, 23, 40)
    assert np.allclose(np.median(dxdy, axis=(1, 2)), (-2, -0.5), atol=0.7)
    y, x = (int(place.mean()) // 8 for place in np.nonzero(scene.discs[10]))
    assert np.allclose(dxdy[:, y, x], (3, 1), atol=0.5)


def test_the_flow_can_be_kept_whole(scene):
    (row,) = predict(scene.frames[:2], stop=1, flow_store="full")
    assert row.flow.dxdy.shape == (2, 180, 320)
    assert (np.rint(row.flow.dxdy * 8) != row.flow.dxdy * 8).any()


def test_flow_does_not_depend_on_threads_or_on_calls_before(scene):
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in scene.frames[:4]]
    expected = DisFlow()(gray[2], gray[3])
    used, threads = DisFlow(), cv2.getNumThreads()
    used(gray[0], gray[1])
    try:
        for num in (1, 2, 4):
            cv2.setNumThreads(num)
            assert np.array_equal(used(gray[2], gray[3]), expected)
    finally:
        cv2.setNumThreads(threads)


# --- borders, cuts, sizes -------------------------------------------------------------------------


@pytest.mark.parametrize(("core", "batch_size"), [(7, 5), (13, 1), (40, 16)])
def test_rows_do_not_depend_on_where_a_call_begins(scene, core, batch_size):
    """Nor on the batches in which the frames come."""
    num = len(scene.frames)
    cut = [
        row
        for start in range(0, num, core)
        for row in predict(
            scene.frames,
            start=start,
            stop=min(start + core, num),
            batch_size=batch_size,
            reach=10,
        )
    ]
    assert digest(cut) == digest(predict(scene.frames, reach=10))


def test_frames_beyond_the_reach_do_not_matter(scene):
    """A row is a function of the `reach` rows on either side of it."""
    changed = scene.frames.copy()
    changed[:12], changed[29:] = 255 - changed[:12], 0
    (here,) = predict(scene.frames, start=20, stop=21, reach=8)
    (there,) = predict(changed[12:29], start=8, stop=9, reach=8)
    assert here.masks == there.masks and here.scores.tolist() == there.scores.tolist()


def test_nothing_is_found_in_a_video_that_stands_still():
    still = np.repeat(moving_disc(1).frames, 12, axis=0)
    found = predict(still)
    assert [len(row) for row in found] == [0] * 12
    assert not any(row.flow.dxdy.any() for row in found[:-1])


def test_noise_and_a_change_of_light_are_no_motion():
    rng = np.random.default_rng(3)
    still = np.repeat(moving_disc(1).frames, 20, axis=0).astype(np.float32)
    light = np.linspace(0.9, 1.05, 20)[:, None, None, None]
    noisy = np.clip(still * light + rng.normal(0, 3, still.shape), 0, 255).astype(np.uint8)
    assert sum(map(len, predict(noisy))) == 0


@pytest.mark.parametrize("num_frames", [1, 2, 3])
def test_very_short_videos_have_rows_and_no_false_masks(num_frames):
    """Too few frames for a background: nothing is better than a guess."""
    scene = moving_disc(num_frames)
    found = predict(scene.frames)
    assert [row.flow is None for row in found] == [False] * (num_frames - 1) + [True]
    for row, disc in zip(found, scene.discs, strict=True):
        assert all(iou > 0.3 for iou in ious(row, disc))


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (11, 40), (16, 16), (17, 300), (90, 6)])
def test_very_small_frames(size):
    frames = np.random.default_rng(5).integers(0, 256, (9, *size, 3), np.uint8)
    found = predict(frames)
    assert len(found) == 9
    for row in found:
        assert all(mask.shape == size for mask in decoded(row))


def test_a_cut_is_no_motion_and_no_flow_crosses_it(scene):
    """Two scenes of the same colours: the first frames of the second are no objects."""
    other = moving_disc(20, seed=9, start=(200, 90), speed=(3, -1))
    found = predict(np.concatenate([scene.frames[:20], other.frames]))
    assert [row.frame_index for row in found if row.flow is None] == [19, 39]
    discs = np.concatenate([scene.discs[:20], other.discs])
    for row, disc in zip(found, discs, strict=True):
        assert (decoded(row) & ~disc).sum() < 0.3 * disc.sum(), row
    assert (
        sum(max(ious(row, disc), default=0) > 0.5 for row, disc in zip(found, discs, strict=True))
        >= 34
    )
    alone = predict(other.frames)
    assert [row.masks for row in found[20:]] == [row.masks for row in alone]


# --- parts ----------------------------------------------------------------------------------------


def test_the_camera_is_what_most_points_agree_on():
    """A fifth of the picture moves on its own."""
    rng = np.random.default_rng(7)
    gray = cv2.GaussianBlur(rng.integers(0, 256, (180, 320), np.uint8), (5, 5), 0)
    true = np.array([[1.01, 0.004, 3.2], [-0.003, 0.99, -1.7], [0, 0, 1]])
    flow = camera_flow(true, (180, 320), 1)
    flow[40:130, 100:230] += (9, -6)
    flow += rng.normal(0, 0.05, flow.shape).astype(np.float32)
    corners = np.array([[0, 0, 1], [319, 0, 1], [0, 179, 1], [319, 179, 1]]).T
    found = fit_camera(gray, flow)
    assert np.abs((found - true) @ corners).max() < 0.3


def test_a_picture_without_texture_has_not_moved():
    found = fit_camera(np.full((64, 64), 90, np.uint8), np.ones((64, 64, 2), np.float32))
    assert np.array_equal(found, np.eye(3))


def test_a_flow_that_no_camera_gives_is_no_camera_motion():
    """Everything runs to one point: that cannot be undone, and nothing may be laid over it."""
    gray = np.random.default_rng(0).integers(0, 256, (64, 96), np.uint8)
    rows, columns = np.indices(gray.shape, np.float32)
    flow = np.stack([30 - columns, 20 - rows], axis=2)
    assert np.array_equal(fit_camera(gray, flow), np.eye(3))


@pytest.mark.parametrize("num", range(1, 10))
def test_the_median_is_numpys(num):
    layers = np.random.default_rng(num).integers(0, 256, (num, 7, 9, 3), np.uint8)
    expected = np.median(layers, axis=0)
    assert np.abs(median(list(layers)) - expected).max() <= 0.5
    assert median([]) is None


def test_a_misalignment_of_a_pixel_is_no_change(scene):
    picture = scene.frames[0]
    assert not beyond(picture[1:-1, 1:-1], picture[:-2, 2:])[1:-1, 1:-1].any()
    assert beyond(picture[4:, 4:], picture[:-4, :-4])[1:-1, 1:-1].any()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"detector": "yolo"},
            "detector: expected one of motion, torchvision:.*, got 'yolo'",
        ),
        ({"flow": "raft"}, "flow: expected one of dis, got 'raft'"),
        ({"flow_store": "half"}, "flow_store: expected one of eighth, full, got 'half'"),
        ({"reach": "2"}, "reach: expected 5 to 240, got 2"),
        ({"min_area": "0"}, "min_area: expected more than 0, less than 1, got 0.0"),
        ({"min_motion_px": "-1"}, "min_motion_px: expected more than 0, got -1.0"),
        ({"short_side_px": "4000"}, "short_side_px: expected 16 to 2160, got 4000"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting, message):
    with pytest.raises(UsageError, match=message):
        build(FlowMatchPredictConfig, setting)
