"""COCO-VID JSON, which TAO shares: images, tracks, and one annotation per track and frame.

`frame_index` counts from 0. Categories that were not looked for in a video (TAO's
`neg_category_ids`) are passed over when reading and not known when writing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vis_core.errors import UsageError
from vis_core.formats import fields
from vis_core.formats.json_index import JsonIndex, Place
from vis_core.formats.model import IntArray, VideoHeader, VideoTracks, boxes_xywh, make_tracks
from vis_core.formats.names import relative_path
from vis_core.formats.output import JsonLists, VideoSpool
from vis_core.formats.segmentations import read_segmentations, write_segmentation
from vis_core.types import Category


class CocoVideoFile:
    """A file in COCO-VID format: structure checked at once, masks read video by video."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._index = JsonIndex(path)
        self.categories: list[Category] = []
        self.headers: dict[int, VideoHeader] = {}
        self._frames: dict[int, tuple[int, int]] = {}  # image to (video, frame)
        self._tracks: dict[int, tuple[int, float]] = {}  # track to (label, score)
        self._annotations: dict[int, list[Place]] = {}
        videos: dict[int, Any] = {}
        owners: list[tuple[int, Place]] = []
        for key, place, value in self._index.elements():
            where = f"{path}: {key}"
            row = fields.record(value, where)
            if key == "annotations":
                owners.append((fields.whole(row, "image_id", where), place))
                continue
            if key not in ("videos", "images", "tracks", "categories"):
                continue
            number = fields.whole(row, "id", where)
            if key == "videos":
                videos[number] = row
            elif key == "images":
                video = fields.whole(row, "video_id", where)
                self._frames[number] = (video, fields.whole(row, "frame_index", where))
                videos.setdefault(video, {}).setdefault("height", row.get("height"))
                videos[video].setdefault("width", row.get("width"))
            elif key == "tracks":
                score = fields.number(row, "score", where) if "score" in row else 1.0
                self._tracks[number] = (fields.whole(row, "category_id", where), score)
            else:
                name = str(row.get("name", number))
                self.categories.append(Category(label=number, name=name, source="coco"))
        self._set_headers(videos)
        for image, place in owners:
            if image not in self._frames:
                raise UsageError(f"{path}: an annotation names image {image}, which is not listed")
            self._annotations.setdefault(self._frames[image][0], []).append(place)

    def tracks(self) -> Iterator[VideoTracks]:
        """Every video, in order of their numbers."""
        for number in sorted(self.headers):
            yield self._video(self.headers[number], self._annotations.get(number, []))

    def _set_headers(self, videos: dict[int, Any]) -> None:
        last: dict[int, int] = {}
        for video, frame in self._frames.values():
            last[video] = max(last.get(video, 0), frame)
        for number, row in videos.items():
            where = f"{self.path}: video {number}"
            seen = last.get(number, -1) + 1
            length = fields.whole(row, "length", where) if "length" in row else seen
            name = row.get("video_id", row.get("name"))
            self.headers[number] = VideoHeader(
                video_id=name if isinstance(name, str) else str(number),
                height=fields.whole(row, "height", where, lowest=1),
                width=fields.whole(row, "width", where, lowest=1),
                num_frames=max(length, seen),
            )

    def _video(self, header: VideoHeader, places: Sequence[Place]) -> VideoTracks:
        positions: dict[int, int] = {}
        labels: list[int] = []
        scores: list[float] = []
        owner, frames, masks = [], [], []
        for row in self._index.read(places):
            where = f"{self.path}: annotation {row.get('id')}"
            track = fields.whole(row, "track_id", where)
            if track not in positions:
                positions[track] = len(positions)
                label, score = self._tracks.get(track) or (
                    fields.whole(row, "category_id", where),
                    fields.number(row, "score", where) if "score" in row else 1.0,
                )
                labels.append(label)
                scores.append(score)
            _, found = read_segmentations([row.get("segmentation")], header.size, where)
            if not found:
                raise UsageError(f"{where}: it has no segmentation; a box alone is no mask")
            owner.append(positions[track])
            frames.append(self._frames[row["image_id"]][1])
            masks += found
        return make_tracks(
            header,
            track_ids=list(positions),
            labels=labels,
            scores=scores,
            owner=owner,
            frame_index=frames,
            masks=masks,
        )


class CocoVideoWriter:
    """One file for all videos; `frames` are those that were looked at."""

    def __init__(self, path: Path, categories: Sequence[Category]) -> None:
        self._path = path
        self._categories = categories
        self._spool = VideoSpool(path.parent)

    def add(self, tracks: VideoTracks, frames: IntArray) -> None:
        """Ids count from 1 within the video; they become the file's own at the end."""
        header = tracks.video
        size = {"height": header.height, "width": header.width}
        image = {frame: number for number, frame in enumerate(frames.tolist(), 1)}
        folder = relative_path(header.video_id)
        boxes = boxes_xywh(tracks).tolist()
        annotations = [
            {
                "image_id": image[frame],
                "track_id": owner + 1,
                "category_id": int(tracks.labels[owner]),
                "bbox": box,
                "area": area,
                "iscrowd": 0,
                "score": float(tracks.scores[owner]),
                "segmentation": write_segmentation(mask, header.size),
            }
            for owner, frame, box, area, mask in zip(
                tracks.owner.tolist(),
                tracks.frame_index.tolist(),
                boxes,
                tracks.areas.tolist(),
                tracks.masks,
                strict=True,
            )
        ]
        value = {
            "videos": [{"name": header.video_id, "length": header.num_frames, **size}],
            "images": [
                {"frame_index": frame, "file_name": f"{folder}/{frame:05d}.jpg", **size}
                for frame in frames.tolist()
            ],
            "tracks": [
                {"category_id": label, "score": score}
                for label, score in zip(tracks.labels.tolist(), tracks.scores.tolist(), strict=True)
            ],
            "annotations": annotations,
        }
        self._spool.add(header.video_id, value)

    def close(self) -> None:
        head = {
            "info": {"description": "exported by reelmask"},
            "categories": [{"id": c.label, "name": c.name} for c in self._categories],
        }
        counts = dict.fromkeys(("videos", "images", "tracks", "annotations"), 0)
        with self._spool, JsonLists(self._path, head, counts) as out:
            for _, found in self._spool.in_order():
                base = counts.copy()
                for name in counts:
                    for row in found[name]:
                        counts[name] += 1
                        for key, of in (("image_id", "images"), ("track_id", "tracks")):
                            if key in row:
                                row[key] += base[of]
                        video = {} if name == "videos" else {"video_id": base["videos"] + 1}
                        out.add(name, {"id": counts[name], **video, **row})
