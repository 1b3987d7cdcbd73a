"""From what a user names (files, folders, globs, list files, object stores) to videos.

Nothing is opened but list files. A file's id depends on the input root: a folder is its own
root, a glob's is its fixed prefix, a file's is its folder, and a list's is the common parent of
its entries.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from vis_core import addresses
from vis_core.addresses import filesystem, is_remote, scrubbed
from vis_core.errors import SourceError, UsageError
from vis_core.types import VideoInfo
from vis_core.video.ids import Candidate, assign_ids
from vis_core.video.images import IMAGE_EXTENSIONS
from vis_core.video.listing import (
    MAGIC,
    VIDEO_EXTENSIONS,
    Found,
    Skipped,
    SourceKind,
    extension_of,
    facts_or_unknown,
    found_file,
    from_folder,
    from_glob,
    from_remote_folder,
    from_remote_glob,
    is_remote_glob,
    nearest_folder,
    unlisted,
)
from vis_core.video.lists import LIST_EXTENSIONS, ListEntry, read_list
from vis_core.video.uris import facts_of_info, local_path, local_uri, remote_uri, shown

logger = logging.getLogger(__name__)

_FACT_THREADS = 16  # a list of objects costs one request each


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One input video, found but not opened."""

    video_id: str
    uri: str
    kind: SourceKind
    bytes: int
    mtime_ns: int  # as listed; a hint that saves probing again
    problem: str = ""  # why it cannot be used, where that is known before it is opened


def expand_inputs(inputs: Sequence[str], known: Mapping[str, str]) -> list[Source]:
    """Every video the inputs name, once each, in order of id.

    `known` maps uris to the ids of earlier runs. Raises UsageError for an input that is not
    there or holds no video.
    """
    if not inputs:
        raise UsageError("no input: name video files, folders, globs, list files or addresses")
    found: dict[str, Found] = {}
    candidates: list[Candidate] = []
    skipped: Skipped = collections.Counter()
    for text in inputs:
        before = len(candidates)
        for video in _expand(text, skipped):
            if video.kind == "link" and not any(uri.startswith(f"{video.uri}/") for uri in known):
                continue  # nothing was ever found behind it
            found[video.uri] = video
            is_folder = video.kind != "video"
            candidates.append(Candidate(video.uri, video.path, is_folder, video.chosen))
        if len(candidates) == before:
            raise _no_video(text, skipped)
    _log_skipped(skipped)
    ids = assign_ids(candidates, known)
    sources = [
        Source(
            video_id=ids[video.uri],
            uri=video.uri,
            kind=video.kind,
            bytes=video.facts.bytes,
            mtime_ns=video.facts.mtime_ns,
            problem=video.problem,
        )
        for video in found.values()
    ]
    return sorted(sources, key=lambda source: source.video_id)


def _no_video(text: str, skipped: Skipped) -> UsageError:
    extensions = " ".join(sorted(VIDEO_EXTENSIONS))
    others = f"; {_summary(skipped)} were skipped" if skipped.total() else ""
    return UsageError(
        f"{shown(text)}: no video found. Looked for files named {extensions} and for folders of "
        f"numbered {' '.join(sorted(IMAGE_EXTENSIONS))} frames{others}. A file with another name "
        "can be given by its own path"
    )


def _log_skipped(skipped: Skipped) -> None:
    if skipped.total():
        logger.info("skipped %s: not videos by their names", _summary(skipped))


def _summary(skipped: Skipped) -> str:
    kinds = ", ".join(f"{name or 'no extension'} {n}" for name, n in skipped.most_common(5))
    return f"{skipped.total()} files ({kinds})"


def _expand(text: str, skipped: Skipped) -> Iterator[Found]:
    """One input. An existing file wins over reading its name as a glob."""
    if is_remote(text):
        yield from _expand_remote(text, skipped)
        return
    path = os.path.abspath(_required(local_path(text)))  # noqa: PTH100 - keeps links' names
    if os.path.isdir(path):  # noqa: PTH112 - plain strings, for names that are not UTF-8
        yield from from_folder(path, path, skipped, by_name=True)
    elif os.path.isfile(path):  # noqa: PTH113
        yield from _from_file(text, path, skipped)
    elif MAGIC.search(path) and not os.path.lexists(path):
        yield from from_glob(path, skipped)
    elif os.path.exists(path):  # noqa: PTH110
        raise UsageError(f"{shown(path)}: expected a file or folder, got a device or pipe")
    else:
        raise UsageError(
            f"{shown(path)}: no such file or folder; "
            f"the nearest folder that exists is {shown(nearest_folder(path))}"
        )


def _required(path: str | None) -> str:
    assert path is not None, "a local address has a path"
    return path


def _from_file(text: str, path: str, skipped: Skipped) -> Iterator[Found]:
    """A file named by itself: a list, or a video whatever its extension."""
    extension = extension_of(path)
    if extension in LIST_EXTENSIONS:
        yield from _from_list(read_list(local_uri(path)), skipped)
    elif extension in IMAGE_EXTENSIONS:
        raise UsageError(f"{shown(text)}: expected a video, got one picture; name its folder")
    else:
        yield found_file(path, os.path.dirname(path))  # noqa: PTH120


