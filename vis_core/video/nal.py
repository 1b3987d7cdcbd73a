"""Just enough of H.264 and HEVC packets to see whether one starts a picture that needs no other."""

from __future__ import annotations

from collections.abc import Iterator

_H264_IDR = 5  # H.264 table 7-1
_HEVC_IRAP = range(16, 22)  # HEVC table 7-1: BLA, IDR and CRA pictures


def is_random_access(codec: str, extradata: bytes | None, packet: bytes) -> bool:
    """Whether the packet says so itself; False where that takes decoding to find out."""
    if codec == "h264":
        return any(header & 0x1F == _H264_IDR for header in _headers(extradata, 4, packet))
    if codec == "hevc":
        headers = _headers(extradata, 21, packet)
        return any(header >> 1 & 0x3F in _HEVC_IRAP for header in headers)
    return False


def _headers(extradata: bytes | None, size_at: int, packet: bytes) -> Iterator[int]:
    """First byte of each NAL unit; MP4 and Matroska prefix lengths, streams use start codes."""
    if extradata and extradata[0] == 1 and len(extradata) > size_at:
        return _after_lengths((extradata[size_at] & 3) + 1, packet)
    return _after_start_codes(packet)


def _after_lengths(length_bytes: int, packet: bytes) -> Iterator[int]:
    position = 0
    while position + length_bytes < len(packet):
        size = int.from_bytes(packet[position : position + length_bytes])
        yield packet[position + length_bytes]
        position += length_bytes + size


def _after_start_codes(packet: bytes) -> Iterator[int]:
    position = packet.find(b"\0\0\1")
    while 0 <= position < len(packet) - 3:
        yield packet[position + 3]
        position = packet.find(b"\0\0\1", position + 3)
