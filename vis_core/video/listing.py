"""Finding videos by name: in folders, behind globs, in object stores. Opens no file."""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
import os
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from vis_core.addresses import filesystem, scrubbed
from vis_core.errors import UsageError
from vis_core.video.images import frame_names
from vis_core.video.uris import (
    FileFacts,
    facts_of_info,
    file_facts,
    local_uri,
    remote_uri,
    shown,
    split_extension,
)

# "folder": one that cannot be listed, so that nobody knows what is in it; "link": one that leads
# nowhere now, and may have led to a folder.
SourceKind = Literal["video", "images", "folder", "link"]
_LEADS_NOWHERE = "the link leads nowhere (any more)"
_Entries: TypeAlias = dict[str, dict[str, Any]]  # of a remote folder, by name
Skipped: TypeAlias = collections.Counter[str]  # files that are no videos, by extension

VIDEO_EXTENSIONS = frozenset(
    """.mp4 .m4v .mov .qt .mkv .webm .avi .divx .mpg .mpeg .mpe .m2v .vob .ts .mts .m2ts .mxf
    .flv .f4v .wmv .asf .ogv .3gp .3g2 .dv .y4m .ivf .nut .h264 .264 .h265 .265 .hevc
    .obu""".split()  # noqa: SIM905 - a list of 34 quoted strings is harder to read
)
MAGIC = re.compile(r"[*?[]")
_UNKNOWN_FACTS = FileFacts(0, 0)  # what cannot be listed fails when it is probed, with a reason


class Found(NamedTuple):
    """A video and its path relative to the input root."""

    uri: str
    path: bytes
    kind: SourceKind
    facts: FileFacts
    chosen: str | None = None  # the id a list file gives it
    problem: str = ""  # why it cannot be used, where that is known without opening it


@dataclasses.dataclass(frozen=True, slots=True)
class _Folder:
    """The visible files of one folder, local or remote; or why they cannot be listed."""

    uri: str
    path: bytes  # relative to the input root, empty for the root itself
    files: Mapping[str, Callable[[], FileFacts]]
    num_hidden: int = 0
    problem: str = ""

    def uri_of(self, name: str) -> str:
        # Remote addresses are the store's own words, never percent-encoded.
        if self.uri.startswith("file:"):
            name = urllib.parse.quote_from_bytes(os.fsencode(name))
        return f"{self.uri.rstrip('/')}/{name}"


def extension_of(name: str) -> str:
    """In lower case, with its dot."""
    return split_extension(name)[1].lower()


def found_file(path: str, root: str, chosen: str | None = None) -> Found:
    """A local file taken for a video whatever its name."""
    uri = local_uri(path)
    return Found(uri, _below(path, root), "video", facts_or_unknown(uri), chosen)


def facts_or_unknown(uri: str) -> FileFacts:
    """Zeros where the file cannot be reached: the probe will say why."""
    try:
        return file_facts(uri)
    except Exception:  # noqa: BLE001 - every store has its own errors
        return _UNKNOWN_FACTS


def is_remote_glob(text: str) -> bool:
    """Whether an address is a pattern; in those of web servers a question mark begins a query."""
    scheme, _, rest = text.partition("://")
    if scheme in ("http", "https"):
        path = rest.partition("?")[0].partition("/")[2]
        return "*" in path or "[" in path
    return bool(MAGIC.search(rest))


def nearest_folder(path: str) -> str:
    """The closest parent that exists, for error messages."""
    while not os.path.isdir(path):  # noqa: PTH112
        path = os.path.dirname(path)  # noqa: PTH120
    return path


def _below(path: str, root: str) -> bytes:
    return b"" if path == root else os.fsencode(os.path.relpath(path, root))


def from_folder(
    path: str, root: str, skipped: Skipped, *, by_name: bool = False
) -> Iterator[Found]:
    for folder in _walk(path, root):
        if by_name and folder.problem and not folder.path:
            raise UsageError(f"{shown(folder.uri)}: {folder.problem}")
        named = by_name and not folder.path
        yield from _videos_in(folder, skipped, os.path.basename(path) if named else None)  # noqa: PTH119


