"""The oracle gives back the truth, or exactly the mistakes that were asked for."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from tests.support.clips import CATEGORIES, write_clips
from tests.support.tiny_net import TINY_NET, TinyNetConfig
from vis_core import schema
from vis_core.columns import content_digest
from vis_core.errors import UsageError
from vis_core.masks import rle
from vis_core.system import System, link
from vis_core.systems import get_system
from vis_core.systems.oracle import ORACLE, OracleLinkConfig, OraclePredictConfig
from vis_core.systems.oracle.formula import FormulaTruth, stamp, stamped
from vis_core.systems.oracle.noise import Channel, Noise
from vis_core.types import FrameBatch, FramePrediction, Hole, VideoInfo
from vis_core.windows import ShardWindow

SIZE = (48, 64)
NUM_FRAMES = 20
VIDEO_ID = "clip_0000"
NOISY = {
    "drop": 0.2,
    "duplicate": 0.2,
    "false_rate": 1.5,
    "jitter_px": 2.0,
    "label_noise": 0.3,
    "score_noise": 0.1,
    "embedding_dim": 6,
    "embedding_noise": 0.5,
    "centers": True,
    "ref_flow": 3,
    "flow": True,
    "seed": 5,
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, 3, num_frames=NUM_FRAMES, seed=7)
    return folder


@pytest.fixture(scope="module")
def truth(clips) -> str:
    return str(clips / "truth.json")


def video_info(video_id: str = VIDEO_ID, size: tuple[int, int] = SIZE) -> VideoInfo:
    return VideoInfo(
        video_id=video_id,
        uri="",
        version="v",
        bytes=1,
        height=size[0],
        width=size[1],
        num_frames=NUM_FRAMES,
        fps=10.0,
        duration_seconds=2.0,
        codec="h264",
    )


def batches(
    video_id: str, indices: list[int], size: tuple[int, int] = SIZE, batch_size: int = 3
) -> Iterator[FrameBatch]:
    """Frames whose pixels depend on their index only."""
    for first in range(0, len(indices), batch_size):
        index = np.array(indices[first : first + batch_size], np.int64)
        rng = [np.random.default_rng(int(i)) for i in index]
        frames = np.stack([r.integers(0, 256, (*size, 3), np.uint8) for r in rng])
        yield FrameBatch(
            video_id=video_id, frame_index=index, pts_seconds=index / 10, frames=frames, rank=index
        )


def predict(
    config: object,
    *,
    system: System = ORACLE,
    video_id: str = VIDEO_ID,
    start: int = 0,
    stop: int = NUM_FRAMES,
    size: tuple[int, int] = SIZE,
    step: int = 1,
    batch_size: int = 3,
) -> list[FramePrediction]:
    """One predict call, fed with the core and what the system's window asks for around it."""
    spec = system.window(config)
    sampled = list(range(0, NUM_FRAMES, step))
    core = [i for i in sampled if start <= i < stop]
    first, last = sampled.index(core[0]), sampled.index(core[-1]) + 1
    given = sampled[max(0, first - spec.halo_before) : last + spec.halo_after]
    if spec.pin_first and given[0] != 0:
        given = [0, *given]
    window = ShardWindow(video=video_info(video_id, size), start=start, stop=stop)
    predictor = system.make_predictor(config)
    return list(predictor.predict(batches(video_id, given, size, batch_size), window))


def digest(predictions: list[FramePrediction]) -> str:
    return content_digest(schema.predictions_to_table(predictions, fingerprint="", member=""))


def truth_masks(path: str, video_id: str = VIDEO_ID) -> np.ndarray:
    """(N, T, H, W) read by json and pycocotools alone."""
    content = json.loads(Path(path).read_text())
    number = next(v["id"] for v in content["videos"] if v["video_id"] == video_id)
    rows = [a["segmentations"] for a in content["annotations"] if a["video_id"] == number]
    blank = np.zeros(SIZE, bool)
    return np.array(
        [[blank if s is None else coco.decode([s])[:, :, 0] for s in row] for row in rows], bool
    )


# --- the truth itself -----------------------------------------------------------------------------


