"""Overlapping tracks as label maps, in which a pixel has one owner: the track of higher score."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vis_core.formats.model import IntArray, VideoTracks
from vis_core.masks import rle

LabelMap = npt.NDArray[np.uint16]
LARGEST_LABEL = 2**16 - 1


class LabelMaps:
    """The maps of one video: labels from 1, best score first, equals in the order of the tracks."""

    def __init__(self, tracks: VideoTracks, most: int = LARGEST_LABEL) -> None:
        chosen = np.argsort(-tracks.scores, kind="stable")[:most]
        self.num_labels = len(chosen)
        self.labels: IntArray = np.zeros(len(tracks), np.int64)  # of each track; 0: left out
        self.labels[chosen] = np.arange(1, len(chosen) + 1)
        self._tracks = tracks
        self._label = self.labels[tracks.owner]
        # In a frame the best is painted last.
        order = np.lexsort((-self._label, tracks.frame_index))
        self._order = order[self._label[order] > 0]
        self._frames = tracks.frame_index[self._order]
        self.num_pixels = int(tracks.areas[self._order].sum())  # before any is hidden

    def frame(self, frame: int) -> LabelMap:
        """(H, W) labels, 0 where there is none."""
        start, stop = np.searchsorted(self._frames, [frame, frame + 1])
        mine = self._order[start:stop].tolist()
        size = self._tracks.video.size
        found = np.zeros(size, np.uint16)
        crops = rle.crops([self._tracks.masks[i] for i in mine], size)
        for index, crop in zip(mine, crops, strict=True):
            x0, y0, x1, y1 = crop.box
            found[y0:y1, x0:x1][crop.mask] = self._label[index]
        return found


def regions(label_map: LabelMap) -> tuple[IntArray, list[rle.Crop]]:
    """The labels in a map, ascending, and the region of each, cut tight."""
    labels = np.flatnonzero(np.bincount(label_map.ravel()))
    labels = labels[labels > 0]
    crops = []
    for label in labels.tolist():
        mask = label_map == label
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        y0, x0 = int(rows[0]), int(columns[0])
        crops.append(rle.Crop(mask=mask[y0 : rows[-1] + 1, x0 : columns[-1] + 1], x0=x0, y0=y0))
    return labels, crops