def _videos_in(folder: _Folder, skipped: Skipped, name: str | None) -> Iterator[Found]:
    """Video files, or the folder itself where it holds frames and no video.

    `name`: the folder was named by itself, so one frame is enough; found on the way, one
    numbered picture is more likely a poster than a video.
    """
    if folder.problem:
        yield unlisted(folder.uri, folder.path, folder.problem)
        return
    videos = [file for file in folder.files if extension_of(file) in VIDEO_EXTENSIONS]
    frames = [] if videos else frame_names(folder.files)
    if len(frames) < (2 if name is None else 1):
        frames = []
    taken = {*videos, *frames}
    skipped["hidden"] += folder.num_hidden
    skipped.update(extension_of(file) for file in folder.files if file not in taken)
    for file in videos:
        path = os.path.join(folder.path, os.fsencode(file))  # noqa: PTH118 - bytes
        yield Found(folder.uri_of(file), path, "video", folder.files[file]())
    if frames:
        facts = [folder.files[frame]() for frame in frames]
        total = FileFacts(sum(f.bytes for f in facts), max(f.mtime_ns for f in facts))
        path = folder.path if name is None else os.fsencode(name) or b"root"
        yield Found(folder.uri, path, "images", total)


def _unlisted_below(uri: str, path: bytes, problem: str) -> Found:
    """The same, of a folder that is not the input itself: without that there is nothing to do."""
    if not path:
        raise UsageError(f"{shown(uri)}: {problem}")
    return unlisted(uri, path, problem)


def unlisted(uri: str, path: bytes, problem: str) -> Found:
    """A folder that cannot be read now: a row that says so, and what was found there stays."""
    kind: SourceKind = "link" if problem == _LEADS_NOWHERE else "folder"
    return Found(uri, path or b"root", kind, _UNKNOWN_FACTS, problem=f"{shown(uri)}: {problem}")


def _walk(top: str, root: str) -> Iterator[_Folder]:
    """Every folder below `top` once, links last: a loop of links ends, and the result does not
    depend on the order the file system lists."""
    seen: set[tuple[int, int]] = set()
    folders, links = [top], list[str]()
    while folders or links:
        if not folders:
            links.sort(reverse=True)
        path = (folders or links).pop()
        try:
            status = os.stat(path)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            files, children, num_hidden = _scan(path)
        except FileNotFoundError:
            if path == top:
                raise
            continue  # deleted since its parent was listed
        except OSError as error:
            problem = f"the folder cannot be listed: {error.strerror}"
            yield _Folder(local_uri(path), _below(path, root), {}, problem=problem)
            continue
        for child, is_link in children:
            (links if is_link else folders).append(child)
        yield _Folder(local_uri(path), _below(path, root), files, num_hidden)
        for name in files:
            link = os.path.join(path, name)  # noqa: PTH118 - plain strings
            if not _is_named_as_input(name) and _leads_nowhere(link):
                yield _Folder(local_uri(link), _below(link, root), {}, problem=_LEADS_NOWHERE)


def _is_named_as_input(name: str) -> bool:
    return extension_of(name) in VIDEO_EXTENSIONS or bool(frame_names([name]))


def _leads_nowhere(path: str) -> bool:
    return os.path.islink(path) and not os.path.exists(path)  # noqa: PTH110, PTH114


def _scan(path: str) -> tuple[dict[str, Callable[[], FileFacts]], list[tuple[str, bool]], int]:
    """Visible files, facts on demand; visible folders (path, is a link); how many are hidden."""
    files: dict[str, Callable[[], FileFacts]] = {}
    folders: list[tuple[str, bool]] = []
    num_hidden = 0
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):  # among them "._clip.mp4", which holds no video
                num_hidden += 1
            elif _is_folder(entry):
                folders.append((entry.path, entry.is_symlink()))
            # A broken link is a video that failed; of a pipe the probe says what it is.
            elif entry.is_symlink() or entry.is_file() or _named_as_video(entry.name):
                files[entry.name] = lambda entry=entry: _entry_facts(entry)  # type: ignore[misc]
    return files, folders, num_hidden


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where nobody may look
        return False


