"""The name of a video: readable, unique, and the same for ever.

An id is the path relative to the input root without extension. It is used as a folder name by
exports and as a key everywhere, so what could leave a folder, end a string early or print
nonsense is percent-encoded; `%` too, which makes the encoding one to one.
"""

from __future__ import annotations

import hashlib
import logging
import unicodedata
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from vis_core.errors import UsageError
from vis_core.video.uris import split_extension

logger = logging.getLogger(__name__)

_EMPTY = "%2F"  # an empty segment ("a//b" is legal in object stores); no segment holds a slash
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
_HASH_DIGITS = 8


class Candidate(NamedTuple):
    """A video that needs an id."""

    uri: str
    path: bytes  # relative to its input root
    is_folder: bool = False  # of frames: a dot in its name begins no extension
    chosen: str | None = None  # an id its owner gave in a list file


def video_id_for(path: bytes, *, keep_extension: bool = False) -> str:
    """The id of a path relative to the input root."""
    stem = path if keep_extension else split_extension(path)[0]
    return "/".join(_encode(segment) for segment in stem.split(b"/"))


def _encode(segment: bytes) -> str:
    if segment in (b".", b".."):
        return segment.decode().replace(".", "%2E")
    # Bytes that are not UTF-8 become lone surrogates, which _UNPRINTABLE holds.
    text = segment.decode("utf-8", "surrogateescape")
    return "".join(map(_encode_character, text)) or _EMPTY


def _encode_character(character: str) -> str:
    if character in "%\\" or unicodedata.category(character) in _UNPRINTABLE:
        return urllib.parse.quote(character.encode("utf-8", "surrogateescape"), safe="")
    return character


def assign_ids(candidates: Iterable[Candidate], known: Mapping[str, str]) -> dict[str, str]:
    """Id by uri. Known uris keep theirs; newcomers take what is free, in order of uri."""
    newcomers: dict[str, Candidate] = {}
    for candidate in candidates:
        if candidate.uri not in known:
            rival = newcomers.get(candidate.uri)
            newcomers[candidate.uri] = min(candidate, rival or candidate, key=_precedence)
        elif candidate.chosen not in (None, known[candidate.uri]):
            logger.warning(
                "%s keeps its id %r; the listed id %r has no effect, since results refer to it",
                *(candidate.uri, known[candidate.uri], candidate.chosen),
            )
    ids: dict[str, str] = {}
    owners = {video_id: uri for uri, video_id in known.items()}
    # Chosen ids first: they cannot move aside, so nothing else may take them.
    for candidate in sorted(newcomers.values(), key=lambda c: (c.chosen is None, c.uri)):
        video_id = _claim(candidate, owners)
        owners[video_id] = candidate.uri
        ids[candidate.uri] = video_id
    return ids | dict(known)


def _precedence(candidate: Candidate) -> tuple[bool, int, bytes]:
    """One file named by two inputs: a chosen id wins, else the outermost root."""
    return candidate.chosen is None, -len(candidate.path), candidate.path


def _claim(candidate: Candidate, owners: Mapping[str, str]) -> str:
    if candidate.chosen is not None:
        return _chosen(candidate.chosen, candidate.uri, owners)
    full = video_id_for(candidate.path, keep_extension=True)
    short = full if candidate.is_folder else video_id_for(candidate.path)
    digest = hashlib.sha256(candidate.uri.encode("utf-8", "surrogateescape")).hexdigest()
    hashed = (f"{full}~{digest[:digits]}" for digits in range(_HASH_DIGITS, len(digest) + 1))
    for video_id in (short, full, *hashed):
        if video_id not in owners:
            return video_id
    raise AssertionError(f"{candidate.uri}: every id it could have is taken")


def _chosen(video_id: str, uri: str, owners: Mapping[str, str]) -> str:
    safe = all(
        segment not in ("", ".", "..")
        and "\\" not in segment
        and not any(unicodedata.category(character) in _UNPRINTABLE for character in segment)
        for segment in video_id.split("/")
    )
    if not safe:
        raise UsageError(
            f"{uri}: the listed video_id {video_id!r} cannot name a file; expected segments "
            "without '.', '..', backslash or control characters, separated by single slashes"
        )
    if video_id in owners:
        raise UsageError(
            f"{uri}: the listed video_id {video_id!r} already belongs to {owners[video_id]}; "
            "give each video its own"
        )
    return video_id
