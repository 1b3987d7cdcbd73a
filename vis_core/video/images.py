"""A folder of JPEG or PNG frames is a video too.

All frames have the size of the first one that can be read; a frame of another size becomes a
hole when it is decoded, not a scaled picture: masks live in the pixels of the original, and an
odd size among frames is nearly always a foreign picture (a thumbnail, a contact sheet).
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
import re
import urllib.parse
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from vis_core.addresses import filesystem, scrubbed
from vis_core.errors import SourceChangedError, SourceError
from vis_core.types import VideoInfo
from vis_core.video.limits import Limits
from vis_core.video.uris import (
    facts_of_info,
    is_transient,
    local_path,
    open_file,
    read_ends,
    shown,
    split_extension,
)

if TYPE_CHECKING:
    from PIL import Image

    from vis_core.video.sources import Source

IMAGE_EXTENSIONS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}
_PILLOW_FORMATS = ("JPEG", "PNG")  # no other parser sees an untrusted file
_DIGITS = re.compile(r"([0-9]+)")
_END_BYTES = 4 << 10
_MAX_FPS_DENOMINATOR = 10_000
_State: TypeAlias = tuple[int | str, ...] | None


def frame_names(names: Iterable[str]) -> list[str]:
    """The frames among the file names of one folder, in order; empty where there are none.

    Frames are numbered, so a poster beside them is none. Where JPEG and PNG are mixed, PNGs
    are usually masks of the JPEGs: the more frequent kind counts, JPEG in a draw.
    """
    kinds: dict[str, list[str]] = collections.defaultdict(list)
    for name in names:
        stem, extension = split_extension(name)
        kind = IMAGE_EXTENSIONS.get(extension.lower())
        if kind and not name.startswith(".") and _DIGITS.search(stem):
            kinds[kind].append(name)
    if not kinds:
        return []
    return sorted(kinds[max(sorted(kinds), key=lambda kind: len(kinds[kind]))], key=_natural)


def _natural(name: str) -> tuple[list[str | int], str]:
    """`frame2` before `frame10`; `1` before `01` where only the padding differs."""
    parts = _DIGITS.split(name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def list_frames(uri: str) -> list[str]:
    """Addresses of the frames of a folder, in order of frame_index."""
    return [frame for frame, _ in _listed(uri)]


def _listed(uri: str) -> list[tuple[str, _State]]:
    """Frames, with what a store's listing says of each; a local one says nothing."""
    try:
        states = _states_in(uri)
    except OSError as error:
        reason = error.strerror or scrubbed(str(error))
        raise SourceError(f"{shown(uri)}: the folder cannot be listed: {reason}") from error
    names = frame_names(states)
    return list(zip(_addresses(uri, names), map(states.__getitem__, names), strict=True))


def _states_in(uri: str) -> dict[str, _State]:
    path = local_path(uri)
    if path is not None:
        return dict.fromkeys(os.listdir(path))  # noqa: PTH208 - names only, of many files
    system, inner = filesystem(uri)
    system.invalidate_cache(inner)
    found = system.ls(inner, detail=True)
    system.invalidate_cache(inner)  # else questions about one picture are answered from it
    return {str(info["name"]).rsplit("/", 1)[-1]: _remote_state(info) for info in found}


def _addresses(uri: str, names: Iterable[str]) -> list[str]:
    path = local_path(uri)
    if path is None:
        return [f"{uri.rstrip('/')}/{name}" for name in names]
    base = uri.rstrip("/")
    if not uri.startswith("file:"):
        return [f"{base}/{name}" for name in names]
    return [f"{base}/{urllib.parse.quote_from_bytes(os.fsencode(name))}" for name in names]


@dataclasses.dataclass(frozen=True, slots=True)
class Pictures:
    """The frames of a folder, as they were when its version was computed."""

    uris: list[str]
    bytes: int
    version: str
    states: list[_State]  # None: it could not be read

    def read(self, index: int, limits: Limits) -> npt.NDArray[np.uint8]:
        """One picture. Raises SourceChangedError where it is not the one of this version."""
        uri, expected = self.uris[index], self.states[index]
        try:
            with open_file(uri) as file:
                before = _state_of(uri, file)
                pixels = _read(file, uri, limits) if before == expected else None
                after = _state_of(uri)
        except SourceError:
            if expected is None or _is_the_same(uri, expected):
                raise  # damaged, and was so from the beginning
            raise self._changed(uri) from None
        if pixels is None or after != expected:
            raise self._changed(uri)
        return pixels

    def _changed(self, uri: str) -> SourceChangedError:
        return SourceChangedError(
            f"{shown(uri)}: the picture was changed since the index saw it; run the command again"
        )


def _remote_state(info: dict[str, Any]) -> _State:
    facts = facts_of_info(info)
    # Stores tell times to the second in one answer, and to less in another.
    return facts.bytes, facts.etag or facts.mtime_ns


def _is_the_same(uri: str, state: _State) -> bool:
    try:
        return _state_of(uri) == state
    except (OSError, SourceError):
        return False