def test_without_noise_predictions_are_the_truth(truth):
    config = OraclePredictConfig(truth=truth)
    expected = truth_masks(truth)
    predictions = predict(config)
    assert [p.frame_index for p in predictions] == list(range(NUM_FRAMES))
    assert [p.pts_seconds for p in predictions] == [i / 10 for i in range(NUM_FRAMES)]
    for prediction in predictions:
        masks = expected[:, prediction.frame_index]
        visible = np.flatnonzero(masks.any(axis=(1, 2)))
        assert prediction.proposals.tolist() == visible.tolist()
        assert np.array_equal(rle.decode(prediction.masks, SIZE), masks[visible])
        assert np.array_equal(prediction.boxes, rle.boxes(prediction.masks, SIZE))
        assert np.array_equal(prediction.scores, np.full(len(visible), 0.9, np.float32))


def test_without_noise_tracks_are_the_truth(truth):
    expected = truth_masks(truth)
    predictions = predict(OraclePredictConfig(truth=truth))
    plans = link(ORACLE.make_linker(OracleLinkConfig()), video_info(), predictions[::-1])
    assert len(plans) == len(expected)
    for plan, masks in zip(plans, expected, strict=True):
        assert plan.frame_index.tolist() == np.flatnonzero(masks.any(axis=(1, 2))).tolist()
        rows = zip(plan.frame_index, plan.instance, strict=True)
        texts = [predictions[frame].masks[instance] for frame, instance in rows]
        assert np.array_equal(rle.decode(texts, SIZE), masks[plan.frame_index])
        assert plan.score == pytest.approx(0.9, abs=1e-6)


def test_labels_and_categories_come_from_the_file(truth):
    content = json.loads(Path(truth).read_text())
    config = OraclePredictConfig(truth=truth)
    assert [(c.label, c.name) for c in ORACLE.categories(config)] == [(1, "box"), (2, "disc")]
    number = next(v["id"] for v in content["videos"] if v["video_id"] == VIDEO_ID)
    labels = [a["category_id"] for a in content["annotations"] if a["video_id"] == number]
    for prediction in predict(config):
        assert prediction.labels.tolist() == [labels[k] for k in prediction.proposals]
        best = prediction.class_scores.argmax(axis=1) + 1
        assert best.tolist() == prediction.labels.tolist()
        assert (prediction.class_scores.sum(axis=1) < 1).all()


def test_frames_and_videos_the_truth_does_not_know_are_empty(truth, caplog):
    config = OraclePredictConfig(truth=truth)
    assert [len(p) for p in predict(config, video_id="stranger")] == [0] * NUM_FRAMES
    assert "knows no video 'stranger'" in caplog.text
    window = ShardWindow(video=video_info(), start=0, stop=10_000)
    beyond = batches(VIDEO_ID, [5000])
    (late,) = ORACLE.make_predictor(config).predict(beyond, window)
    assert len(late) == 0


def test_a_frame_of_another_size_is_an_error_that_names_both(truth):
    with pytest.raises(UsageError, match=r"48 x 64, but the video is 48 x 66"):
        predict(OraclePredictConfig(truth=truth), size=(48, 66))


