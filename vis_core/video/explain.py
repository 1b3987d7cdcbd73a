"""Why a file is not a readable video, in words its owner can act on.

Looks at the bytes itself: FFmpeg says "Invalid data found" to all of these.
"""

from __future__ import annotations

import io
from typing import BinaryIO

_HEAD_BYTES = 512
_MAX_BOXES = 10_000
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<MPD", b"[playlist]", b"<ASX", b"<smil")
_MAGICS = (
    (b"\xff\xd8\xff", "a JPEG picture; a folder of pictures can be labelled, one picture cannot"),
    (b"\x89PNG", "a PNG picture; a folder of pictures can be labelled, one picture cannot"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"%PDF", "a PDF document"),
    (b"ID3", "an audio file (MP3)"),
    (b"fLaC", "an audio file (FLAC)"),
)
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"uuid")


def explain_unreadable(file: BinaryIO) -> str | None:
    """A sentence about what the file is instead; None where nothing is recognised."""
    size = file.seek(0, io.SEEK_END)
    if size == 0:
        return "the file is empty (0 bytes); copy it again from where it came"
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    if not head.strip(b"\0"):
        return "the file begins with zero bytes only, as a download that never finished does"
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(_PLAYLISTS) or b"<MPD" in head:
        return (
            "the file is a playlist, not a video; playlists are not followed, "
            "name the files it lists as inputs"
        )
    for magic, what in _MAGICS:
        if head.startswith(magic):
            return f"expected a video, got {what}"
    if head[4:8] in _BOXES:
        return _explain_boxes(file, size)
    return "expected a video, got a text file" if _is_text(head) else None


def _is_text(head: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r\n\f" for byte in head) and b"\x7f" not in head


def _explain_boxes(file: BinaryIO, size: int) -> str | None:
    """Walks the top level of an MP4/MOV, where a cut-off recording shows."""
    position = 0
    seen: list[bytes] = []
    for _ in range(_MAX_BOXES):
        if position + 8 > size:
            break
        file.seek(position)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4]), header[4:8]
        length = int.from_bytes(header[8:16]) if length == 1 else length or size - position
        seen.append(kind)
        if position + length > size and b"moov" in seen:
            missing = position + length - size
            return f"the MP4 is cut off: {missing} bytes of its {_name(kind)} box are missing"
        position += max(length, 8)
    if b"moov" not in seen:
        return (
            "the MP4 has no index (moov box): the recording or copy was cut short; "
            "copy it again, or rebuild the index with a repair tool"
        )
    return None


def _name(kind: bytes) -> str:
    return kind.decode("latin-1").strip() if kind.isalnum() else "unknown"