def _state_of(uri: str, file: BinaryIO | None = None) -> _State:
    """What changes when a picture does, of an open file, or of what has its name now."""
    path = local_path(uri)
    if path is None:
        system, inner = filesystem(uri)
        return _remote_state(system.info(inner))
    status = os.stat(path) if file is None else os.fstat(file.fileno())  # noqa: PTH116
    # Times can be set by anybody, but for the last one; a swap of two names shows in the first.
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read_frame(uri: str, limits: Limits | None = None) -> npt.NDArray[np.uint8]:
    """One picture as RGB, upright. Raises SourceError where it is damaged or too large."""
    with open_file(uri) as file:
        return _read(file, uri, limits or Limits())


def _read(file: BinaryIO, uri: str, limits: Limits) -> npt.NDArray[np.uint8]:
    from PIL import ImageOps

    image = _open_image(file, uri, limits)
    try:
        return _to_rgb(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for bad data
        raise SourceError(f"{shown(uri)}: the picture is damaged: {error}") from error


def _open_image(file: object, uri: str, limits: Limits) -> Image.Image:
    """Parses the header only, so that the size is known before memory is spent on it."""
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow's own limit is a warning at a fixed size; ours follows and is an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file, formats=_PILLOW_FORMATS)  # type: ignore[arg-type]
    except Image.DecompressionBombError as error:
        raise SourceError(f"{shown(uri)}: the picture is too large: {error}") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise SourceError(f"{shown(uri)}: expected a JPEG or PNG picture; {error}") from error
    if image.width * image.height > limits.max_frame_pixels:
        raise SourceError(
            f"{shown(uri)}: {image.width}x{image.height} pixels exceed "
            f"{limits.max_frame_pixels} (max_frame_pixels)"
        )
    return image


def _to_rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bit gray: Pillow would clip to 255 instead of scaling
        gray = (np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    if image.has_transparency_data:  # what is under a transparent pixel was never meant to show
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return np.array(image.convert("RGB"))


def probe_images(source: Source, limits: Limits, fps: float = 1.0) -> VideoInfo:
    """One row of `videos` for a folder of frames."""
    frames = list_frames(source.uri)
    if not frames:
        raise SourceError(f"{shown(source.uri)}: no numbered .jpg, .jpeg or .png files in it")
    if len(frames) > limits.max_frames:
        raise SourceError(
            f"{shown(source.uri)}: more than {limits.max_frames} frames (max_video_frames)"
        )
    height, width = _first_size(frames, limits)
    pictures = look_at(source.uri)
    rate = Fraction(fps).limit_denominator(_MAX_FPS_DENOMINATOR)
    return VideoInfo(
        video_id=source.video_id,
        uri=source.uri,
        version=pictures.version,
        bytes=pictures.bytes,
        mtime_ns=source.mtime_ns,
        height=height,
        width=width,
        num_frames=len(frames),
        fps=fps,
        duration_seconds=len(frames) / fps,
        codec="images",
        key_frames=np.arange(len(frames), dtype=np.int32),
        time_base=(rate.denominator, rate.numerator),
    )


def _first_size(frames: list[str], limits: Limits) -> tuple[int, int]:
    """Display height and width, from the first header that can be read."""
    from PIL import ExifTags

    first_error = None
    for uri in frames:
        try:
            with open_file(uri) as file:
                image = _open_image(file, uri, limits)
                turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
                return (image.width, image.height) if turned else (image.height, image.width)
        except SourceError as error:
            first_error = first_error or error
    raise SourceError(f"none of its {len(frames)} frames can be read; the first: {first_error}")


def look_at(uri: str) -> Pictures:
    """The frames of a folder and their version: names, and etags or sizes and both ends."""
    listed = _listed(uri)
    by_etag = all(state is not None and isinstance(state[1], str) for _, state in listed)
    digest, total, states = hashlib.sha256(), 0, list[_State]()
    for frame, state in listed:
        name = frame.rsplit("/", 1)[-1].encode("utf-8", "surrogateescape")
        if by_etag and state is not None:
            size, content = int(state[0]), str(state[1]).encode()
        else:
            size, content, state = _ends_of(frame)
        digest.update(hashlib.sha256(name).digest() + size.to_bytes(8))
        digest.update(hashlib.sha256(content).digest())
        states.append(state)
        total += size
    version = f"{total}-{digest.hexdigest()[:16]}"
    return Pictures([frame for frame, _ in listed], total, version, states)


def _ends_of(uri: str) -> tuple[int, bytes, _State]:
    """Size, both ends and state of a picture; one that cannot be read is a hole, no failure."""
    try:
        with open_file(uri) as file:
            state = _state_of(uri, file)
            size, head, tail = read_ends(file, _END_BYTES)
    except (SourceError, OSError) as error:
        if is_transient(error) or is_transient(error.__cause__):
            raise
        return 0, b"cannot be read", None
    return size, head + tail, state
