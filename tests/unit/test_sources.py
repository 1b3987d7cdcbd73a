"""From files, folders, globs, lists and stores to videos."""

import csv
import datetime
import json
import os

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vis_core.errors import UsageError
from vis_core.video.images import frame_names
from vis_core.video.sources import expand_inputs
from vis_core.video.uris import facts_of_info, local_path, local_uri, shown


def make(root, *names):
    for name in names:
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))


def ids(*inputs, known=None):
    return [source.video_id for source in expand_inputs([str(i) for i in inputs], known or {})]


def test_a_folder_is_searched_for_videos_by_extension(tmp_path):
    """Other files and hidden ones are skipped."""
    make(tmp_path, "a.mp4", "b/c/d.MKV", "b/notes.txt", ".trash/e.mp4", "b/._d.mkv", "poster1.jpg")
    assert ids(tmp_path) == ["a", "b/c/d"]


def test_what_is_skipped_is_counted(tmp_path, caplog):
    """By extension, in one line."""
    make(tmp_path, "a.mp4", "b.txt", "c.txt", "README", ".hidden.mp4")
    with caplog.at_level("INFO"):
        ids(tmp_path)
    assert "skipped 4 files" in caplog.text
    assert ".txt 2" in caplog.text
    assert "hidden 1" in caplog.text


def test_a_source_carries_size_time_and_a_file_address(tmp_path):
    """The hints that save probing again."""
    make(tmp_path, "a b#%.mp4")
    (source,) = expand_inputs([str(tmp_path)], {})
    assert source.uri == f"file://{tmp_path}/a%20b%23%25.mp4"
    assert source.bytes == len("a b#%.mp4")
    assert source.mtime_ns == (tmp_path / "a b#%.mp4").stat().st_mtime_ns
    assert source.kind == "video"


def test_names_that_are_not_utf8_work(tmp_path):
    """The address leads back to the very bytes of the name."""
    make(tmp_path, b"bad\xff.mp4", b"deep\xfe/..x.mp4", "deep/..y..mp4")
    found = expand_inputs([str(tmp_path)], {})
    assert [source.video_id for source in found] == ["bad%FF"]  # the others are hidden files
    path = local_path(found[0].uri)
    assert os.fsencode(path) == os.fsencode(tmp_path) + b"/bad\xff.mp4"
    assert local_uri(path) == found[0].uri
    assert shown(found[0].uri).endswith("bad\\xff.mp4")


def test_a_file_is_its_own_input_whatever_its_extension(tmp_path):
    """Its folder is the root."""
    make(tmp_path, "deep/a.mp4", "deep/b.bin", "deep/.c.mp4")
    deep = tmp_path / "deep"
    assert ids(deep / "a.mp4", deep / "b.bin", deep / ".c.mp4") == [".c", "a", "b"]


def test_the_same_file_named_twice_is_one_video(tmp_path, monkeypatch):
    """However it is spelled."""
    make(tmp_path, "deep/a.mp4")
    monkeypatch.chdir(tmp_path)
    spelled = ["deep/a.mp4", tmp_path / "deep/../deep/a.mp4", tmp_path, "deep/*.mp4", "."]
    assert ids(*spelled) == ids(*spelled[::-1]) == ["deep/a"]
    assert ids(local_uri(str(tmp_path / "deep/a.mp4"))) == ["a"]


def test_a_glob_has_its_fixed_prefix_as_root(tmp_path):
    """Matched folders are searched, matched files need a video's extension."""
    make(tmp_path, "x1/a.mp4", "x2/deep/b.mp4", "y/c.mp4", "x3.txt")
    assert ids(tmp_path / "x*") == ["x1/a", "x2/deep/b"]
    assert ids(tmp_path / "x*/*.mp4") == ["x1/a"]
    assert ids(tmp_path / "**/b.mp4") == ["x2/deep/b"]
    assert ids(tmp_path / "x?/**") == ["x1/a", "x2/deep/b"]
    assert ids(f"{tmp_path}/**/[ac].mp4") == ["x1/a", "y/c"]


def test_a_name_with_a_bracket_is_a_file_before_it_is_a_glob(tmp_path):
    """What exists is meant."""
    make(tmp_path, "a[1].mp4", "a1.mp4")
    assert ids(tmp_path / "a[1].mp4") == ["a[1]"]


