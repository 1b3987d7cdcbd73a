"""Tracks of random shapes, and small results folders and JSON files made of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vis_core import schema
from vis_core.formats.model import Entries, VideoHeader, VideoTracks, make_tracks
from vis_core.masks import rle


def random_masks(rng: np.random.Generator, num: int, size: tuple[int, int]) -> list[bytes]:
    """Speckles, blobs with holes, single pixels, everything, nothing."""
    height, width = size
    y, x = np.ogrid[:height, :width]
    found = []
    for _ in range(num):
        kind = rng.integers(5)
        middle = rng.uniform(0, height), rng.uniform(0, width)
        away = np.hypot(y - middle[0], x - middle[1])
        radius = rng.uniform(0, max(size) / 2)
        found.append(
            [
                rng.random(size) < rng.random(),
                (away < radius) & (away >= radius * rng.uniform(0, 0.8)),
                (y == int(middle[0])) & (x == int(middle[1])),
                np.ones(size, bool),
                np.zeros(size, bool),
            ][kind]
        )
    return rle.encode(np.array(found, bool).reshape(num, *size))


def random_tracks(
    seed: int,
    *,
    video_id: str = "clip",
    num_tracks: int = 3,
    num_frames: int = 4,
    size: tuple[int, int] = (9, 13),
    num_labels: int = 2,
) -> VideoTracks:
    """Every track has a mask in at least one frame, unless it drew only empty ones."""
    rng = np.random.default_rng(seed)
    owner, frames = [], []
    for track in range(num_tracks):
        seen = np.flatnonzero(rng.random(num_frames) < 0.7)
        seen = seen if len(seen) else np.array([rng.integers(num_frames)])
        owner += [track] * len(seen)
        frames += seen.tolist()
    labels = rng.integers(1, num_labels + 1, num_tracks)
    scores = np.round(rng.random(num_tracks), 2).astype(np.float32)
    return make_tracks(
        VideoHeader(video_id=video_id, height=size[0], width=size[1], num_frames=num_frames),
        track_ids=np.arange(num_tracks),
        labels=labels,
        scores=scores,
        owner=owner,
        frame_index=frames,
        masks=random_masks(rng, len(owner), size),
        mask_scores=rng.random(len(owner)).astype(np.float32),
    )


def without_empty(tracks: VideoTracks) -> VideoTracks:
    """Only tracks that are seen, numbered anew: what a results folder holds."""
    keep = np.flatnonzero(np.diff(tracks.offsets))
    place = np.full(len(tracks), -1)
    place[keep] = np.arange(len(keep))
    lines = tracks.entries.where(place[tracks.entries.track] >= 0)
    return make_tracks(
        tracks.video,
        track_ids=np.arange(len(keep)),
        labels=tracks.labels[keep],
        scores=tracks.scores[keep],
        owner=place[tracks.owner],
        frame_index=tracks.frame_index,
        masks=tracks.masks,
        mask_scores=tracks.mask_scores,
        entries=Entries(track=place[lines.track], labels=lines.labels, scores=lines.scores),
    )


def contents(tracks: VideoTracks) -> dict:
    """What two equal videos have equal, whatever the tracks are called: masks by frame."""
    return {
        int(track_id): {
            int(frame): mask
            for frame, mask in zip(
                tracks.frame_index[tracks.of_track(i)],
                tracks.masks[tracks.of_track(i)],
                strict=True,
            )
        }
        for i, track_id in enumerate(tracks.track_ids)
    }


def write_results(
    folder: Path,
    videos: list[VideoTracks],
    *,
    categories: dict[int, str] | None = None,
    shuffle: int | None = None,
    files: int = 1,
    row_group: int = 1 << 20,
) -> Path:
    """`tracks/` and `masks/` as any tool might write them; `categories` adds that table."""
    tracks = pa.concat_tables([_track_rows(video) for video in videos])
    masks = pa.concat_tables([_mask_rows(video) for video in videos])
    rng = np.random.default_rng(shuffle)
    for under, rows in (("tracks", tracks), ("masks", masks)):
        if shuffle is not None:
            rows = rows.take(pa.array(rng.permutation(len(rows))))
        (folder / under).mkdir(parents=True)
        step = -(-max(len(rows), 1) // files)
        for number in range(files):
            part = rows.slice(number * step, step)
            path = folder / under / f"part-{number:05d}.parquet"
            pq.write_table(part, path, row_group_size=row_group)
    if categories is not None:
        rows = [
            {"member": "", "label": label, "name": name, "source": ""}
            for label, name in categories.items()
        ]
        (folder / "categories").mkdir()
        pq.write_table(
            pa.Table.from_pylist(rows, schema=schema.CATEGORIES),
            folder / "categories" / "categories.parquet",
        )
    return folder


def _track_rows(video: VideoTracks) -> pa.Table:
    lines = video.entries
    rows = []
    for i in range(len(video)):
        frames = video.frame_index[video.of_track(i)]
        mine = np.flatnonzero(lines.track == i)
        rows.append(
            {
                "video_id": video.video.video_id,
                "track_id": int(video.track_ids[i]),
                "label": int(video.labels[i]),
                "score": float(video.scores[i]),
                "entries": [
                    {"label": int(lines.labels[k]), "score": float(lines.scores[k])} for k in mine
                ],
                "start_frame": int(frames[0]),
                "stop_frame": int(frames[-1]) + 1,
                "num_frames": len(frames),
                "num_missing_frames": 0,
                "height": video.video.height,
                "width": video.video.width,
                "video_num_frames": video.video.num_frames,
                "members": [""],
            }
        )
    return pa.Table.from_pylist(rows, schema=schema.TRACKS)


def _mask_rows(video: VideoTracks) -> pa.Table:
    boxes = rle.boxes(video.masks, video.video.size).tolist()
    rows = [
        {
            "video_id": video.video.video_id,
            "track_id": int(video.track_ids[owner]),
            "frame_index": int(frame),
            "box": box,
            "mask": mask,
            "score": None if np.isnan(score) else float(score),
        }
        for owner, frame, box, mask, score in zip(
            video.owner, video.frame_index, boxes, video.masks, video.mask_scores, strict=True
        )
    ]
    return pa.Table.from_pylist(rows, schema=schema.MASKS)


def truth_json(videos: list[VideoTracks], *, crowd: frozenset[int] = frozenset()) -> dict:
    """A truth file in YouTube-VIS format; video k has number k + 1."""
    labels = sorted({int(label) for video in videos for label in video.labels} | {1, 2})
    annotations: list[dict] = []
    for number, video in enumerate(videos, 1):
        for i in range(len(video)):
            identity = len(annotations) + 1
            row = {"id": identity, "video_id": number, "category_id": int(video.labels[i])}
            annotations.append(
                {**row, "iscrowd": int(identity in crowd), "segmentations": _nullable(video, i)}
            )
    return {
        "videos": [
            {
                "id": number,
                "height": video.video.height,
                "width": video.video.width,
                "length": video.video.num_frames,
                "file_names": [
                    f"{video.video.video_id}/{k:05d}.jpg" for k in range(video.video.num_frames)
                ],
            }
            for number, video in enumerate(videos, 1)
        ],
        "annotations": annotations,
        "categories": [{"id": label, "name": f"kind {label}"} for label in labels],
    }


def results_json(videos: list[VideoTracks]) -> list[dict]:
    """A results file; video k has number k + 1."""
    return [
        {
            "video_id": number,
            "category_id": int(label),
            "score": float(score),
            "segmentations": _nullable(video, int(track)),
        }
        for number, video in enumerate(videos, 1)
        for track, label, score in zip(
            video.entries.track, video.entries.labels, video.entries.scores, strict=True
        )
    ]


def _nullable(video: VideoTracks, position: int) -> list:
    row: list = [None] * video.video.num_frames
    mine = video.of_track(position)
    for frame, mask in zip(video.frame_index[mine].tolist(), video.masks[mine], strict=True):
        row[frame] = {"size": list(video.video.size), "counts": mask.decode()}
    return row


def write_json(path: Path, content: object) -> str:
    path.write_text(json.dumps(content))
    return str(path)
