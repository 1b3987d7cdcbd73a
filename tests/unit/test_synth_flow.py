"""The true flow, against the masks and against the pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vis_core.data.synth import SynthConfig
from vis_core.data.synth.flow import flow_of, write_flow
from vis_core.data.synth.render import render_frames
from vis_core.data.synth.stage import make_scene
from vis_core.data.synth.truth import draw, truth_of
from vis_core.masks import rle

CONFIG = SynthConfig(preset="occluded", height=180, width=320)
SEED = 2_000_006


@pytest.fixture(scope="module")
def clip():
    """A drawing, its frames and its flow."""
    drawing = draw(make_scene(CONFIG, SEED))
    return drawing, np.stack(list(render_frames(drawing))), flow_of(drawing)


def targets(flow):
    """(H, W), (H, W) where the middle of each pixel goes, counted as OpenCV does."""
    rows, columns = np.indices(flow.shape[1:], np.float32)
    return columns + flow[0].astype(np.float32), rows + flow[1].astype(np.float32)


def test_following_the_flow_finds_the_same_colours(clip):
    """Much nearer than staying in place, on the backdrop as on objects."""
    _, frames, truth = clip
    followed, stayed = [], []
    for frame in range(0, 35, 5):
        x, y = targets(truth.flow[frame])
        here = frames[frame].astype(int)
        there = cv2.remap(frames[frame + 1], x, y, cv2.INTER_LINEAR).astype(int)
        seen = truth.visible_next[frame] & (np.abs(truth.flow[frame]).max(axis=0) > 1)
        followed.append(np.abs(there - here)[seen].mean())
        stayed.append(np.abs(frames[frame + 1].astype(int) - here)[seen].mean())
    assert np.mean(followed) < 0.45 * np.mean(stayed)


def test_objects_move_into_their_next_mask(clip):
    drawing, _, truth = clip
    for item in truth_of(drawing).objects:
        for frame in range(0, 35, 4):
            masks = item.masks[frame : frame + 2]
            if None in masks:
                continue
            now, then = rle.decode(masks, CONFIG.size)
            visible = truth.visible_next[frame] & now
            x, y = targets(truth.flow[frame])
            columns = np.floor(x[visible] + 0.5).astype(int)
            rows = np.floor(y[visible] + 0.5).astype(int)
            # Numbers of 16 bits may round across the border of a pixel.
            assert then[rows.clip(0, 179), columns.clip(0, 319)].mean() > 0.97


def test_what_leaves_or_hides_is_not_visible_next(clip):
    """Each pixel of an object that goes away by the next frame says so."""
    drawing, _, truth = clip
    gone = 0
    for item in truth_of(drawing).objects:
        for frame in range(35):
            if item.masks[frame] is not None and item.areas[frame + 1] == 0:
                mask = rle.decode([item.masks[frame]], CONFIG.size)[0]
                still = truth.visible_next[frame] & mask
                assert still.sum() < 16  # no more than the sliver that truth does not count
                gone += 1
    assert gone > 0


def test_files_say_what_they_hold_and_repeat(clip, tmp_path):
    _, _, truth = clip
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for path in paths:
        write_flow(path, truth)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with np.load(paths[0], allow_pickle=False) as stored:
        assert stored["flow"].dtype == np.float16
        assert stored["flow"].shape == (35, 2, 180, 320)
        bits = np.unpackbits(stored["visible_next"], axis=2, count=320)
        assert (bits.astype(bool) == truth.visible_next).all()
        assert (stored["flow"] == truth.flow).all()