def test_links_in_a_loop_end(tmp_path):
    """Each folder is listed once, by its real name first."""
    make(tmp_path, "a/one.mp4", "b/two.mp4", "z.mp4")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    (tmp_path / "a/aside").symlink_to("../b")
    (tmp_path / "b/aside").symlink_to("../a")
    assert ids(tmp_path) == ["a/one", "b/two", "z"]
    assert ids(tmp_path / "**/*.mp4") == ["a/one", "b/two", "z"]


def test_links_to_files_and_folders_elsewhere_are_followed(tmp_path):
    """Under the names they have here; a broken one is found too, and fails when probed."""
    make(tmp_path, "store/one.mp4")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/linked").symlink_to(tmp_path / "store")
    (tmp_path / "in/broken.mp4").symlink_to("nowhere")
    assert ids(tmp_path / "in") == ["broken", "linked/one"]


def test_a_folder_of_numbered_pictures_is_a_video(tmp_path):
    """A poster is not, nor are pictures beside a video; one frame is enough when named."""
    make(tmp_path, "v1.5/7.jpg", "v1.5/8.jpg", "one/1.png", "mixed/a.mp4", "mixed/1.jpg")
    make(tmp_path, "mixed/2.jpg", "art/cover.jpg", "art/back.jpg")
    found = {source.video_id: source for source in expand_inputs([str(tmp_path)], {})}
    assert {name: source.kind for name, source in found.items()} == {
        "v1.5": "images",
        "mixed/a": "video",
    }
    assert found["v1.5"].bytes == 2 * len("v1.5/7.jpg")
    assert ids(tmp_path / "one") == ["one"]
    assert ids(tmp_path / "v1.5") == ["v1.5"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["10.jpg", "9.jpg", "2.jpg"], ["2.jpg", "9.jpg", "10.jpg"]),
        (["f_2_a.png", "f_10_a.PNG", "f_1_a.png"], ["f_1_a.png", "f_2_a.png", "f_10_a.PNG"]),
        (["00001.jpg", "1.jpg", "0.jpg"], ["0.jpg", "00001.jpg", "1.jpg"]),
        ([".1.jpg", "1.jpg", "cover.jpg", "2.txt"], ["1.jpg"]),
        (["1.jpg", "1.png", "2.jpeg", "2.png"], ["1.jpg", "2.jpeg"]),
        (["1.jpg", "1.png", "2.png"], ["1.png", "2.png"]),
        (["a.jpg"], []),
    ],
)
def test_frames_come_in_the_order_of_their_numbers(names, expected):
    """Unpadded, from any start, one kind of picture."""
    assert frame_names(names) == expected


def test_a_list_of_lines(tmp_path):
    """Relative to the list; comments and a byte order mark are ignored."""
    make(tmp_path, "in/a.mp4", "in/deep/b.mp4", b"in/bad\xff.mp4")
    lines = b"\xef\xbb\xbf# mine\r\n\r\nin/a.mp4\r\nin/deep/b.mp4\nin/bad\xff.mp4\n"
    (tmp_path / "list.txt").write_bytes(lines)
    assert ids(tmp_path / "list.txt") == ["a", "bad%FF", "deep/b"]


def test_a_list_of_one_has_the_folder_of_its_entry_as_root(tmp_path):
    """And an entry that is a folder is searched."""
    make(tmp_path, "in/a.mp4", "in/deep/b.mp4")
    (tmp_path / "one.txt").write_text("in/deep/b.mp4\n")
    (tmp_path / "folder.txt").write_text(f"{tmp_path}/in\n")
    assert ids(tmp_path / "one.txt") == ["b"]
    assert ids(tmp_path / "folder.txt") == ["in/a", "in/deep/b"]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_table_gives_addresses_and_ids(tmp_path, kind):
    """`uri` or `path`, and a `video_id` where one is wanted."""
    make(tmp_path, "in/a.mp4", "in/b.mp4")
    rows = [{"path": "in/a.mp4", "video_id": "first/take"}, {"path": "in/b.mp4", "video_id": None}]
    path = tmp_path / f"list.{kind}"
    if kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["path", "video_id"])
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    assert ids(path) == ["b", "first/take"]


