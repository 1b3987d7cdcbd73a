"""Ids of videos: unique, stable, safe as a path."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vis_core.errors import UsageError
from vis_core.video.ids import Candidate, assign_ids, video_id_for

PATHS = st.lists(
    st.one_of(
        st.sampled_from([b"a", b"b", b"..", b".", b"", b"~", b"a.mp4", b"a.mov", b"%2E%2E", b"%"]),
        st.binary(max_size=6).map(lambda raw: raw.replace(b"/", b"")),
    ),
    min_size=1,
    max_size=3,
).map(b"/".join)


def candidate(path, chosen=None, is_folder=False):
    return Candidate("file:///" + path.decode("latin-1"), path, is_folder, chosen)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"clip.mp4", "clip"),
        (b"2026/may/clip.tar.mp4", "2026/may/clip.tar"),
        (b"v1.2/clip", "v1.2/clip"),
        (b"na\xc3\xafve \xe2\x9c\x93.mp4", "naïve ✓"),
        (b"bad\xff.mp4", "bad%FF"),
        (b"../up.mp4", "%2E%2E/up"),
        (b"./here.mp4", "%2E/here"),
        (b"a//b.mp4", "a/%2F/b"),
        (b"100%.mp4", "100%25"),
        (b"a\\b\x00\n.mp4", "a%5Cb%00%0A"),
        (b"line\xe2\x80\xa8sep.mp4", "line%E2%80%A8sep"),
        (b".mp4", ".mp4"),
        (b"", "%2F"),
    ],
)
def test_an_id_is_the_path_without_extension_made_safe(path, expected):
    """Readable names stay as they are; what could do harm is percent-encoded."""
    assert video_id_for(path) == expected


@given(PATHS)
def test_an_id_never_leaves_its_folder(path):
    """Joined to any folder it names something inside, and every tool can store it."""
    video_id = video_id_for(path)
    assert video_id
    assert all(part not in ("", ".", "..") for part in video_id.split("/"))
    assert not set(video_id) & set("\\\0\n\r\t")
    video_id.encode("utf-8")


@given(st.sets(PATHS))
def test_the_encoding_is_one_to_one(paths):
    """Two paths never share an id as long as extensions are kept."""
    assert len({video_id_for(path, keep_extension=True) for path in paths}) == len(paths)


@given(st.sets(PATHS), st.randoms(use_true_random=False))
def test_ids_are_unique_and_do_not_depend_on_the_order_of_the_listing(paths, rng: random.Random):
    """Any file system order gives the same ids."""
    listing = [candidate(path) for path in sorted(paths)]
    ids = assign_ids(listing, {})
    assert len(set(ids.values())) == len(ids) == len(paths)
    rng.shuffle(listing)
    assert assign_ids(listing, {}) == ids


@given(st.sets(PATHS), st.sets(PATHS))
def test_an_id_once_given_never_changes(first, later):
    """Adding files never renames one."""
    ids = assign_ids(map(candidate, first), {})
    more = assign_ids(map(candidate, first | later), ids)
    assert more.items() >= ids.items()
    assert len(set(more.values())) == len(more)


def test_a_newcomer_keeps_its_extension_and_then_gets_a_hash():
    """The three steps: stem, stem with extension, stem with extension and hash of the uri."""
    ids = assign_ids(
        [
            Candidate("file:///a/clip.mp4", b"clip.mp4"),
            Candidate("file:///b/clip.mov", b"clip.mov"),
            Candidate("file:///c/clip.mov", b"clip.mov"),
        ],
        {},
    )
    assert ids["file:///a/clip.mp4"] == "clip"
    assert ids["file:///b/clip.mov"] == "clip.mov"
    assert ids["file:///c/clip.mov"] == "clip.mov~de2038af"


def test_a_hash_that_is_taken_grows():
    """Even a file named like the hashed id of another one cannot take its place."""
    ids = assign_ids(
        [Candidate("file:///c/clip.mov", b"clip.mov")],
        {"x": "clip", "y": "clip.mov", "z": "clip.mov~de2038af"},
    )
    assert ids["file:///c/clip.mov"].startswith("clip.mov~de2038af")
    assert len(ids["file:///c/clip.mov"]) == len("clip.mov~") + 9


def test_a_folder_of_frames_keeps_the_dot_in_its_name():
    """`v1.5` is no file with extension `.5`."""
    (video_id,) = assign_ids([candidate(b"takes/v1.5", is_folder=True)], {}).values()
    assert video_id == "takes/v1.5"


def test_one_file_named_by_two_inputs_takes_the_outermost_root():
    """Whichever input comes first."""
    pair = [Candidate("u", b"clip.mp4"), Candidate("u", b"deep/clip.mp4")]
    assert assign_ids(pair, {}) == assign_ids(pair[::-1], {}) == {"u": "deep/clip"}


def test_a_chosen_id_is_taken_as_it_is():
    """Also one that already went through the encoding."""
    ids = assign_ids([candidate(b"a.mp4", "100%25/x"), candidate(b"100%/x.mp4")], {})
    assert ids == {"file:///a.mp4": "100%25/x", "file:///100%/x.mp4": "100%25/x.mp4"}


@pytest.mark.parametrize("chosen", ["../x", "/x", "a//b", "a/./b", "a\\b", "a\n", "x\udcff"])
def test_a_chosen_id_that_could_leave_a_folder_is_refused(chosen):
    """With a sentence that says what an id looks like."""
    with pytest.raises(UsageError, match="cannot name a file"):
        assign_ids([candidate(b"a.mp4", chosen)], {})


def test_a_chosen_id_given_twice_is_refused():
    """Naming the other owner."""
    with pytest.raises(UsageError, match=r"already belongs to file:///a\.mp4"):
        assign_ids([candidate(b"a.mp4", "x"), candidate(b"b.mp4", "x")], {})
    with pytest.raises(UsageError, match="already belongs to earlier"):
        assign_ids([candidate(b"a.mp4", "x")], {"earlier": "x"})


def test_a_chosen_id_does_not_rename_a_known_video(caplog):
    """And that is said once."""
    ids = assign_ids([candidate(b"a.mp4", "new")], {"file:///a.mp4": "old"})
    assert ids["file:///a.mp4"] == "old"
    assert "has no effect" in caplog.text
