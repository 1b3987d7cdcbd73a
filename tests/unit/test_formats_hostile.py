"""Files of others are read with suspicion: one clear error, no crash, nothing fetched."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.random_tracks import random_tracks, without_empty, write_results
from vis_core import schema
from vis_core.errors import UsageError
from vis_core.formats import cvat, davis
from vis_core.formats.cocovid import CocoVideoFile
from vis_core.formats.cvat import read_cvat
from vis_core.formats.davis import read_davis, write_label_map
from vis_core.formats.export import ExportConfig, export
from vis_core.formats.mots import read_mots
from vis_core.formats.results import Results
from vis_core.formats.sav import read_sav
from vis_core.formats.segmentations import read_segmentations
from vis_core.formats.untrusted import check_masks
from vis_core.masks import rle

META = (
    "<meta><task><name>v</name><size>5</size><labels><label><name>cat</name></label></labels>"
    "<original_size><width>6</width><height>4</height></original_size></task></meta>"
)
SHAPE = '<polygon frame="1" outside="0" keyframe="1" points="1,1;3,1;3,3"/>'


def xml(meta=META, shapes=SHAPE, track='id="0" label="cat"', head=""):
    return f"{head}<annotations>{meta}<track {track}>{shapes}</track></annotations>"


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;">]>'
FETCH = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (xml(head=BOMB), "it has a DOCTYPE"),
        (xml(head=FETCH, track='id="0" label="&x;"'), "it has a DOCTYPE"),
        (xml(track='id="0" label="&x;"'), "not XML: undefined entity"),
        (xml()[:-20], "not XML"),
        ("", "not XML: no element found"),
        (xml(meta=""), "meta: expected a whole number under 'stop_frame'"),
        (xml(track='id="-1" label="cat"'), "expected a whole number under 'id', got '-1'"),
        (xml(track='id="0" label="dog"'), "label 'dog', which is not listed"),
        (xml(shapes='<box frame="0" xtl="1"/>'), "made of <box>"),
        (xml(shapes=SHAPE.replace('"1"', '"7"', 1)), "has 5 frames, but a mask is in frame 7"),
        (xml(shapes=SHAPE * 2), "two masks in frame 1"),
        (xml(shapes=SHAPE.replace("1,1;", "")), "three points"),
        (xml(shapes=SHAPE.replace("1,1", "1,x")), "could not convert"),
        (xml(shapes=SHAPE.replace("1,1", "1e300,1")), "near the frame"),
        (xml(shapes=SHAPE.replace("1,1", "nan,1")), "near the frame"),
        (xml(shapes='<mask frame="0" rle="1,2" left="0" top="0" width="2" height="2"/>'), "cover"),
        (xml(shapes='<mask frame="0" rle="4" left="5" top="0" width="2" height="2"/>'), "within"),
        (
            xml(shapes='<mask frame="0" rle="9" left="0" top="0" width="99999" height="99999"/>'),
            "cover",
        ),
        (xml(shapes='<mask frame="0" rle="4" left="0"/>'), "'top'"),
    ],
)
def test_cvat(tmp_path, text, says):
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        read_cvat(str(path))


def test_cvat_reads_what_the_mistakes_were_made_of(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(xml())
    assert len(read_cvat(str(path)).masks) == 1


def test_cvat_files_have_a_limit(tmp_path, monkeypatch):
    path = tmp_path / "a.xml"
    path.write_text(xml())
    monkeypatch.setattr(cvat, "_MAX_BYTES", 10)
    with pytest.raises(UsageError, match="too large to read"):
        read_cvat(str(path))


def test_cvat_writes_no_characters_that_xml_forbids(tmp_path):
    video = without_empty(random_tracks(1, video_id="a\x00\x1b\ufffe<&\"'"))
    names = {1: "\x08bell ]]> \"'", 2: "b"}
    folder = write_results(tmp_path / "r", [video], categories=names)
    export(str(folder), "cvat", str(tmp_path / "o"))
    (path,) = (tmp_path / "o").iterdir()
    found = read_cvat(str(path))
    assert found.video.video_id == "a\ufffd\ufffd\ufffd<&\"'"
    assert len(found.masks) == len(video.masks)


def picture(path, mode="P", size=(4, 4)):
    path.parent.mkdir(exist_ok=True)
    Image.new(mode, size).save(path, format="PNG")


def test_davis(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="is no folder"):
        list(read_davis(str(tmp_path / "gone")))
    folder = tmp_path / "v"
    picture(folder / "notes.png")
    with pytest.raises(UsageError, match=r"holds no frames; expected 00000\.png"):
        list(read_davis(str(tmp_path)))
    picture(folder / "00000.png", mode="RGB")
    with pytest.raises(UsageError, match="mode RGB, expected a palette image"):
        list(read_davis(str(tmp_path)))
    picture(folder / "00000.png")
    picture(folder / "00001.png", size=(5, 4))
    with pytest.raises(UsageError, match=r"its size is \(4, 5\), that of others is \(4, 4\)"):
        list(read_davis(str(tmp_path)))
    (folder / "00001.png").write_bytes((folder / "00000.png").read_bytes()[:40])
    with pytest.raises(UsageError, match="cannot be read as PNG"):
        list(read_davis(str(tmp_path)))
    Image.new("L", (4, 4)).save(folder / "00001.png", format="BMP")
    with pytest.raises(UsageError, match="cannot be read as PNG"):
        list(read_davis(str(tmp_path)))
    monkeypatch.setattr(davis, "_MAX_PIXELS", 15)
    with pytest.raises(UsageError, match="more than allowed"):
        list(read_davis(str(tmp_path)))


def test_davis_void_is_background_and_gaps_in_frames_stay(tmp_path):
    (tmp_path / "a%2Fb").mkdir()
    labels = np.zeros((3, 4), np.uint16)
    labels[0, 0], labels[1, 1] = 255, 7
    write_label_map(tmp_path / "a%2Fb" / "00003.png", labels)
    (found,) = read_davis(str(tmp_path))
    assert (found.video.video_id, found.video.num_frames) == ("a/b", 4)
    assert found.track_ids.tolist() == [7] and found.frame_index.tolist() == [3]
    assert found.areas.tolist() == [1]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("0 1001 1 4 4", "line 1: expected `frame id class height width rle`"),
        ("0 1001 1 4 4 ll\n-1 1001 1 4 4 ll", "line 2: expected"),
        ("0 1001 1 4 4 04<\n1 1001 1 4 5 04<", "masks of one size"),
        ("0 1001 1 4 4 04<\n1 1001 2 4 4 04<", "an object changes its class"),
        ("0 1001 1 4 4 04<\n0 1001 1 4 4 04<", "two masks in frame 0"),
        ("0 1001 1 4 4 zz", "track 1001, frame 0: byte 122"),
        ("0 1001 1 99999 99999 04<", "mask size"),
        ("", "masks of one size"),
    ],
)
def test_mots(tmp_path, lines, says):
    (tmp_path / "v.txt").write_text(lines)
    with pytest.raises(UsageError, match=says):
        list(read_mots(str(tmp_path)))


def coco_content():
    size = {"height": 4, "width": 4}
    mask = {"size": [4, 4], "counts": "04<"}
    return {
        "videos": [{"id": 1, "name": "v", **size}],
        "images": [{"id": 1, "video_id": 1, "frame_index": 0}],
        "tracks": [{"id": 5, "category_id": 1}],
        "annotations": [
            {"id": 1, "image_id": 1, "track_id": 5, "category_id": 1, "segmentation": mask}
        ],
        "categories": [{"id": 1, "name": "x"}],
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c["annotations"][0].update(image_id=9), "names image 9, which is not listed"),
        (lambda c: c["annotations"][0].update(segmentation=None), "a box alone is no mask"),
        (lambda c: c["annotations"][0].pop("track_id"), "under 'track_id', got None"),
        (lambda c: c["images"][0].update(frame_index=-1), "under 'frame_index', got -1"),
        (lambda c: c["videos"][0].update(width="4"), "under 'width', got '4'"),
        (lambda c: c["tracks"][0].update(score="x"), "expected a number under 'score'"),
        (lambda c: c["annotations"].append(c["annotations"][0]), "two masks in frame 0"),
    ],
)
def test_coco(tmp_path, change, says):
    content = coco_content()
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    assert [len(video) for video in CocoVideoFile(str(path)).tracks()] == [1]
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=says):
        list(CocoVideoFile(str(path)).tracks())


def sav_content():
    mask = {"size": [4, 4], "counts": "04<"}
    return {
        "video_id": "sav_1",
        "video_height": 4.0,
        "video_width": 4.0,
        "video_frame_count": 8.0,
        "masklet_id": [0, 3],
        "masklet": [
            [mask, mask],
            [mask, {"size": [4, 4], "counts": rle.empty_mask((4, 4)).decode()}],
        ],
    }


def test_sav_frames_are_every_fourth_of_the_source(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(sav_content()))
    found = read_sav(str(path))
    assert found.video.num_frames == 8 and found.track_ids.tolist() == [0, 3]
    assert [found.frame_index[found.of_track(i)].tolist() for i in (0, 1)] == [[0, 4], [0]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c["masklet"][0].pop(), "a mask for each of 2 masklets"),
        (lambda c: c.update(video_height="4"), "under 'video_height'"),
        (lambda c: c["masklet"].append(c["masklet"][0]), "in frame 8"),
        (lambda c: c.update(masklet=None), "expected a list under 'masklet'"),
        (lambda c: c.update(video_id=None), "expected text under 'video_id'"),
    ],
)
def test_sav(tmp_path, change, says):
    content = sav_content()
    change(content)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=says):
        read_sav(str(path))


@pytest.mark.parametrize(("name", "num_tracks"), [("manual", 5), ("auto", 9)])
def test_real_masklets(shared, name, num_tracks):
    found = read_sav(str(shared / "media" / f"sav_000001_{name}.json"))
    assert (found.video.size, found.video.num_frames) == ((848, 480), 483)
    assert len(found) == num_tracks and set(found.frame_index.tolist()) == set(range(0, 483, 4))


@pytest.mark.parametrize(
    "mask", [b"", b"n", b"\x00", b"zz", b"1", b"0" * 9, b"P1\xff", b"oooooooo1", b"WWWWWWW0l0"]
)
def test_malformed_masks_among_good_ones_are_found(mask):
    """The quick check and the careful one refuse the same."""
    size = (4, 4)
    good = rle.encode(np.eye(4, dtype=bool)[None]) * 3
    assert check_masks(good, size)[1].tolist() == [4, 4, 4]
    with pytest.raises(ValueError, match="mask 1"):
        rle.validate_counts([good[0], mask, *good], size)
    with pytest.raises(ValueError, match="mask 1"):
        check_masks([good[0], mask, *good], size)


def test_masks_with_empty_runs_are_rewritten():
    """Legal text that pycocotools' merge stumbles over."""
    (plain,) = rle.encode(np.ones((1, 2, 2), bool))
    checked, areas = check_masks([b"0200", plain], (2, 2))
    assert checked == [plain, plain] and areas.tolist() == [4, 4]


