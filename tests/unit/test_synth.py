"""Synthetic data sets: the same every time, read by the oracle, true to the pixels."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from pycocotools import mask as coco

from vis_core.data.synth import (
    PRESETS,
    SynthConfig,
    generate_clip,
    generate_truth,
    generate_truth_file,
    measured_truth,
    write,
    write_data_set,
)
from vis_core.data.synth.config import check_seeds, use_of_seed
from vis_core.data.synth.render import render_frames
from vis_core.data.synth.stage import make_scene
from vis_core.data.synth.textures import texture_of
from vis_core.data.synth.truth import GENERATOR_VERSION, as_json, draw, truth_of, video_id_of
from vis_core.errors import UsageError
from vis_core.masks import rle
from vis_core.systems.oracle.truth import TruthFile
from vis_core.video.limits import Limits
from vis_core.video.probe import probe_source
from vis_core.video.sources import expand_inputs

REPO = Path(__file__).parents[2]
SMALL = SynthConfig(height=144, width=256)
SEED = 2_000_000  # for tests: never trained on


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    """Two clips with everything."""
    folder = tmp_path_factory.mktemp("synth") / "set"
    report = write_data_set(SMALL, folder, seed=SEED, num_videos=2, flow=True)
    return folder, report


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def decoded(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


# --- the same every time --------------------------------------------------------------------------


def test_same_seed_same_bytes_and_pixels_whatever_the_workers(data_set, tmp_path):
    """In this process or in others: truth, videos, flow and measures are equal to the byte."""
    folder, report = data_set
    again = tmp_path / "again"
    other = write_data_set(SMALL, again, seed=SEED, num_videos=2, flow=True, workers=2)
    assert files_of(again) == files_of(folder)
    assert dataclasses.replace(other, out=report.out) == report
    for name in ("clip_0000.mp4", "clip_0001.mp4"):
        assert (decoded(again / name) == decoded(folder / name)).all()


# One digest per preset: truth is the same on every machine and with every version of NumPy.
# Whoever changes it on purpose counts GENERATOR_VERSION up in the same commit.
DIGESTS = {
    "plain": "54b02067b802535d",
    "occluded": "1f7d04a154cb830c",
    "open_world": "45806d64fd575d29",
}


def digest_of(preset):
    config = dataclasses.replace(SMALL, preset=preset)
    return hashlib.sha256(as_json(generate_truth_file(config, SEED, 4))).hexdigest()[:16]


@pytest.mark.parametrize("preset", PRESETS)
def test_truth_is_what_it_always_was(preset):
    assert GENERATOR_VERSION == 1
    assert digest_of(preset) == DIGESTS[preset]


def test_truth_does_not_depend_on_the_processor():
    """The same without the vector instructions by which NumPy's functions differ."""
    features = importlib.import_module("numpy._core._multiarray_umath")
    had = [name for name in features.__cpu_dispatch__ if features.__cpu_features__.get(name)]
    if not had:
        pytest.skip("this processor has no vector instructions that NumPy could leave out")
    code = "from tests.unit.test_synth import digest_of; print(digest_of('occluded'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPO,
        env={**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(had)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [DIGESTS["occluded"]], done.stderr


def test_clip_i_has_seed_s_plus_i(data_set):
    """So that sets of neighbouring seeds share clips, and a single clip can be made again."""
    folder, _ = data_set
    second = generate_truth(SMALL, SEED + 1)
    document = json.loads((folder / "truth.json").read_bytes())
    assert [video["seed"] for video in document["videos"]] == [SEED, SEED + 1]
    rows = [row for row in document["annotations"] if row["video_id"] == 2]
    masks = [[m and m["counts"].encode() for m in row["segmentations"]] for row in rows]
    assert masks == [list(item.masks) for item in second.objects]


def test_presets_and_seeds_differ():
    truths = [
        generate_truth(dataclasses.replace(SMALL, preset=preset), seed)
        for preset, seed in (("plain", 5), ("plain", 6), ("occluded", 5))
    ]
    masks = [truth.objects[0].masks for truth in truths]
    assert masks[0] != masks[1] and masks[0] != masks[2]


def test_the_scene_does_not_depend_on_the_size():
    """Small truth is large truth seen from afar."""
    small, large = (
        generate_truth(SynthConfig(height=height, width=height * 16 // 9), SEED)
        for height in (180, 360)
    )
    assert [item.label for item in small.objects] == [item.label for item in large.objects]
    common = total = 0
    for one, other in zip(small.objects, large.objects, strict=True):
        for a, b in zip(one.masks, other.masks, strict=True):
            if a is not None and b is not None:
                fine = (
                    rle.decode([b], (360, 640))[0].reshape(180, 2, 320, 2).mean(axis=(1, 3)) > 0.5
                )
                coarse = rle.decode([a], (180, 320))[0]
                common += (fine & coarse).sum()
                total += (fine | coarse).sum()
    assert common / total > 0.93


# --- truth and pixels -----------------------------------------------------------------------------


def test_no_pixel_belongs_to_two_objects():
    truth = generate_truth(dataclasses.replace(SMALL, preset="occluded"), SEED)
    for frame in range(36):
        masks = [item.masks[frame] for item in truth.objects if item.masks[frame] is not None]
        if masks:
            assert rle.decode(masks, SMALL.size).sum(axis=0).max() == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_masks_are_the_pixels_an_object_changes(preset):
    """Without the object the picture differs where its mask is, and hardly elsewhere."""
    drawing = draw(make_scene(SynthConfig(preset=preset, height=180, width=320), SEED + 3))
    truth = truth_of(drawing)
    item = max(truth.objects, key=lambda item: item.areas.sum())
    others = [body for body in drawing.scene.bodies if body.number != item.number]
    without = draw(dataclasses.replace(drawing.scene, bodies=others))
    pairs = zip(render_frames(drawing), render_frames(without), strict=True)
    inside = outside = masked = 0
    for frame, (picture, empty) in enumerate(pairs):
        changed = np.abs(picture.astype(int) - empty).max(axis=2) > 6
        mask = item.masks[frame]
        if mask is None:
            continue
        seen = rle.decode([mask], (180, 320))[0]
        inside += (changed & seen).sum()
        masked += seen.sum()
        # Shadow and motion blur reach a little beyond the outline; far from it nothing changes.
        near = grown(seen, 18)
        outside += (changed & ~near & ~uncovered(drawing, item.number, frame)).sum()
    assert inside / masked > 0.93
    assert outside == 0


def grown(mask, reach):
    """The pixels within a square of a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    near = np.zeros_like(mask)
    near[
        max(rows[0] - reach, 0) : rows[-1] + reach + 1,
        max(columns[0] - reach, 0) : columns[-1] + reach + 1,
    ] = True
    return near


def uncovered(drawing, number, frame):
    """The box of all of the object, whose hidden parts may shine through soft edges."""
    index = next(i for i, b in enumerate(drawing.scene.bodies) if b.number == number)
    patches, start = drawing.patches[index], drawing.scene.bodies[index].start
    height, width = patches.cover.shape[1:]
    y0, x0 = patches.y0[frame - start], patches.x0[frame - start]
    box = np.zeros(drawing.scene.config.size, bool)
    box[y0 : y0 + height, x0 : x0 + width] = True
    return grown(box, 18)


def test_look_alikes_differ_in_their_marks_only():
    """Same outline, same colours; yet the pictures of the two are not the same."""
    config = SynthConfig(height=270, width=480)
    scene = next(
        scene
        for scene in (make_scene(config, seed) for seed in range(SEED, SEED + 20))
        if scene.objects[1].group == scene.objects[0].group
    )
    one, other = scene.objects[:2]
    assert one.label == other.label and (one.outline == other.outline).all()
    a, b = (texture_of(body, 60).pixels.astype(int) for body in (one, other))
    same = (np.abs(a - b).max(axis=2) < 4).mean()
    assert 0.3 < same < 0.97
    bystander = next((body for body in scene.objects if body.group != one.group), None)
    if bystander is not None:
        assert bystander.look.colors != one.look.colors


# --- the files ------------------------------------------------------------------------------------


def test_the_oracle_reads_the_truth(data_set):
    folder, _ = data_set
    truth = TruthFile(str(folder / "truth.json"))
    assert [category.name for category in truth.categories] == list(PRESETS["plain"].categories)
    for index in range(2):
        clip = generate_truth(SMALL, SEED + index)
        video = truth.video(f"clip_{index:04d}", SMALL.size)
        assert video.num_objects == len(clip.objects)
        for frame in range(36):
            seen = [item for item in clip.objects if item.masks[frame] is not None]
            found = video.frame(frame)
            assert list(found.masks) == [item.masks[frame] for item in seen]
            assert found.labels.tolist() == [item.label for item in seen]


def test_file_names_alone_name_the_video_too(data_set, tmp_path):
    document = json.loads((data_set[0] / "truth.json").read_bytes())
    for video in document["videos"]:
        del video["video_id"]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(document))
    assert TruthFile(str(path)).video("clip_0001", SMALL.size).num_objects > 0


def test_label_gives_the_videos_the_ids_of_the_truth(data_set):
    """Also beside truth and flow files: exactly the clips are videos."""
    folder, _ = data_set
    document = json.loads((folder / "truth.json").read_bytes())
    sources = expand_inputs([str(folder)], {})
    assert [source.video_id for source in sources] == [v["video_id"] for v in document["videos"]]
    for source in sources:
        video = probe_source(source, Limits())
        assert (video.height, video.width, video.num_frames) == (144, 256, 36)
        assert (video.fps, video.codec, video.status) == (12.0, "h264", "ok")
        assert len(video.key_frames) > 1


def test_truth_follows_the_format(data_set):
    """YouTube-VIS: lists as long as the video, null where unseen, areas and boxes of the masks."""
    document = json.loads((data_set[0] / "truth.json").read_bytes())
    assert [row["id"] for row in document["annotations"]] == list(
        range(1, len(document["annotations"]) + 1)
    )
    for row in document["annotations"]:
        assert len(row["segmentations"]) == row["length"] == 36
        for mask, area, box, share in zip(
            row["segmentations"], row["areas"], row["bboxes"], row["visibility"], strict=True
        ):
            if mask is None:
                assert area is None and box is None and not share
                continue
            assert mask["size"] == [144, 256]
            assert int(coco.area(mask)) == area > 0
            assert coco.toBbox(mask).tolist() == box
            assert 0 <= share <= 1
    for video in document["videos"]:
        assert video["file_names"][7] == f"{video['video_id']}/00007.jpg"
        assert len(video["file_names"]) == video["length"] == 36


def test_open_world_truth_tells_no_classes_apart():
    document = generate_truth_file(dataclasses.replace(SMALL, preset="open_world"), SEED, 3)
    assert document["categories"] == [{"id": 1, "name": "object"}]
    assert {row["category_id"] for row in document["annotations"]} == {1}
    closed = set(PRESETS["plain"].families) | set(PRESETS["occluded"].families)
    assert closed.isdisjoint(PRESETS["open_world"].families)


def test_the_video_shows_the_frames_in_order(data_set):
    """Where pictures change, each decoded one is nearest to the one it was made from."""
    folder, _ = data_set
    frames = generate_clip(SMALL, SEED).frames.astype(int)
    shown = decoded(folder / "clip_0000.mp4").astype(int)
    assert frames.shape == shown.shape == (36, 144, 256, 3)
    for index in range(36):
        own = np.abs(shown[index] - frames[index]).mean(axis=2)
        assert own.mean() < 8
        for other in {max(index - 1, 0), min(index + 1, 35)} - {index}:
            changed = np.abs(frames[index] - frames[other]).mean(axis=2) > 40
            assert changed.sum() > 20
            wrong = np.abs(shown[index] - frames[other]).mean(axis=2)
            assert own[changed].mean() < 0.6 * wrong[changed].mean()


def test_names_sort_like_numbers():
    assert video_id_of(7, 12) == "clip_0007"
    assert video_id_of(7, 20_001) == "clip_00007"


# --- folders and mistakes -------------------------------------------------------------------------


@pytest.fixture
def no_drawing(monkeypatch):
    """Clips that take no time: the first one of the set, whatever is asked for."""
    clip = generate_truth(SMALL, SEED)
    video = write.video_entry(clip, "clip_0000", 1)
    _, measures = measured_truth(SMALL, SEED)
    written = write._Written(video=video, annotations=[], measures=measures)
    monkeypatch.setattr(write, "_write_clip", lambda order: written)


def test_the_same_command_may_run_again(tmp_path, no_drawing):
    write_data_set(SMALL, tmp_path, seed=SEED, num_videos=1)
    before = files_of(tmp_path)
    (tmp_path / ".clip_0000.mp4.4711.part").touch()  # a run was killed on the way
    write_data_set(SMALL, tmp_path, seed=SEED, num_videos=1)
    assert files_of(tmp_path) == before


def test_a_folder_without_truth_is_not_finished(tmp_path, no_drawing, monkeypatch):
    """A set that is being written again has no truth until all clips are there."""
    write_data_set(SMALL, tmp_path, seed=SEED, num_videos=1)

    def fail(order):
        raise OSError("no space left")

    monkeypatch.setattr(write, "_write_clip", fail)
    with pytest.raises(OSError, match="no space"):
        write_data_set(SMALL, tmp_path, seed=SEED, num_videos=1)
    assert not (tmp_path / "truth.json").exists()


def test_other_settings_need_another_folder(tmp_path, no_drawing):
    write_data_set(SMALL, tmp_path, seed=SEED, num_videos=1)
    with pytest.raises(UsageError, match="clips of other settings"):
        write_data_set(SMALL, tmp_path, seed=SEED + 1, num_videos=1)
    assert (tmp_path / "truth.json").exists()


def test_what_belongs_to_others_is_left_alone(tmp_path):
    (tmp_path / "truth.json").write_text("mine")
    with pytest.raises(UsageError, match=r"holds 'truth\.json'; choose a new folder"):
        write_data_set(SMALL, tmp_path, seed=SEED, num_videos=1)
    assert (tmp_path / "truth.json").read_text() == "mine"
    with pytest.raises(UsageError, match="expected a folder, there is a file"):
        write_data_set(SMALL, tmp_path / "truth.json", seed=SEED, num_videos=1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"preset": "occluted"}, "did you mean 'occluded'"),
        ({"num_frames": 40}, "expected 36 or 72, got 40"),
        ({"height": 181}, "height: expected an even number from 96 to 4096, got 181"),
        ({"width": 64}, "width: expected an even number"),
        ({"height": 96, "width": 640}, "at most 3 to 1"),
        ({"fps": float("nan")}, "fps: expected a rate"),
        ({"fps": 0.0}, "fps: expected a rate"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(ValueError, match=words):
        SynthConfig(**settings)


@pytest.mark.parametrize(
    ("seed", "count", "use"),
    [
        (0, 1_000_000, "training"),
        (999_999, 1, "training"),
        (1_000_000, 5, "validation"),
        (1_999_990, 10, "validation"),
        (2_000_000, 5, "test"),
    ],
)
def test_a_range_of_seeds_has_one_use(seed, count, use):
    assert check_seeds(seed, count) == use_of_seed(seed) == use


@pytest.mark.parametrize(
    ("seed", "count", "words"),
    [
        (999_999, 2, "training seeds end at 999999; ask for at most 1"),
        (1_999_999, 3, "validation seeds end at 1999999"),
        (-1, 1, "seed: expected a whole number from 0"),
        (2**31, 1, "seed: expected a whole number from 0"),
        (0, 0, "videos: expected 1 or more"),
    ],
)
def test_seeds_of_two_uses_are_refused(seed, count, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        write_data_set(SMALL, tmp_path, seed=seed, num_videos=count)
    assert not list(tmp_path.iterdir())


def test_truth_needs_neither_opencv_nor_torch():
    """Linker tests and checks of difficulty draw no pixels."""
    code = (
        "import sys; from vis_core.data.synth import SynthConfig, generate_truth;"
        "generate_truth(SynthConfig(height=144, width=256), 1);"
        "print(*{'cv2', 'torch', 'scipy', 'ray'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
