"""SA-V masklets (reading): per video one JSON, a list of masks per annotated frame.

The data set is annotated at 6 frames a second of a video of 24: the masks are those of every fourth
frame of the source, and `frame_index` counts frames of the source. An object that is not seen has
an empty mask.
"""

from __future__ import annotations

import json

import numpy as np

from vis_core.errors import UsageError
from vis_core.formats import fields
from vis_core.formats.model import VideoHeader, VideoTracks, make_tracks
from vis_core.formats.segmentations import read_segmentations
from vis_core.video.uris import open_regular

EVERY = 4
_MAX_BYTES = 1 << 30


def read_sav(path: str) -> VideoTracks:
    """The masklets of one video."""
    content = _load(path)
    header = VideoHeader(
        video_id=fields.text(content, "video_id", path),
        height=fields.whole(content, "video_height", path, lowest=1),
        width=fields.whole(content, "video_width", path, lowest=1),
        num_frames=fields.whole(content, "video_frame_count", path),
    )
    ids = [fields.whole({"id": i}, "id", path) for i in fields.a_list(content, "masklet_id", path)]
    owner: list[int] = []
    frames: list[int] = []
    masks: list[bytes] = []
    for position, items in enumerate(fields.a_list(content, "masklet", path)):
        where = f"{path}: masklet frame {position}"
        if not isinstance(items, list) or len(items) != len(ids):
            raise UsageError(f"{where}: expected a mask for each of {len(ids)} masklets")
        seen, found = read_segmentations(items, header.size, where)
        owner += seen
        frames += [position * EVERY] * len(seen)
        masks += found
    return make_tracks(
        header,
        track_ids=ids,
        labels=np.ones(len(ids)),
        scores=np.ones(len(ids)),
        owner=owner,
        frame_index=frames,
        masks=masks,
    )


def _load(path: str) -> dict[str, object]:
    try:
        with open_regular(path) as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise UsageError(f"{path}: more than {_MAX_BYTES >> 20} MiB, too large for one video")
        content = json.loads(data)
    except OSError as error:
        raise UsageError(f"cannot read {path!r}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a masklet file (JSON): {error}") from error
    return dict(fields.record(content, path))