def test_an_entry_that_is_missing_becomes_a_video_that_fails(tmp_path):
    """One wrong line of a million stops nothing."""
    (tmp_path / "list.txt").write_text("gone.mp4\n")
    (source,) = expand_inputs([str(tmp_path / "list.txt")], {})
    assert (source.video_id, source.bytes, source.mtime_ns) == ("gone", 0, 0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.csv", "name\na.mp4\n", "expected a column 'uri' or 'path'"),
        ("list.jsonl", '{"uri": "a.mp4"}\nnope\n', "line 2: not JSON"),
        ("list.jsonl", "[1]\n", "expected an object"),
        ("list.parquet", "nope", "not a Parquet file"),
        ("list.txt", "# nothing\n", "the list is empty"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path, name, content, message):
    """Saying what was expected."""
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=message):
        ids(tmp_path / name)


def test_wrong_inputs_are_named_with_a_remedy(tmp_path):
    """A missing path comes with the nearest folder that exists."""
    make(tmp_path, "notes/a.txt", "notes/1.jpg")
    os.mkfifo(tmp_path / "pipe")
    cases = {
        "gone/deep/a.mp4": f"nearest folder that exists is {tmp_path}$",
        "gone/*.mp4": "no such folder .*gone",
        "notes/*.mp4": r"no video found. Looked for files named .*\.mp4",
        "notes/a*": r"no video found.*\.txt 1",
        "notes/1.jpg": "one picture; name its folder",
        "pipe": "device or pipe",
    }
    for name, message in cases.items():
        with pytest.raises(UsageError, match=message):
            ids(tmp_path / name)
    with pytest.raises(UsageError, match="no input"):
        ids()
    with pytest.raises(UsageError, match="nope: is no kind of address"):
        ids("nope://bucket/a.mp4")


def test_ids_of_earlier_runs_hold(tmp_path):
    """A newcomer moves aside, even where it sorts first."""
    make(tmp_path, "clip.mp4")
    (old,) = expand_inputs([str(tmp_path)], {})
    make(tmp_path, "clip.avi")
    found = expand_inputs([str(tmp_path)], {old.uri: old.video_id})
    assert {source.video_id: source.uri.rsplit(".", 1)[1] for source in found} == {
        "clip": "mp4",
        "clip.avi": "avi",
    }


@pytest.fixture
def store():
    """An object store in memory."""
    memory = fsspec.filesystem("memory")
    names = [
        "arch/a.mp4",
        "arch/deep/b%20#.mkv",
        "arch/deep/n.txt",
        "arch/fr/1.jpg",
        "arch/fr/2.jpg",
    ]
    for name in names:
        memory.pipe(f"/{name}", b"x" * len(name))
    yield memory
    memory.rm("/arch", recursive=True)


def test_an_object_store_is_searched_like_a_folder(store):
    """Addresses are the store's own, not percent-encoded."""
    found = {source.video_id: source for source in expand_inputs(["memory://arch"], {})}
    assert sorted(found) == ["a", "deep/b%2520#", "fr"]
    assert found["fr"].kind == "images"
    assert found["a"].bytes == len("arch/a.mp4")
    assert found["a"].mtime_ns > 0
    assert found["deep/b%2520#"].uri.endswith("arch/deep/b%20#.mkv")


def test_an_object_store_takes_globs_and_files_and_lists(store, tmp_path):
    """One object has one address, however it was named."""
    (tmp_path / "list.txt").write_text("memory://arch/a.mp4\nmemory://arch/deep/b%20#.mkv\n")
    assert ids("memory://arch/*.mp4") == ids("memory://arch/a.mp4") == ["a"]
    assert ids("memory://arch/**") == ["a", "deep/b%2520#"]
    assert ids("memory://arch/d*") == ["deep/b%2520#"]
    assert ids(tmp_path / "list.txt") == ["a", "deep/b%2520#"]
    every = ["memory://arch", "memory://arch/a.mp4", tmp_path / "list.txt"]
    assert ids(*every) == ["a", "deep/b%2520#", "fr"]
    store.pipe("/arch/list.txt", b"deep/b%20#.mkv\n")
    assert ids("memory://arch/list.txt") == ["b%2520#"]


def test_what_is_not_in_the_store_is_a_usage_error(store):
    """Naming the address."""
    with pytest.raises(UsageError, match="no such object or folder"):
        ids("memory://arch/gone.mp4")
    with pytest.raises(UsageError, match="chained"):
        ids("simplecache::memory://arch/a.mp4")


def test_stores_name_their_facts_differently():
    """Etag and time come out of any of them."""
    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    facts = facts_of_info({"size": 5, "ETag": '"abc"', "LastModified": when})
    assert facts == (5, int(when.timestamp()) * 10**9, "abc")
    assert facts_of_info({"size": None}) == (0, 0, None)