def _named_as_video(name: str) -> bool:
    return extension_of(name) in VIDEO_EXTENSIONS


def _entry_facts(entry: os.DirEntry[str]) -> FileFacts:
    try:
        status = entry.stat()
    except OSError:
        return _UNKNOWN_FACTS
    return FileFacts(status.st_size, status.st_mtime_ns)


# --- globs --------------------------------------------------------------------------------------


def _fixed_prefix(pattern: str) -> str:
    """The folders before the first wildcard."""
    fixed = MAGIC.split(pattern, maxsplit=1)[0]
    return fixed[: fixed.rindex("/")] or "/"


def from_glob(pattern: str, skipped: Skipped) -> Iterator[Found]:
    root = _fixed_prefix(pattern)
    if not os.path.isdir(root):  # noqa: PTH112
        raise UsageError(
            f"{shown(pattern)}: no such folder {shown(root)}; "
            f"the nearest folder that exists is {shown(nearest_folder(root))}"
        )
    if "**" in pattern:  # the standard library would follow a loop of links for ever
        yield from _from_deep_glob(pattern, root, skipped)
        return
    parts = pattern.removeprefix(root.rstrip("/") + "/").rstrip("/").split("/")
    for path, problem in _glob(root, parts):
        if problem:
            yield _unlisted_below(local_uri(path), _below(path, root), problem)
        elif os.path.isdir(path):  # noqa: PTH112
            yield from from_folder(path, root, skipped)
        elif extension_of(path) in VIDEO_EXTENSIONS:
            yield found_file(path, root)
        else:
            skipped[extension_of(path)] += 1