# --- list files ---------------------------------------------------------------------------------


def _from_list(entries: Iterable[ListEntry], skipped: Skipped) -> Iterator[Found]:
    """Entries in one list share a root per kind of storage: the common parent."""
    local: list[ListEntry] = []
    remote: dict[str, list[ListEntry]] = collections.defaultdict(list)
    for entry in entries:
        if is_remote(entry.address):
            remote[entry.address.split("://", 1)[0]].append(entry)
        else:
            local.append(entry)
    if not local and not remote:
        raise UsageError("the list is empty; expected one video per line, or a row for each")
    if local:
        yield from _from_local_list(local, skipped)
    for group in remote.values():
        yield from _from_remote_list(group)


def _from_local_list(entries: list[ListEntry], skipped: Skipped) -> Iterator[Found]:
    paths = [_required(local_path(entry.address)) for entry in entries]
    root = os.path.commonpath({os.path.dirname(path) for path in paths})  # noqa: PTH120
    for path, entry in zip(paths, entries, strict=True):
        if not os.path.isdir(path):  # noqa: PTH112
            yield found_file(path, root, entry.video_id)
            continue
        videos = list(from_folder(path, root, skipped))
        if len(videos) == 1:
            yield videos[0]._replace(chosen=entry.video_id)
        elif not videos:
            problem = f"{shown(path)}: no video found in this folder"
            yield _unusable(local_uri(path), path, root, problem, entry)
        elif entry.video_id is not None:
            problem = (
                f"{shown(path)}: the list gives this folder the id {entry.video_id!r}, "
                f"but it holds {len(videos)} videos; list them one by one"
            )
            yield _unusable(local_uri(path), path, root, problem, entry)
        else:
            yield from videos


def _unusable(uri: str, path: str, root: str, problem: str, entry: ListEntry) -> Found:
    below = b"" if path == root else os.fsencode(os.path.relpath(path, root))
    return unlisted(uri, below, "")._replace(kind="images", problem=problem, chosen=entry.video_id)


def _from_remote_list(entries: list[ListEntry]) -> Iterator[Found]:
    uris = [_canonical(entry.address) for entry in entries]
    _refuse_other_credentials(uris, entries)
    root = _common_parent(uris)
    with ThreadPoolExecutor(_FACT_THREADS) as pool:
        all_facts = pool.map(facts_or_unknown, uris)
        for uri, entry, facts in zip(uris, entries, all_facts, strict=True):
            path = uri.removeprefix(root).encode("utf-8", "surrogateescape")
            yield Found(uri, path, "video", facts, entry.video_id)


def _canonical(uri: str) -> str:
    """The address as the store itself writes it; as it stands where none may open it."""
    try:
        return remote_uri(*filesystem(uri))
    except (SourceError, OSError):
        return addresses.keep(uri)  # the probe says what is wrong with it


def _refuse_other_credentials(uris: Sequence[str], entries: Sequence[ListEntry]) -> None:
    """Without what is secret in them, two addresses must not become one video."""
    seen: dict[str, str] = {}
    for uri, entry in zip(uris, entries, strict=True):
        if seen.setdefault(uri, entry.address) != entry.address:
            raise UsageError(
                f"{uri} is listed twice with different credentials, which are not stored, so the"
                " two cannot be told apart; list it once"
            )


def _expand_remote(text: str, skipped: Skipped) -> Iterator[Found]:
    if extension_of(text) in LIST_EXTENSIONS:
        yield from _from_list(read_list(text), skipped)
        return
    try:
        system, inner = filesystem(text)
        if is_remote_glob(text):
            yield from from_remote_glob(text, skipped)
        elif system.info(inner)["type"] == "directory":
            yield from from_remote_folder(text, text, skipped, by_name=True)
        else:
            name = remote_uri(system, inner).rstrip("/").rsplit("/", 1)[-1]
            path = name.encode("utf-8", "surrogateescape")
            facts = facts_of_info(system.info(inner))
            yield Found(remote_uri(system, inner), path, "video", facts)
    except UsageError:
        raise
    except SourceError as error:
        raise UsageError(str(error)) from error
    except FileNotFoundError as error:
        raise UsageError(f"{shown(text)}: no such object or folder in this store") from error
    except Exception as error:  # every store has its own errors
        what = f"{type(error).__name__}: {scrubbed(str(error))}"
        raise UsageError(
            f"{shown(text)}: the store cannot be read; check address and credentials ({what})"
        ) from error


def _common_parent(uris: Sequence[str]) -> str:
    """The longest common prefix that ends with a slash."""
    parents = [uri.split("/")[:-1] for uri in uris]
    first, last = min(parents), max(parents)
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "/".join([*(segment for segment, _ in pairs), ""])


def failed_video(source: Source, reason: str) -> VideoInfo:
    """The row of a video that cannot be used."""
    return VideoInfo(
        video_id=source.video_id,
        uri=source.uri,
        version="",
        bytes=source.bytes,
        mtime_ns=source.mtime_ns,
        height=0,
        width=0,
        num_frames=0,
        fps=0.0,
        duration_seconds=0.0,
        codec="",
        status="failed",
        error=scrubbed(reason),
    )
