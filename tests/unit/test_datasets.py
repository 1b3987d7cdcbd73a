"""Readers of data sets: frames and masks as written; what is wrong is named and counted."""

from __future__ import annotations

import json
import pickle
import typing

import numpy as np
import pytest
from PIL import Image

from tests.support import datasets as made
from vis_core.config import as_values, build
from vis_core.data.datasets import LAYOUTS, DataSetConfig, open_data_set
from vis_core.data.datasets import problems as kinds
from vis_core.data.datasets.config import LAYOUT_NAMES
from vis_core.data.datasets.files import Listings, Names
from vis_core.errors import SourceError, UsageError
from vis_core.formats.json_index import JsonIndex
from vis_core.masks import rle

IMAGE_LAYOUTS = {
    "ytvis": made.write_ytvis,
    "ovis": made.write_ovis,
    "uvo": made.write_uvo,
    "davis": made.write_davis,
}
SINGLE_LAYOUTS = {
    "coco": made.write_coco,
    "uvo": made.write_uvo_images,
    "mask_folders": made.write_voc,
    "mask_folders/separate": made.write_open_images,
}


@pytest.fixture
def clips():
    return made.make_clips()


def opened(root, layout, **settings):
    return open_data_set({"layout": layout, "path": str(root), **settings})


def dense(data, video):
    """(N, T, H, W) masks."""
    tracks = data.truth(video).tracks
    header = data.videos[video].header
    found = np.zeros((len(tracks), header.num_frames, *header.size), bool)
    pixels = rle.decode(tracks.masks, header.size)
    found[tracks.owner, tracks.frame_index] = pixels
    return found


def close(frame, expected):
    return frame.shape == expected.shape and np.abs(frame.astype(int) - expected).max() <= 3


