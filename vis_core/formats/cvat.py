"""CVAT for video 1.1: one XML file per video, a `<track>` per object with a polygon per frame.

CVAT turns a track of `<mask>` elements into its first mask when it imports one, so tracks are
written as polygons, which keep holes and separate parts (see `polygons`). A track that is not seen
in a frame is closed there with `outside="1"`, or CVAT would carry its last outline on. Frames count
from 0. Scores have no place and are lost. Reading takes polygons and masks, as they stand in each
frame; frames between key frames are not interpolated (CVAT's own exports hold every frame).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from vis_core.config import brief
from vis_core.errors import UsageError
from vis_core.formats.model import IntArray, VideoHeader, VideoTracks, make_tracks
from vis_core.formats.names import file_name, video_id_of
from vis_core.formats.polygons import fill, outlines
from vis_core.masks import rle
from vis_core.types import Category
from vis_core.video.uris import open_regular

_MAX_BYTES = 4 << 30
_MAX_PIXELS = 64_000_000
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BATCH = 1024  # masks outlined at once

# --- writing --------------------------------------------------------------------------------------


class CvatWriter:
    """Writes a file per video."""

    def __init__(self, folder: Path, categories: Sequence[Category]) -> None:
        self._folder = folder
        self._names = {category.label: category.name for category in categories}

    def add(self, tracks: VideoTracks, frames: IntArray) -> None:
        path = self._folder / f"{file_name(tracks.video.video_id)}.xml"
        with path.open("w", encoding="utf-8", newline="\n") as out:
            out.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
            out.write("<version>1.1</version>\n")
            self._write_meta(out, tracks.video)
            for position in range(len(tracks)):
                self._write_track(out, tracks, position, frames)
            out.write("</annotations>\n")

    def close(self) -> None:
        """Every file is written as its video comes."""

    def _write_meta(self, out: IO[str], video: VideoHeader) -> None:
        labels = "".join(
            f"<label><name>{escape(_text(name))}</name><attributes></attributes></label>"
            for name in dict.fromkeys(self._names.values())
        )
        out.write(
            f"<meta><task><name>{escape(_text(video.video_id))}</name>"
            f"<size>{video.num_frames}</size><mode>interpolation</mode>"
            f"<start_frame>0</start_frame><stop_frame>{video.num_frames - 1}</stop_frame>"
            f"<labels>{labels}</labels><original_size><width>{video.width}</width>"
            f"<height>{video.height}</height></original_size></task></meta>\n"
        )

    def _write_track(
        self, out: IO[str], tracks: VideoTracks, position: int, frames: IntArray
    ) -> None:
        mine = tracks.of_track(position)
        label = int(tracks.labels[position])
        out.write(
            f'<track id="{int(tracks.track_ids[position])}"'
            f' label={quoteattr(_text(self._names.get(label, str(label))))} source="auto">\n'
        )
        seen = tracks.frame_index[mine]
        # The frame after each, of those looked at; a track not seen there ends there.
        place = np.searchsorted(frames, seen) + 1
        following = np.append(frames, -1)[np.minimum(place, len(frames))]
        ends = (following >= 0) & ~np.isin(following, seen)
        masks = list(tracks.masks[mine])
        points = (
            _points(polygon)
            for start in range(0, len(masks), _BATCH)
            for polygon in outlines(masks[start : start + _BATCH], tracks.video.size)
        )
        for frame, after, end, text in zip(
            seen.tolist(), following.tolist(), ends.tolist(), points, strict=True
        ):
            _write_polygon(out, frame, text, outside=False)
            if end:
                _write_polygon(out, after, text, outside=True)
        out.write("</track>\n")


def _write_polygon(out: IO[str], frame: int, points: str, *, outside: bool) -> None:
    out.write(
        f'<polygon frame="{frame}" outside="{int(outside)}" occluded="0" keyframe="1"'
        f' points="{points}" z_order="0"></polygon>\n'
    )


def _points(polygon: IntArray) -> str:
    return ";".join(f"{x}.00,{y}.00" for x, y in polygon.tolist())


def _text(value: str) -> str:
    """XML has no control characters, not even as references."""
    return _NOT_XML.sub("\ufffd", value)


# --- reading --------------------------------------------------------------------------------------


def read_cvat(path: str, labels: Mapping[str, int] | None = None) -> VideoTracks:
    """One file; `labels` numbers the names, by default from 1 in the order of the task's list."""
    found = _Reader(path)
    header = found.header()
    numbers = labels or {name: number for number, name in enumerate(found.labels, 1)}
    for name in found.track_labels:
        if name not in numbers:
            raise UsageError(f"{path}: a track has label {brief(name)}, which is not listed")
    return make_tracks(
        header,
        track_ids=found.track_ids,
        labels=[numbers[name] for name in found.track_labels],
        scores=np.ones(len(found.track_ids)),
        owner=[shape.owner for shape in found.shapes],
        frame_index=[shape.frame for shape in found.shapes],
        masks=[_mask_of(shape, header.size, path) for shape in found.shapes],
    )