# --- determinism ----------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["file", "formula:4"])
@pytest.mark.parametrize("step", [1, 3])
def test_rows_do_not_depend_on_shards_or_batches(truth, source, step):
    config = OraclePredictConfig(truth=truth if source == "file" else source, **NOISY)
    whole = predict(config, step=step)
    assert sum(len(p) for p in whole) > 20
    for cuts in ([0, 7, 20], [0, 1, 2, 13, 20]):
        parts = [
            prediction
            for start, stop in itertools.pairwise(cuts)
            if range(-(-start // step) * step, stop, step)
            for prediction in predict(config, start=start, stop=stop, step=step, batch_size=5)
        ]
        assert digest(parts) == digest(whole)


def test_rows_do_not_depend_on_the_videos_before(truth):
    config = OraclePredictConfig(truth=truth, **NOISY)
    predictor = ORACLE.make_predictor(config)

    def run(video_id: str) -> str:
        window = ShardWindow(video=video_info(video_id), start=0, stop=NUM_FRAMES)
        frames = batches(video_id, list(range(NUM_FRAMES)))
        return digest(list(predictor.predict(frames, window)))

    first = run("clip_0001")
    assert run("clip_0002") != first
    assert run("clip_0001") == first


def test_the_noise_of_an_object_does_not_depend_on_other_objects(truth, tmp_path):
    """Dropping the last object of a video leaves the mistakes about the others as they were."""
    content = json.loads(Path(truth).read_text())
    number = next(v["id"] for v in content["videos"] if v["video_id"] == VIDEO_ID)
    rows = [a for a in content["annotations"] if a["video_id"] == number]
    content["annotations"].remove(rows[-1])
    (tmp_path / "fewer.json").write_text(json.dumps(content))
    settings = {"drop": 0.3, "jitter_px": 2.0, "score_noise": 0.1}
    few = predict(OraclePredictConfig(truth=str(tmp_path / "fewer.json"), **settings))
    for less, more in zip(few, predict(OraclePredictConfig(truth=truth, **settings)), strict=True):
        same = more.proposals < len(rows) - 1
        assert less.proposals.tolist() == more.proposals[same].tolist()
        assert less.scores.tolist() == more.scores[same].tolist()
        assert list(less.masks) == [more.masks[i] for i in np.flatnonzero(same)]


def test_predictions_are_the_same_after_storage(truth):
    predictions = predict(OraclePredictConfig(truth=truth, **NOISY))
    table = schema.predictions_to_table(predictions, fingerprint="", member="")
    assert digest(schema.table_to_predictions(table)) == digest(predictions)


def test_random_numbers_are_what_they_always_were():
    """A change here changes every noisy row: bump the oracle's predict_version."""
    noise = Noise(3, "a/b")
    assert noise.uniform(Channel.DROP, 7, [0, 5]).ravel().tolist() == GOLDEN_UNIFORM
    assert noise.normal(Channel.JITTER, 7, [1], 2).ravel().tolist() == GOLDEN_NORMAL


GOLDEN_UNIFORM = [0.2966026657400045, 0.22619745907904631]
GOLDEN_NORMAL = [-0.19427956369688135, 0.6832953121778221]


def test_random_numbers_are_spread_as_promised():
    noise = Noise(0, "v")
    uniform = noise.uniform(Channel.DROP, 3, range(20_000), 2)
    normal = noise.normal(Channel.DROP, 3, range(20_000), 2)
    assert (uniform.min() >= 0, uniform.max() < 1) == (True, True)
    assert uniform.mean() == pytest.approx(0.5, abs=0.01)
    assert (normal.mean(), normal.std()) == pytest.approx((0, 1), abs=0.02)
    for values in (uniform, normal):
        assert abs(np.corrcoef(values[:, 0], values[:, 1])[0, 1]) < 0.03
        assert abs(np.corrcoef(values[1:, 0], values[:-1, 0])[0, 1]) < 0.03


# --- noise ----------------------------------------------------------------------------------------


def counts(**noise: float) -> np.ndarray:
    config = OraclePredictConfig(truth="formula:10", **noise)
    videos = [predict(config, video_id=f"v{i}") for i in range(5)]
    return np.array([len(p) for predictions in videos for p in predictions])


def test_drop_duplicate_and_false_rate_are_met():
    assert counts().tolist() == [10] * 100
    assert counts(drop=1.0).tolist() == [0] * 100
    assert counts(drop=0.3).mean() == pytest.approx(7, abs=0.5)
    assert counts(duplicate=0.3).mean() == pytest.approx(13, abs=0.5)
    assert counts(duplicate=1.0).tolist() == [20] * 100
    assert counts(false_rate=2.0).tolist() == [12] * 100
    assert counts(false_rate=0.4).mean() == pytest.approx(10.4, abs=0.15)


def test_duplicates_and_false_instances_have_proposals_of_their_own():
    config = OraclePredictConfig(truth="formula:4", duplicate=0.5, false_rate=1.0)
    predictions = predict(config)
    false = [int(k) for p in predictions for k in p.proposals if k >= 8]
    assert len(false) == len(set(false)) == NUM_FRAMES
    for p in predictions:
        assert len(set(p.proposals.tolist())) == len(p)
        masks = dict(zip(p.proposals.tolist(), p.masks, strict=True))
        doubles = [k for k in masks if 4 <= k < 8]
        assert all(masks[k] == masks[k - 4] for k in doubles)
    assert any(4 <= k < 8 for p in predictions for k in p.proposals)


def test_jitter_moves_masks_within_the_frame(truth):
    exact = predict(OraclePredictConfig(truth=truth))
    moved = predict(OraclePredictConfig(truth=truth, jitter_px=3.0))
    distances = []
    for a, b in zip(exact, moved, strict=True):
        assert rle.validate_counts(b.masks, SIZE) == list(b.masks)
        assert np.array_equal(b.boxes, rle.boxes(b.masks, SIZE))
        assert rle.areas(b.masks, SIZE).all()
        index = [a.proposals.tolist().index(k) for k in b.proposals]
        distances += np.abs(a.boxes[index] - b.boxes).max(axis=1).tolist()
    assert 1 < np.mean(distances) < 6


def test_a_jitter_beyond_the_frame_loses_the_instance():
    predictions = predict(OraclePredictConfig(truth="formula:5", jitter_px=500.0))
    assert sum(len(p) for p in predictions) < 20


def test_label_and_score_noise(truth):
    exact = predict(OraclePredictConfig(truth=truth))
    noisy = predict(OraclePredictConfig(truth=truth, label_noise=1.0, score_noise=0.05))
    for a, b in zip(exact, noisy, strict=True):
        assert (b.labels == 3 - a.labels).all()
        assert (b.scores != a.scores).all()
        assert (b.scores > 0.7).all() and (b.scores < 1).all()


def test_embeddings_tell_objects_apart():
    config = OraclePredictConfig(truth="formula:6", embedding_dim=16, embedding_noise=0.1)
    a, b = predict(config)[:2]
    similarity = a.embeddings @ b.embeddings.T
    assert similarity.argmax(axis=1).tolist() == list(range(6))
    assert not np.array_equal(a.embeddings, b.embeddings)


def test_reference_flow_points_at_the_centre_in_the_reference():
    config = OraclePredictConfig(truth="formula:5", centers=True, ref_flow=3)
    predictions = predict(config)
    for p in predictions:
        t = p.frame_index
        references = sorted({*range(max(0, t - 3), t), *([0] if t else [])})
        assert p.ref_flow.offsets.tolist() == [len(references) * i for i in range(len(p) + 1)]
        assert p.ref_flow.frame_index.tolist() == references * len(p)
        for i in range(len(p)):
            rows = slice(*p.ref_flow.offsets[i : i + 2])
            for reference, dydx in zip(references, p.ref_flow.dydx[rows], strict=True):
                assert (p.centers[i] + dydx).tolist() == predictions[reference].centers[i].tolist()


def test_flow_moves_every_object_to_its_place_in_the_next_row():
    predictions = predict(OraclePredictConfig(truth="formula:1", flow=True, centers=True), step=2)
    assert predictions[-1].flow is None
    for here, there in itertools.pairwise(predictions):
        dxdy = here.flow.dxdy
        assert dxdy.shape == (2, 6, 8)
        moving = np.abs(dxdy).sum(axis=0) > 0
        step = (there.centers - here.centers)[0, ::-1]
        assert np.array_equal(dxdy[:, moving], np.repeat(step[:, None], moving.sum(), axis=1))
        y0, x0, y1, x1 = (here.boxes[0] / 8)[[1, 0, 3, 2]]
        rows, columns = np.nonzero(moving)
        if step.any():
            assert (rows.min(), columns.min()) == (int(y0), int(x0))
            assert (rows.max() + 1, columns.max() + 1) == (np.ceil(y1), np.ceil(x1))


def test_proposals_can_be_left_out():
    predictions = predict(OraclePredictConfig(truth="formula:2", proposals=False))
    linker = ORACLE.make_linker(OracleLinkConfig())
    with pytest.raises(ValueError, match="predict with proposals=true"):
        link(linker, video_info(), predictions)


# --- formula --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(*[st.floats(0, 0.999)] * 3),
    st.tuples(*[st.floats(0, 1)] * 2),
)
def test_a_stamped_shape_is_the_pasted_shape(size, draws, corner):
    shape = stamp(np.array(draws), size)
    y0 = int(corner[0] * (size[0] - shape.height))
    x0 = int(corner[1] * (size[1] - shape.width))
    text = stamped(shape, x0, y0, size)
    (crop,) = rle.crops(rle.validate_counts([text], size), size)
    assert crop.box == (x0, y0, x0 + shape.width, y0 + shape.height)
    assert rle.encode_crops([crop], size) == [text]
    if draws[0] >= 0.5:
        assert crop.mask.all()


def test_formula_objects_stay_in_the_frame_and_move():
    for size in ((48, 64), (720, 1280), (1, 1), (3, 500)):
        video = FormulaTruth(7).video("a/b", size)
        frames = [video.frame(i) for i in (0, 1, 50, 10**6)]
        for frame in frames:
            assert rle.validate_counts(frame.masks, size) == frame.masks
            assert np.array_equal(rle.boxes(frame.masks, size), frame.boxes)
        if size == (720, 1280):
            assert (frames[0].boxes != frames[1].boxes).any(axis=1).all()


def test_formula_videos_differ_and_none_depends_on_the_seed_of_the_noise():
    a = predict(OraclePredictConfig(truth="formula:3"), video_id="a")
    b = predict(OraclePredictConfig(truth="formula:3"), video_id="b")
    again = predict(OraclePredictConfig(truth="formula:3", seed=9), video_id="a")
    assert a[0].masks != b[0].masks
    assert digest(a) == digest(again)


# --- hostile truth files --------------------------------------------------------------------------


def tiny_truth(**changes: object) -> dict:
    content = {
        "videos": [{"id": 1, "height": 4, "width": 5, "file_names": ["a/b/0.jpg", "a/b/1.jpg"]}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [{"id": 1, "video_id": 1, "category_id": 3, "segmentations": [None, None]}],
    }
    return content | changes


def write_truth(folder: Path, content: object) -> str:
    path = folder / "truth.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def tiny_predictions(folder: Path, segmentation: object) -> list[FramePrediction]:
    content = tiny_truth()
    content["annotations"][0]["segmentations"] = [segmentation, None]
    config = OraclePredictConfig(truth=write_truth(folder, content))
    return predict(config, video_id="a/b", size=(4, 5), stop=2)


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [4, 5], "counts": [5, 2, 2, 2, 9]},
        {"size": [4, 5], "counts": [5, 2, 0, 0, 2, 1, 0, 1, 9]},
        {"size": [4, 5], "counts": "52207"},
        [[1, 1, 3, 1, 3, 3, 1, 3]],
        [[1, 1, 2, 1, 2, 3, 1, 3], [2, 1, 3, 1, 3, 3, 2, 3]],
    ],
)
def test_masks_are_read_in_every_form(segmentation, tmp_path):
    """The folder of the first file name is the video's id where none is given."""
    expected = np.zeros((4, 5), bool)
    expected[1:3, 1:3] = True
    first, second = tiny_predictions(tmp_path, segmentation)
    assert np.array_equal(rle.decode(first.masks, (4, 5)), expected[None])
    assert (first.labels.tolist(), first.class_scores.shape, len(second)) == ([3], (1, 3), 0)