def edit(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


# --- good data ------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", IMAGE_LAYOUTS)
def test_videos_come_back_as_they_were_written(tmp_path, clips, layout):
    IMAGE_LAYOUTS[layout](tmp_path, clips)
    data = opened(tmp_path, layout, strict=True)
    assert [video.header.video_id for video in data.videos] == ["clip0", "clip1"]
    assert not data.problems and data.problems.summary() == []
    for place, clip in enumerate(clips):
        video = data.videos[place]
        assert video.header.size == clip.masks.shape[2:]
        assert video.annotated.tolist() == list(range(5)) and video.seed is None
        assert np.array_equal(dense(data, place), clip.masks)
        assert all(close(data.frame(place, i), clip.frames[i]) for i in range(5))
        assert not data.truth(place).crowd.any()


@pytest.mark.parametrize("layout", SINGLE_LAYOUTS)
def test_an_image_is_a_video_of_one_frame(tmp_path, clips, layout):
    SINGLE_LAYOUTS[layout](tmp_path, clips)
    data = opened(tmp_path, layout.partition("/")[0], strict=True)
    assert [video.header.num_frames for video in data.videos] == [1, 1]
    for place, clip in enumerate(clips):
        assert data.videos[place].header.video_id.removesuffix("_0") == clip.name
        found = dense(data, place)
        expected = clip.masks[:, :1]
        assert sorted(map(bytes, found)) == sorted(map(bytes, expected))
        assert close(data.frame(place, 0), clip.frames[0])


def test_categories_are_those_of_the_file(tmp_path, clips):
    made.write_ytvis(tmp_path, clips)
    data = opened(tmp_path, "ytvis")
    assert [(c.label, c.name) for c in data.categories] == [(3, "cat"), (7, "dog")]
    assert data.truth(0).tracks.labels.tolist() == [3, 7]
    assert data.truth(0).tracks.track_ids.tolist() == [1, 2]
    assert data.truth(0).mean_areas.tolist() == [42.0, 64.0]


@pytest.mark.parametrize("layout", ["ytvis", "uvo"])
def test_class_agnostic_data_has_one_category(tmp_path, clips, layout):
    """UVO always is, though some of its files list classes."""
    IMAGE_LAYOUTS[layout](tmp_path, clips)
    data = opened(tmp_path, layout, class_agnostic=layout == "ytvis")
    assert [(c.label, c.name) for c in data.categories] == [(1, "object")]
    tracks = data.truth(0).tracks
    assert tracks.labels.tolist() == tracks.entries.labels.tolist() == [1, 1]


def test_coco_has_polygons_run_lengths_and_crowds(tmp_path, clips):
    made.write_coco(tmp_path, clips)
    data = opened(tmp_path, "coco")
    truth = data.truth(1)
    assert truth.crowd.tolist() == [False, True]
    assert truth.tracks.labels.tolist() == [3, 7]
    assert np.array_equal(dense(data, 1), clips[1].masks[:, :1])


def test_images_without_objects_are_kept(tmp_path, clips):
    made.write_coco(tmp_path, clips)
    path = tmp_path / "annotations" / "instances_train2017.json"
    edit(path, lambda d: d["annotations"].__delitem__(slice(0, 2)))
    data = opened(tmp_path, "coco", strict=True)
    assert [len(data.truth(i).tracks) for i in range(2)] == [0, 2]


def test_coco_splits(tmp_path, clips):
    made.write_coco(tmp_path, clips)
    other = tmp_path / "annotations" / "instances_val2017.json"
    made.save_json(other, made.coco_document(clips[:1]))
    made.save_image(tmp_path / "val2017" / "clip0.jpg", clips[1].frames[3])
    with pytest.raises(UsageError, match=r"instances_train2017.*instances_val2017.*say which"):
        opened(tmp_path, "coco")
    assert len(opened(tmp_path, "coco", split="train2017").videos) == 2
    data = opened(tmp_path, "coco", split="val2017")
    assert len(data.videos) == 1 and close(data.frame(0, 0), clips[1].frames[3])
    with pytest.raises(UsageError, match="annotations/instances_test"):
        opened(tmp_path, "coco", split="test")


def test_davis_lists(tmp_path, clips):
    made.write_davis(tmp_path, clips)
    data = opened(tmp_path, "davis", split="val")
    assert [video.header.video_id for video in data.videos] == ["clip1"]
    assert data.truth(0).tracks.track_ids.tolist() == [1, 2]
    with pytest.raises(UsageError, match=r"test\.txt.*expected a list of videos"):
        opened(tmp_path, "davis", split="test")


def test_davis_frames_that_are_numbered_otherwise(tmp_path, clips):
    """Frames are positions; only those with a map have truth."""
    made.write_davis(tmp_path, clips[:1])
    images = tmp_path / "JPEGImages" / "480p" / "clip0"
    masks = tmp_path / "Annotations_unsupervised" / "480p" / "clip0"
    (images / "00001.jpg").unlink()
    (masks / "00001.png").unlink()
    (masks / "00003.png").unlink()
    data = opened(tmp_path, "davis", strict=True)
    assert data.videos[0].header.num_frames == 4
    assert data.videos[0].annotated.tolist() == [0, 1, 3]
    expected = clips[0].masks[:, [0, 2, 3, 4]].copy()
    expected[:, 2] = False
    assert np.array_equal(dense(data, 0), expected)
    assert close(data.frame(0, 3), clips[0].frames[4])


def test_open_images_labels_and_folders_of_masks(tmp_path, clips):
    made.write_open_images(tmp_path, clips)
    below = tmp_path / "masks" / "train-masks-0"
    below.mkdir()
    for path in (tmp_path / "masks").glob("clip0*"):
        path.rename(below / path.name)
    data = opened(tmp_path, "mask_folders", strict=True)
    assert [(c.label, c.name) for c in data.categories] == [(1, "m01yrx"), (2, "m0k4j")]
    assert data.truth(0).tracks.labels.tolist() == [1, 2]
    assert np.array_equal(dense(data, 0)[::-1], clips[0].masks[:, :1])


def test_voc_lists(tmp_path, clips):
    made.write_voc(tmp_path, clips)
    data = opened(tmp_path, "mask_folders", split="train")
    assert [video.header.video_id for video in data.videos] == ["clip0"]
    with pytest.raises(UsageError, match="expected a list of images"):
        opened(tmp_path, "mask_folders", split="val")


def test_limit_counts_usable_videos(tmp_path, clips):
    made.write_ytvis(tmp_path, clips)
    for path in (tmp_path / "JPEGImages" / "clip0").iterdir():
        path.unlink()
    data = opened(tmp_path, "ytvis", limit=1)
    assert [video.header.video_id for video in data.videos] == ["clip1"]
    assert np.array_equal(dense(data, 0), clips[1].masks)


def test_annotations_of_any_order_in_the_file(tmp_path, clips):
    """Also before the lists that they refer to."""
    made.write_ytvis(tmp_path, clips)
    path = tmp_path / "instances.json"
    document = json.loads(path.read_text())
    document["annotations"] = document["annotations"][::-1]
    path.write_text(json.dumps({key: document[key] for key in reversed(document)}))
    data = opened(tmp_path, "ytvis", strict=True)
    assert data.truth(0).tracks.track_ids.tolist() == [2, 1]
    assert np.array_equal(dense(data, 0)[::-1], clips[0].masks)


# --- lazy, small, and the same in every process ---------------------------------------------------


def test_a_pickled_copy_is_as_good_and_small(tmp_path, clips):
    made.write_ytvis(tmp_path, clips)
    data = opened(tmp_path, "ytvis")
    first = dense(data, 1)
    text = pickle.dumps(data)
    copy = pickle.loads(text)  # noqa: S301 - our own
    assert len(text) < 6000
    assert np.array_equal(dense(copy, 1), first)
    assert np.array_equal(copy.frame(1, 2), data.frame(1, 2))
    assert repr(copy.videos[1]) == repr(data.videos[1])


def test_a_hundred_thousand_images_are_cheap(tmp_path, monkeypatch):
    """A few dozen bytes per annotation and name stay, once the file is walked through."""
    count = 3000
    document = {
        "images": [
            {"id": i, "file_name": f"{i:012d}.jpg", "height": 10, "width": 10} for i in range(count)
        ],
        "annotations": [
            {
                "id": i,
                "image_id": i // 7,
                "category_id": 1,
                "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]],
            }
            for i in range(7 * count)
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    made.save_json(tmp_path / "annotations" / "instances_train2017.json", document)
    made.save_image(tmp_path / "train2017" / "000000000000.jpg", np.zeros((10, 10, 3), np.uint8))
    names = frozenset(f"{i:012d}.jpg" for i in range(count))
    monkeypatch.setattr(Listings, "names", lambda self, folder="": names)
    data = opened(tmp_path, "coco", strict=True)
    assert len(pickle.dumps(data)) < count * (7 * 12 + 100)
    assert len(data.truth(count - 1).tracks) == 7


def test_only_the_annotations_of_a_video_are_read(tmp_path, clips, monkeypatch):
    made.write_ytvis(tmp_path, clips)
    data = opened(tmp_path, "ytvis")
    asked = []
    read = JsonIndex.read
    monkeypatch.setattr(
        JsonIndex, "read", lambda self, places: asked.append(len(places)) or read(self, places)
    )
    assert asked == []
    data.truth(1)
    assert asked == [2]


def test_names_survive_whatever_they_are():
    texts = ["", "a/b.jpg", "é漢", "\udcff", "\ud800", "x"]
    names = Names(texts)
    assert [names[i] for i in range(len(names))] == texts


# --- what is wrong --------------------------------------------------------------------------------


def drop_image(root, document):
    (root / "JPEGImages" / "clip0" / "00002.jpg").unlink()


def drop_video(root, document):
    for path in (root / "JPEGImages" / "clip0").iterdir():
        path.unlink()


def other_lengths(root, document):
    document["annotations"][0]["segmentations"].pop()


def other_length_of_video(root, document):
    document["videos"][0]["length"] = 4


def unknown_video(root, document):
    document["annotations"][0]["video_id"] = 77


def unknown_category(root, document):
    document["annotations"][0]["category_id"] = 5


def repeated_video(root, document):
    document["videos"].append(document["videos"][0])


def empty_masks(root, document):
    document["annotations"][0]["segmentations"] = [None] * 5
    document["annotations"][0]["bboxes"] = [None] * 5


def boxes_alone(root, document):
    document["annotations"][0]["segmentations"] = [None] * 5


def malformed_entry(root, document):
    document["annotations"][0]["category_id"] = "cat"


def no_size(root, document):
    del document["videos"][0]["width"]


def escape(root, document):
    document["videos"][0]["file_names"][3] = "../../secret.jpg"


def absolute(root, document):
    document["videos"][0]["file_names"][3] = "/etc/secret.jpg"


def half_a_character(root, document):
    document["videos"][0]["file_names"][3] = "clip0/\ud800.jpg"


@pytest.mark.parametrize(
    ("spoil", "kind", "count", "example", "videos", "tracks"),
    [
        (drop_image, kinds.MISSING_IMAGES, 1, "clip0/00002.jpg", 2, 2),
        (drop_video, kinds.MISSING_VIDEOS, 1, "clip0", 1, 2),
        (other_lengths, kinds.OTHER_LENGTHS, 1, "annotation 1", 2, 1),
        (other_length_of_video, kinds.OTHER_LENGTHS, 1, "4 frames, but 5 names", 1, 2),
        (unknown_video, kinds.UNKNOWN_VIDEOS, 1, "annotation 1", 2, 1),
        (unknown_category, kinds.UNKNOWN_CATEGORIES, 1, "annotation 1", 2, 1),
        (repeated_video, kinds.REPEATED_IDS, 1, "clip0 (1)", 2, 2),
        (empty_masks, kinds.EMPTY_MASKS, 1, "annotation 1", 2, 1),
        (boxes_alone, kinds.BOXES_ALONE, 1, "annotation 1", 2, 1),
        (malformed_entry, kinds.MALFORMED_ENTRIES, 1, "category_id", 2, 1),
        (no_size, kinds.MALFORMED_ENTRIES, 1, "width", 1, 2),
        (escape, kinds.UNSAFE_NAMES, 1, "../../secret.jpg", 1, 2),
        (absolute, kinds.UNSAFE_NAMES, 1, "/etc/secret.jpg", 1, 2),
        (half_a_character, kinds.UNSAFE_NAMES, 1, "ud800", 1, 2),
    ],
)
def test_problems_are_named_and_counted(
    tmp_path, clips, caplog, spoil, kind, count, example, videos, tracks
):
    made.write_ytvis(tmp_path, clips)
    Image.new("RGB", (32, 24)).save(tmp_path.parent / "secret.jpg")
    edit(tmp_path / "instances.json", lambda document: spoil(tmp_path, document))
    data = opened(tmp_path, "ytvis")
    assert data.problems.counts[kind] == count
    line = next(line for line in data.problems.summary() if f"{count} {kind}: " in line)
    assert example in line and line in caplog.text
    assert len(data.videos) == videos and len(data.truth(0).tracks) == tracks
    with pytest.raises(UsageError) as error:
        opened(tmp_path, "ytvis", strict=True)
    assert line in str(error.value) and "expected no problems (strict)" in str(error.value)


def test_frames_without_an_image_are_not_annotated(tmp_path, clips):
    made.write_ytvis(tmp_path, clips)
    drop_image(tmp_path, None)
    data = opened(tmp_path, "ytvis")
    assert data.videos[0].annotated.tolist() == [0, 1, 3, 4]
    assert np.array_equal(dense(data, 0), clips[0].masks)


def test_many_problems_are_counted_and_few_shown(tmp_path):
    clips = made.make_clips(6)
    made.write_coco(tmp_path, clips)
    for path in sorted((tmp_path / "images" / "train2017").iterdir())[1:]:
        path.unlink()
    data = opened(tmp_path, "coco")
    (line,) = data.problems.summary()
    assert line == ("5 images that are not there: 'clip1.jpg', 'clip2.jpg', 'clip3.jpg' and 2 more")


def test_malformed_masks_are_found_when_they_are_read(tmp_path, clips, caplog):
    """One annotation goes, the others of the video stay; counted once however often it is read."""
    made.write_ytvis(tmp_path, clips)

    def spoil(document):
        document["annotations"][0]["segmentations"][2]["counts"] = "0000"
        empty = rle.empty_mask((24, 32)).decode()
        for mask in document["annotations"][3]["segmentations"]:
            if mask:
                mask["counts"] = empty

    edit(tmp_path / "instances.json", spoil)
    data = opened(tmp_path, "ytvis")
    assert not data.problems
    for _ in range(3):
        assert np.array_equal(dense(data, 0), clips[0].masks[1:])
        assert np.array_equal(dense(data, 1), clips[1].masks[:1])
    assert data.problems.counts == {kinds.MALFORMED_MASKS: 1, kinds.EMPTY_MASKS: 1}
    assert caplog.text.count('1 malformed masks: "annotation 1: ') == 1
    strict = opened(tmp_path, "ytvis", strict=True)
    with pytest.raises(UsageError, match="1 malformed masks"):
        strict.truth(0)


@pytest.mark.parametrize("polygon", [[[1, 2, 3]], [["a"] * 6], [[1e9] * 6], {"size": [1, 1]}, "x"])
def test_malformed_polygons(tmp_path, clips, polygon):
    made.write_coco(tmp_path, clips)
    path = tmp_path / "annotations" / "instances_train2017.json"
    edit(path, lambda d: d["annotations"][0].update(segmentation=polygon))
    data = opened(tmp_path, "coco")
    assert len(data.truth(0).tracks) == 1
    assert data.problems.counts == {kinds.MALFORMED_MASKS: 1}


def test_images_that_cannot_be_used(tmp_path, clips):
    made.write_ytvis(tmp_path, clips)
    folder = tmp_path / "JPEGImages" / "clip0"
    (folder / "00001.jpg").write_bytes(b"no picture")
    made.save_image(folder / "00003.jpg", np.zeros((32, 24, 3), np.uint8))
    data = opened(tmp_path, "ytvis")
    for _ in range(2):
        with pytest.raises(SourceError, match=r"ytvis at .*00001\.jpg: expected a JPEG or PNG"):
            data.frame(0, 1)
        with pytest.raises(SourceError, match=r"clip0, frame 3: expected 24 x 32 .* got 32 x 24"):
            data.frame(0, 3)
    assert data.problems.counts == {kinds.UNREADABLE_IMAGES: 1, kinds.OTHER_SIZES: 1}
    with pytest.raises(IndexError, match="expected a frame of 5, got 5"):
        data.frame(0, 5)


def test_davis_problems(tmp_path, clips):
    made.write_davis(tmp_path, clips)
    (tmp_path / "ImageSets/2017/train.txt").write_text("clip0\nclip1\nclip2\n../x\nclip3\nclip4\n")
    (tmp_path / "JPEGImages/480p/clip0/00002.jpg").unlink()
    masks = tmp_path / "Annotations_unsupervised" / "480p"
    for name in ("clip3", "clip4"):
        made.save_image(tmp_path / "JPEGImages/480p" / name / "00000.jpg", clips[0].frames[0])
    made.save_image(masks / "clip4" / "00000.png", clips[0].frames[0])  # colours, no palette
    (masks / "clip1" / "00003.png").write_bytes(b"")
    data = opened(tmp_path, "davis")
    assert data.problems.counts == {
        kinds.NO_IMAGE: 1,
        kinds.MISSING_VIDEOS: 1,
        kinds.UNSAFE_NAMES: 1,
        kinds.NO_MASKS: 1,
        kinds.UNREADABLE_TRUTH: 1,
    }
    assert "'clip0/00002.png'" in "".join(data.problems.summary())
    assert np.array_equal(dense(data, 0), clips[0].masks[:, [0, 1, 3, 4]])
    with pytest.raises(SourceError, match=r"00003\.png cannot be read"):
        data.truth(1)
    assert data.problems.counts[kinds.UNREADABLE_TRUTH] == 2


def test_open_images_problems(tmp_path):
    clips = made.make_clips(4)
    made.write_open_images(tmp_path, clips)
    (tmp_path / "images" / "clip0.jpg").unlink()
    (tmp_path / "images" / "clip1.jpg").write_bytes(b"")
    masks = tmp_path / "masks"
    (masks / "clip2_m01yrx_ab12cd31.png").write_bytes(b"")
    Image.new("1", (32, 24)).save(masks / "clip3_m01yrx_ab12cd31.png")
    Image.new("1", (24, 32), 1).save(masks / "clip3_m0k4j_ab12cd30.png")
    data = opened(tmp_path, "mask_folders")
    assert data.problems.counts == {kinds.NO_IMAGE: 2, kinds.UNREADABLE_IMAGES: 1}
    assert np.array_equal(dense(data, 0), clips[2].masks[:1, :1])
    assert len(data.truth(1).tracks) == 0
    assert data.problems.counts[kinds.MALFORMED_MASKS] == 2
    assert data.problems.counts[kinds.EMPTY_MASKS] == 1


def test_voc_problems(tmp_path, clips):
    made.write_voc(tmp_path, clips)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("clip0\nclip1\nclip2\n../clip0\n")
    (tmp_path / "JPEGImages" / "clip1.jpg").unlink()
    data = opened(tmp_path, "mask_folders", split="train")
    assert data.problems.counts == {
        kinds.NO_IMAGE: 1,
        kinds.NO_MASKS: 1,
        kinds.UNSAFE_NAMES: 1,
    }
    assert len(data.videos) == 1


@pytest.mark.parametrize(
    ("layout", "write"),
    [*IMAGE_LAYOUTS.items(), ("coco", made.write_coco)],
    ids=[*IMAGE_LAYOUTS, "coco"],
)
def test_a_data_set_without_any_frame_is_an_error(tmp_path, clips, layout, write):
    write(tmp_path, clips)
    for path in [*tmp_path.rglob("*.jpg"), *tmp_path.rglob("*.png")]:
        path.unlink()
    with pytest.raises(UsageError, match=r"expected .*docs/datasets\.md"):
        opened(tmp_path, layout)


def test_a_data_set_without_any_mask_is_an_error(tmp_path, clips):
    made.write_ytvis(tmp_path, clips)
    edit(tmp_path / "instances.json", lambda document: document["annotations"].clear())
    with pytest.raises(UsageError, match="expected annotations with masks, got none"):
        opened(tmp_path, "ytvis")
    edit(tmp_path / "instances.json", lambda document: document["videos"].clear())
    with pytest.raises(UsageError, match="expected a list 'videos' beside 'annotations'"):
        opened(tmp_path, "ytvis")


def test_a_folder_that_is_not_there(tmp_path, clips):
    for layout in LAYOUTS:
        with pytest.raises(UsageError, match=r"expected the folder of a data set in layout"):
            opened(tmp_path / "nowhere", layout)
        with pytest.raises(UsageError):
            opened(tmp_path, layout)
    made.write_ytvis(tmp_path, clips)
    made.save_json(tmp_path / "train.json", {})
    with pytest.raises(UsageError, match=r"'instances.json', 'train.json'; say which"):
        opened(tmp_path, "ytvis")
    assert len(opened(tmp_path, "ytvis", annotations="instances.json").videos) == 2
    with pytest.raises(UsageError, match=r"got 'other\.json'"):
        opened(tmp_path, "ytvis", annotations="other.json")


def test_a_file_that_changes_is_noticed(tmp_path, clips):
    made.write_ytvis(tmp_path, clips)
    data = opened(tmp_path, "ytvis")
    (tmp_path / "instances.json").write_text("{}")
    with pytest.raises(SourceError, match="changed while it was read"):
        data.truth(0)


# --- settings -------------------------------------------------------------------------------------


def test_layouts_are_those_of_the_settings():
    assert tuple(LAYOUTS) == LAYOUT_NAMES
    assert set(typing.get_type_hints(DataSetConfig)) == set(
        as_values(DataSetConfig(layout="coco", path="x"))
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layout": "voc"}, "expected one of ytvis, ovis"),
        ({"path": ""}, "path: expected a name"),
        ({"weight": 0}, "weight: expected more than 0, got 0"),
        ({"limit": 0}, "limit: expected 1 or more, got 0"),
        ({"split": "train2017"}, "split: expected nothing with layout ytvis"),
        ({"cache_short_side_px": 100}, "cache_short_side_px: expected nothing with layout ytvis"),
        ({"layout": "sav", "cache_short_side_px": 2}, "expected 16 to 65535, got 2"),
        ({"layout": "sav", "annotations": "x.json"}, "expected one of manual, auto"),
        ({"color": 1}, "unknown setting 'color'"),
    ],
)
def test_wrong_settings(tmp_path, settings, message):
    with pytest.raises(UsageError, match=message):
        open_data_set({"layout": "ytvis", "path": str(tmp_path), **settings})


def test_settings_come_from_text():
    config = build(DataSetConfig, {"layout": "coco", "path": "x", "weight": "2", "limit": "5"})
    assert (config.weight, config.limit, config.strict) == (2.0, 5, False)