class _Shape(NamedTuple):
    owner: int
    frame: int
    kind: str
    attributes: dict[str, str]


class _Reader:
    """What a file says, shapes still as text: a size may come after them."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.labels: list[str] = []
        self.track_ids: list[int] = []
        self.track_labels: list[str] = []
        self.shapes: list[_Shape] = []
        self._meta: dict[str, str] = {}
        self._within: list[str] = []
        self._text = ""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            if Path(path).stat().st_size > _MAX_BYTES:
                raise UsageError(f"{path}: more than {_MAX_BYTES >> 30} GiB, too large to read")
            with open_regular(path) as file:
                parser.ParseFile(file)
        except (expat.ExpatError, LookupError, ValueError) as error:  # or an encoding unknown
            raise UsageError(f"{path}: not XML: {error}") from error
        except OSError as error:
            raise UsageError(f"cannot read {path!r}: {error.strerror or error}") from error

    def header(self) -> VideoHeader:
        """The task's own; its name is the video's."""
        length = self._meta.get("size") or str(self._number(self._meta, "stop_frame", "meta") + 1)
        size = {"size": length}
        return VideoHeader(
            video_id=self._meta.get("name", video_id_of(Path(self._path).stem)),
            height=self._number(self._meta, "height", "meta"),
            width=self._number(self._meta, "width", "meta"),
            num_frames=self._number(size, "size", "meta"),
        )

    def _refuse(self, *_: object) -> None:
        raise UsageError(
            f"{self._path}: it has a DOCTYPE, which CVAT never writes; such declarations can make a"
            " reader fetch files or fill memory, so the file is refused"
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._within.append(name)
        self._text = ""
        if name == "track":
            self.track_ids.append(self._number(attributes, "id", "track"))
            self.track_labels.append(attributes.get("label", ""))
        elif len(self._within) >= 2 and self._within[-2] == "track":
            if name not in ("polygon", "mask"):
                raise UsageError(
                    f"{self._path}: track {self.track_ids[-1]} is made of <{name}>; only <polygon>"
                    " and <mask> say which pixels are meant"
                )
            if attributes.get("outside") != "1":
                frame = self._number(attributes, "frame", name)
                self.shapes.append(_Shape(len(self.track_ids) - 1, frame, name, attributes))

    def _end(self, name: str) -> None:
        self._within.pop()
        parent = self._within[-1] if self._within else ""
        if name == "name" and parent == "label":
            self.labels.append(self._text)
        elif parent in ("task", "job", "original_size") and "meta" in self._within:
            self._meta.setdefault(name, self._text)
        self._text = ""

    def _characters(self, text: str) -> None:
        if "meta" in self._within:
            self._text += text

    def _number(self, values: Mapping[str, str], name: str, where: str) -> int:
        text = values.get(name, "")
        if not (text.isdecimal() and len(text) < 10):
            raise UsageError(
                f"{self._path}: {where}: expected a whole number under {name!r}, got {brief(text)}"
            )
        return int(text)


def _mask_of(shape: _Shape, size: rle.Size, path: str) -> bytes:
    where = f"{path}: <{shape.kind}> in frame {shape.frame}"
    try:
        if shape.kind == "polygon":
            text = shape.attributes["points"].replace(";", ",").split(",")
            return fill(np.array(text, np.float64).reshape(-1, 2), size, where)
        counts = np.array(shape.attributes["rle"].split(","), np.int64)
        names = ("left", "top", "width", "height")
        x0, y0, width, height = (int(shape.attributes[name]) for name in names)
        if (counts < 0).any() or counts.sum() != width * height or width * height > _MAX_PIXELS:
            raise ValueError(f"its runs do not cover {width} x {height} pixels")
        pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
        return rle.encode_crops([rle.Crop(mask=pixels, x0=x0, y0=y0)], size)[0]
    except (KeyError, ValueError, OverflowError) as error:
        raise UsageError(f"{where}: {error}") from error