def test_an_empty_truth_mask_is_no_instance(tmp_path):
    assert [len(p) for p in tiny_predictions(tmp_path, {"size": [4, 5], "counts": [20]})] == [0, 0]


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [5, 4], "counts": [20]}, r"its size is \[5, 4\], expected \[4, 5\]"),
        ({"size": 7, "counts": [20]}, "its size is 7"),
        ({"counts": [20]}, "its size is None"),
        ({"size": [4, 5], "counts": [19]}, "cover 19 pixels"),
        ({"size": [4, 5], "counts": [-1, 21]}, "run of -1"),
        ({"size": [4, 5], "counts": [1.5]}, "whole numbers"),
        ({"size": [4, 5], "counts": [2**70]}, "whole numbers"),
        ({"size": [4, 5], "counts": "\u00e9\ud800"}, "surrogates"),
        ({"size": [4, 5], "counts": "garbage!"}, "not COCO RLE text|breaks off"),
        ({"size": [4, 5], "counts": {}}, "expected text or a list"),
        ([[1, 2]], "three points"),
        ([["a", "b", "c", "d", "e", "f"]], "could not convert"),
        ([[0, 0, 1, 1, 1e300, 1]], "reaches beyond"),
        ([{}], "annotation 1, frame 0"),
        ("text", "expected run lengths or polygons"),
    ],
)
def test_a_bad_mask_is_named_by_video_annotation_and_frame(segmentation, message, tmp_path):
    with pytest.raises(UsageError, match=message) as caught:
        tiny_predictions(tmp_path, segmentation)
    assert re.search(r"video 'a/b', (annotation|track) 1, frame 0", str(caught.value))