@pytest.mark.parametrize("num", [0, 1, 2, 40, 700])
def test_the_quick_check_measures_right_across_its_chunks(num):
    rng = np.random.default_rng(num)
    dense = rng.random((num, 31, 17)) < rng.random((num, 1, 1))
    masks = rle.encode(dense)
    checked, areas = check_masks(masks, (31, 17))
    assert checked == masks and areas.tolist() == dense.sum(axis=(1, 2)).tolist()


def test_segmentations_of_all_kinds_are_read_alike():
    size = (4, 5)
    box = np.zeros((1, *size), bool)
    box[0, 1:3, 1:4] = True
    (text,) = rle.encode(box)
    kinds = [
        {"size": [4, 5], "counts": text.decode()},
        {"size": [4, 5], "counts": rle.decode_counts([text]).lengths.tolist()},
        [[1, 1, 4, 1, 4, 3, 1, 3]],
    ]
    for kind in kinds:
        assert read_segmentations([None, kind, {}, []], size, "here") == ([1], [text])
    assert read_segmentations(kinds, size, "here") == ([0, 1, 2], [text] * 3)


def test_ids_that_climb_stay_within_the_output(tmp_path):
    ids = ["../../evil", "/abs", "..", "a/../../b", "~root", "con"]
    videos = [without_empty(random_tracks(k, video_id=name)) for k, name in enumerate(ids)]
    folder = write_results(tmp_path / "deep" / "r", [v for v in videos if len(v)])
    before = set(tmp_path.rglob("*"))
    for name in ("davis", "mots", "cvat"):
        export(str(folder), name, str(tmp_path / "deep" / name), ExportConfig())
    new = {path for path in set(tmp_path.rglob("*")) - before if path.parent != tmp_path / "deep"}
    assert new and all(
        any(tmp_path / "deep" / name in path.parents for name in ("davis", "mots", "cvat"))
        for path in new
    )


def test_members_that_name_a_label_differently_are_not_mixed(tmp_path):
    folder = write_results(tmp_path / "r", [without_empty(random_tracks(1))], categories={1: "cat"})
    rows = [
        {"member": member, "label": 1, "name": name, "source": ""}
        for member, name in (("a", "cat"), ("b", "dog"))
    ]
    path = folder / "categories" / "categories.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema.CATEGORIES), path)
    with pytest.raises(UsageError, match="label 1 is cat and dog"):
        Results(str(folder)).categories()
