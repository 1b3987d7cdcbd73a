"""Large JSON in pieces, safe names, and output that appears whole or not at all."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vis_core.errors import UsageError
from vis_core.formats import json_index
from vis_core.formats.json_index import JsonIndex
from vis_core.formats.names import file_name, relative_path, video_id_of
from vis_core.formats.output import JsonLists, VideoSpool, check_is_new, new_file, new_folder

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


def walk(path):
    index = JsonIndex(str(path))
    found = list(index.elements())
    assert index.read([element.place for element in found]) == [e.value for e in found]
    return [(element.key, element.value) for element in found]


@settings(max_examples=60, deadline=None)
@given(
    content=st.dictionaries(st.text(max_size=4), st.lists(VALUES, max_size=4) | VALUES, max_size=4)
    | st.lists(VALUES, max_size=4),
    chunk=st.integers(1, 40),
    indent=st.none() | st.integers(0, 3),
    escaped=st.booleans(),
)
def test_elements_are_those_of_the_whole_file(tmp_path_factory, content, chunk, indent, escaped):
    """However the file is cut into chunks, and whatever characters its strings hold."""
    path = tmp_path_factory.getbasetemp() / "any.json"
    text = json.dumps(content, indent=indent, ensure_ascii=escaped)
    path.write_bytes(text.encode("utf-8", "replace"))
    content = json.loads(path.read_bytes())
    lists = {"": content} if isinstance(content, list) else content
    expected = [(k, v) for k, found in lists.items() if isinstance(found, list) for v in found]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_index, "_CHUNK", chunk)
        assert walk(path) == expected


def test_a_byte_order_mark_and_white_space_are_fine(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf \n {"a" : [ 1 , {"b":"\xc3\xa9"} ] , "c":7}\r\n ')
    assert walk(path) == [("a", 1), ("a", {"b": "é"})]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", r"expected \{ or \[, got the end"),
        (b"3", r"expected \{ or \[, got 3"),
        (b'{"a": [1, 2', "at byte"),
        (b'{"a": [1 2]}', r"expected , or \], got 2"),
        (b'{"a": [1],}', "Expecting value"),
        (b"{a: [1]}", "Expecting value"),
        (b"{1: [1]}", "expected a name in quotes, got 1"),
        (b"[1] [2]", "expected the end of the file"),
        (b'["\xff"]', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply|recursion"),
        (b"[" + b"9" * 10_000 + b"]", "digits"),
    ],
)
def test_what_is_no_such_file_is_one_clear_error(tmp_path, data, says):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=says):
        walk(path)


def test_elements_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(json_index, "MAX_ELEMENT_BYTES", 100)
    monkeypatch.setattr(json_index, "_CHUNK", 64)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(["x" * 50] * 50))
    assert len(walk(path)) == 50
    path.write_text(json.dumps(["x" * 500]))
    with pytest.raises(UsageError, match="an element of more than"):
        walk(path)


@given(st.text())
def test_names_are_safe_and_say_the_id(video_id):
    name = file_name(video_id)
    assert name and not name.startswith(".") and len(name) <= 230
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-~%")
    if "%-" not in name:
        assert video_id_of(name) == video_id


@given(st.lists(st.text(max_size=300), unique=True, max_size=6))
def test_names_of_different_ids_differ(ids):
    assert len({file_name(video_id) for video_id in ids}) == len(ids)


@pytest.mark.parametrize(
    ("video_id", "name"),
    [
        ("clip_0003", "clip_0003"),
        ("a/b c", "a%2Fb%20c"),
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
        (".hidden", "%2Ehidden"),
        ("", "%"),
        ("100%", "100%25"),
        ("é", "%C3%A9"),
    ],
)
def test_some_names(video_id, name):
    assert file_name(video_id) == name


def test_long_ids_are_cut_but_keep_apart():
    one, two = ("x" * 400 + end for end in "ab")
    assert file_name(one) != file_name(two) and len(file_name(one).encode()) <= 230


@pytest.mark.parametrize(
    ("video_id", "path"),
    [
        ("a/b c", "a/b c"),
        ("../x", "%2E./x"),
        ("/etc", "%/etc"),
        ("a/./b", "a/%2E/b"),
        ("a\\..\\b", "a%5C..%5Cb"),
        ("a\nb", "a%0Ab"),
    ],
)
def test_paths_in_lists_of_names_do_not_climb(video_id, path):
    assert relative_path(video_id) == path


def test_output_that_exists_is_kept(tmp_path):
    (tmp_path / "there").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for name in ("there", "link", "."):
        with pytest.raises(UsageError, match="exists already"):
            check_is_new(str(tmp_path / name))
    with pytest.raises(UsageError, match="local files"):
        check_is_new("s3://bucket/x.json")
    with pytest.raises(UsageError, match="meanwhile"), new_file(tmp_path / "there") as staged:
        staged.write_text("other")
    assert (tmp_path / "there").read_text() == "mine"


@pytest.mark.parametrize("new", [new_file, new_folder])
def test_a_failure_leaves_nothing_behind(tmp_path, new):
    def write_half(staged):
        path = staged / "x" if staged.is_dir() else staged
        path.write_text("half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError), new(tmp_path / "out") as staged:
        write_half(staged)
    assert list(tmp_path.iterdir()) == []


def test_folders_appear_whole(tmp_path):
    with new_folder(tmp_path / "deep" / "out") as staged:
        (staged / "x").write_text("1")
        assert not (tmp_path / "deep" / "out").exists()
    assert (tmp_path / "deep" / "out" / "x").read_text() == "1"
    assert len(list((tmp_path / "deep").iterdir())) == 1


def test_lists_are_joined_and_spools_are_sorted(tmp_path):
    with VideoSpool(tmp_path) as spool:
        for name in ("b", "a", "é"):
            spool.add(name, [name])
        assert list(spool.in_order()) == [("a", ["a"]), ("b", ["b"]), ("é", ["é"])]
    path = tmp_path / "x.json"
    with JsonLists(path, {"info": {"k": 1}}, ("empty", "full")) as lists:
        assert [lists.add("full", {"n": k}) for k in range(3)] == [1, 2, 3]
    assert json.loads(path.read_text()) == {
        "info": {"k": 1},
        "empty": [],
        "full": [{"n": 0}, {"n": 1}, {"n": 2}],
    }
    assert list(tmp_path.iterdir()) == [path]