def _glob(folder: str, parts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Paths that match, sorted, and folders that cannot be listed, with the reason.

    The standard library's keeps quiet about those.
    """
    try:
        names = _matching(folder, parts[0])
    except OSError as error:
        yield folder, f"the folder cannot be listed: {error.strerror}"
        return
    for name in names:
        path = os.path.join(folder, name)  # noqa: PTH118 - plain strings
        if _leads_nowhere(path) and not (len(parts) == 1 and _is_named_as_input(name)):
            yield path, _LEADS_NOWHERE
        elif len(parts) == 1:
            yield path, ""
        elif os.path.isdir(path):  # noqa: PTH112
            yield from _glob(path, parts[1:])


def _matching(folder: str, part: str) -> list[str]:
    """Names in a folder that match one segment; hidden ones only where it begins with a dot."""
    if not MAGIC.search(part):
        return [part] if os.path.lexists(os.path.join(folder, part)) else []  # noqa: PTH118
    names = os.listdir(folder)  # noqa: PTH208
    return sorted(
        name
        for name in names
        if fnmatch.fnmatchcase(name, part) and (part[0] == "." or name[0] != ".")
    )


def _from_deep_glob(pattern: str, root: str, skipped: Skipped) -> Iterator[Found]:
    parts = pattern.removeprefix(root.rstrip("/") + "/").split("/")
    for folder in _walk(root, root):
        if folder.problem and not folder.path:
            raise UsageError(f"{shown(folder.uri)}: {folder.problem}")
        for video in _videos_in(folder, skipped, None):
            if video.problem or _matches(os.fsdecode(video.path).split("/"), parts):
                yield video


def _matches(segments: Sequence[str], parts: Sequence[str]) -> bool:
    """A glob whose `**` stands for any number of folders."""
    if not parts:
        return not segments
    if parts[0] == "**":
        return any(_matches(segments[i:], parts[1:]) for i in range(len(segments) + 1))
    matched = bool(segments) and fnmatch.fnmatchcase(segments[0], parts[0])
    return matched and _matches(segments[1:], parts[1:])


# --- object stores ------------------------------------------------------------------------------


def from_remote_folder(
    text: str, root: str, skipped: Skipped, *, by_name: bool = False
) -> Iterator[Found]:
    system, top = filesystem(text)
    base = filesystem(root)[1].rstrip("/")
    for path, entries, problem in _walk_remote(system, top):
        relative = path[len(base) :].strip("/").encode("utf-8", "surrogateescape")
        uri = remote_uri(system, path)
        if problem:
            found = _unlisted_below if by_name else unlisted
            yield found(uri, relative, problem)
            continue
        visible = {
            name: lambda info=info: facts_of_info(info)
            for name, info in sorted(entries.items())
            if name and not name.startswith(".") and info["type"] != "directory"
        }
        own_name = top.rstrip("/").rsplit("/", 1)[-1] if by_name and not relative else None
        yield from _videos_in(_Folder(uri, relative, visible), skipped, own_name)


def _walk_remote(system: Any, top: str) -> Iterator[tuple[str, _Entries, str]]:
    """Folders with what is in them, or why they cannot be listed: fsspec's walk omits those."""
    folders, seen = [top], {top.rstrip("/")}
    while folders:
        path = folders.pop()
        entries, problem = _listing(system, path)
        yield path, entries, problem
        inner = (i["name"].rstrip("/") for i in entries.values() if i["type"] == "directory")
        new = sorted(set(inner) - seen, reverse=True)
        seen.update(new)
        folders += new


def _listing(system: Any, path: str) -> tuple[_Entries, str]:
    """What is directly in a folder, by name; empty, with the reason, where it cannot be listed."""
    try:
        found = system.ls(path, detail=True)
    except Exception as error:  # noqa: BLE001 - every store has its own errors
        what = f"{type(error).__name__}: {scrubbed(str(error))}"
        return {}, f"the folder cannot be listed: {what}"
    finally:
        system.invalidate_cache(path)  # listings are kept otherwise, whatever the archive's size
    own = path.rstrip("/")
    # Consoles put an empty object in the place of a folder: it has the folder's own name.
    others = [info for info in found if info["name"].rstrip("/") != own]
    return {info["name"].rstrip("/").rsplit("/", 1)[-1]: info for info in others}, ""


def from_remote_glob(text: str, skipped: Skipped) -> Iterator[Found]:
    system, pattern = filesystem(text)
    root = MAGIC.split(pattern, maxsplit=1)[0].rpartition("/")[0]
    parts = pattern[len(root) :].strip("/").split("/")
    for path, info, problem in _glob_remote(system, root, parts):
        uri = remote_uri(system, path)
        relative = path[len(root) :].strip("/").encode("utf-8", "surrogateescape")
        if problem:
            yield _unlisted_below(uri, relative, problem)
        elif info["type"] == "directory":
            if "**" not in pattern:
                yield from from_remote_folder(uri, remote_uri(system, root), skipped)
        elif extension_of(path) in VIDEO_EXTENSIONS:
            yield Found(uri, relative, "video", facts_of_info(info))
        else:
            skipped[extension_of(path)] += 1


def _glob_remote(
    system: Any, root: str, parts: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any], str]]:
    """What matches, sorted, and folders that cannot be listed, with the reason."""
    if any("**" in part for part in parts):
        for path, entries, problem in _walk_remote(system, root):
            if problem:
                yield path, {}, problem
            above = path[len(root) :].strip("/")
            for name, info in sorted(entries.items()):
                segments = [*filter(None, above.split("/")), name]
                if info["type"] != "directory" and _matches(segments, parts):
                    yield info["name"], info, ""
        return
    entries, problem = _listing(system, root)
    if problem:
        yield root, {}, problem
    for name, info in sorted(entries.items()):
        hidden = name.startswith(".") and not parts[0].startswith(".")
        if hidden or not fnmatch.fnmatchcase(name, parts[0]):
            continue
        if len(parts) == 1:
            yield info["name"], info, ""
        elif info["type"] == "directory":
            yield from _glob_remote(system, info["name"].rstrip("/"), parts[1:])