VIDEO = tiny_truth()["videos"][0]
ANNOTATION = tiny_truth()["annotations"][0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON as expected"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "an object with the lists 'videos'"),
        (tiny_truth(videos=None), "an object with the lists 'videos'"),
        (tiny_truth(videos=[3]), "videos: expected an object, got 3"),
        (tiny_truth(videos=[VIDEO | {"id": "x"}]), "whole number of 0 or more under 'id'"),
        (tiny_truth(videos=[VIDEO | {"height": 1e300}]), "1 or more under 'height'"),
        (tiny_truth(videos=[VIDEO | {"file_names": []}]), "a list of segmentations is not as long"),
        (tiny_truth(videos=[VIDEO, VIDEO | {"video_id": "c"}]), "two videos have the same id"),
        (tiny_truth(videos=[VIDEO, VIDEO | {"id": 2}]), "two videos are called 'a/b'"),
        (tiny_truth(categories=[{"id": 0}, {"id": 3}]), "category ids go from 1"),
        (tiny_truth(categories=[{"id": 3}, {"id": 10**9}]), "category ids go from 1"),
        (tiny_truth(annotations=[ANNOTATION | {"video_id": 9}]), "there is no video 9"),
        (tiny_truth(annotations=[ANNOTATION | {"category_id": 1}]), "that are not listed"),
        (tiny_truth(annotations=[ANNOTATION | {"segmentations": None}]), "list under 'segment"),
    ],
)
def test_a_malformed_truth_file_is_a_clear_error(content, message, tmp_path):
    path = write_truth(tmp_path, content)
    with pytest.raises(UsageError, match=message) as caught:
        ORACLE.make_predictor(OraclePredictConfig(truth=path))
    assert path in str(caught.value)


@pytest.mark.parametrize("source", ["/no/such/file.json", "formula:", "formula:-1", "formula:1e3"])
def test_a_truth_that_is_not_there_is_a_usage_error(source):
    with pytest.raises(UsageError, match=r"cannot read '/no/such|expected formula:N"):
        ORACLE.make_predictor(OraclePredictConfig(truth=source))


@pytest.mark.parametrize(
    "settings",
    [
        {"drop": 1.1},
        {"label_noise": -0.1},
        {"jitter_px": float("nan")},
        {"false_rate": -1.0},
        {"batch_size": 0},
        {"embedding_dim": -1},
        {"ref_flow": 3},
    ],
)
def test_senseless_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        OraclePredictConfig(truth="formula:1", **settings)


# --- linker ---------------------------------------------------------------------------------------


def row(frame: int, *instances: tuple[int, float, int], window: int = 0) -> FramePrediction:
    """A frame with (proposal, score, label) instances."""
    num = len(instances)
    return FramePrediction(
        video_id=VIDEO_ID,
        frame_index=frame,
        pts_seconds=0.0,
        height=4,
        width=4,
        scores=np.array([i[1] for i in instances], np.float32),
        labels=np.array([i[2] for i in instances], np.int32),
        boxes=np.zeros((num, 4), np.float32),
        masks=[b""] * num,
        proposals=np.array([i[0] for i in instances], np.int32) if num else None,
        window=window,
    )


def linked(rows: list[FramePrediction | Hole], **settings: object) -> list[tuple]:
    plans = link(ORACLE.make_linker(OracleLinkConfig(**settings)), video_info(), rows)
    return [
        (plan.frame_index.tolist(), plan.instance.tolist(), round(plan.score, 4), plan.label)
        for plan in plans
    ]


@pytest.mark.parametrize(
    ("rows", "settings", "expected"),
    [
        ([], {}, []),
        ([row(0), row(1)], {}, []),
        ([row(0, (7, 0.5, 1))], {}, [([0], [0], 0.5, 1)]),
        (
            [row(0, (1, 0.5, 2), (0, 0.25, 1)), row(2, (0, 0.75, 1), (1, 0.5, 2))],
            {},
            [([0, 2], [1, 0], 0.5, 1), ([0, 2], [0, 1], 0.5, 2)],
        ),
        (
            [row(0, (0, 0.5, 1)), Hole(start=1, stop=3), row(3, (0, 0.5, 1))],
            {},
            [([0, 3], [0, 0], 0.5, 1)],
        ),
        ([row(0, (0, 0.5, 1)), row(1, (0, 0.25, 1))], {"min_score": 0.5}, [([0], [0], 0.5, 1)]),
        (
            [row(0, (0, 0.5, 1), (1, 0.5, 1)), row(1, (1, 0.5, 1))],
            {"min_len": 2},
            [([0, 1], [1, 0], 0.5, 1)],
        ),
        ([row(0, (0, 0.25, 1), (0, 0.5, 2), (0, 0.5, 3))], {}, [([0], [1], 0.5, 2)]),
        (
            [row(0, (0, 0.5, 3)), row(1, (0, 0.5, 2)), row(2, (0, 0.5, 3))],
            {},
            [([0, 1, 2], [0, 0, 0], 0.5, 3)],
        ),
        ([row(0, (0, 0.5, 5)), row(1, (0, 0.5, 2))], {}, [([0, 1], [0, 0], 0.5, 2)]),
    ],
    ids=[
        "empty video",
        "empty frames",
        "birth",
        "two tracks",
        "hole",
        "exactly at the threshold",
        "too short",
        "two instances of one proposal",
        "majority",
        "tied labels",
    ],
)
def test_linker_scenarios(rows, settings, expected):
    assert linked(rows, **settings) == expected


def test_proposals_of_two_windows_are_two_tracks():
    rows = [row(0, (0, 0.5, 1)), row(1, (0, 0.5, 1)), row(1, (0, 0.5, 1), window=1)]
    plans = link(ORACLE.make_linker(OracleLinkConfig()), video_info(), rows)
    assert [p.frame_index.tolist() for p in plans] == [[0, 1], [1]]
    assert plans[0].window is None
    assert plans[1].window.tolist() == [1]


def test_a_linker_starts_afresh_with_every_video():
    linker = ORACLE.make_linker(OracleLinkConfig())
    first = link(linker, video_info(), [row(0, (0, 0.5, 1))])
    second = link(linker, video_info("other"), [row(3, (0, 0.25, 1))])
    assert [p.frame_index.tolist() for p in (*first, *second)] == [[0], [3]]


def test_an_unknown_system_is_named_with_its_nearest():
    assert get_system("oracle") is ORACLE
    with pytest.raises(UsageError, match="did you mean 'oracle'"):
        get_system("oracel")


# --- support: clips and a real network ------------------------------------------------------------


def test_clips_are_the_same_for_the_same_seed_and_decode_to_their_truth(clips, tmp_path):
    again = write_clips(tmp_path / "again", 1, num_frames=NUM_FRAMES, seed=7)
    other = write_clips(tmp_path / "other", 1, num_frames=NUM_FRAMES, seed=8)
    original = (clips / "clip_0000.mp4").read_bytes()
    assert again[0].read_bytes() == original != other[0].read_bytes()
    with av.open(str(clips / "clip_0000.mp4")) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    assert frames.shape == (NUM_FRAMES, *SIZE, 3)
    visible = truth_masks(str(clips / "truth.json"))
    background = ~visible.any(axis=0)
    assert frames[background].mean() < 95 < frames[~background].mean()
    assert {c["id"] for c in CATEGORIES} == {1, 2}


def test_tiny_net_gives_a_frame_the_same_rows_in_any_company():
    """The promise that fingerprints rest on: one tensor shape, so one result per frame."""
    config = TinyNetConfig()
    whole = predict(config, system=TINY_NET)
    assert min(len(p) for p in whole) > 0
    assert len({p.masks[0] for p in whole}) == NUM_FRAMES
    for start, stop, batch_size in [(0, 1, 1), (1, 2, 3), (3, 5, 2), (5, 20, 7), (19, 20, 4)]:
        part = predict(config, system=TINY_NET, start=start, stop=stop, batch_size=batch_size)
        assert digest(part) == digest(whole[start:stop])
    other = predict(dataclasses.replace(config, seed=1), system=TINY_NET)
    assert digest(other) != digest(whole)


def test_tiny_net_works_at_any_size_and_links():
    predictions = predict(TinyNetConfig(), system=TINY_NET, size=(31, 90))
    for prediction in predictions:
        assert rle.validate_counts(prediction.masks, (31, 90)) == list(prediction.masks)
    plans = link(TINY_NET.make_linker(OracleLinkConfig()), video_info(), predictions)
    assert 0 < len(plans) <= TinyNetConfig().num_queries


def test_systems_can_be_sent_to_another_process():
    """An actor gets the system by name and its config by value."""
    config = OraclePredictConfig(truth="formula:3")
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301
