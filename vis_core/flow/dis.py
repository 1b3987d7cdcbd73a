"""Dense inverse search flow (OpenCV), from one grey picture to the next."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.flow.field import Float32

_SMALLEST_PX = 32  # below, OpenCV reads beyond its pyramid in long pictures, and crashes
# A flow of more than this is a failure of the method, not a motion.
_LARGEST_PX = 4096


class DisFlow:
    """Deterministic, also across threads; keeps nothing from one call to the next."""

    def __init__(self) -> None:
        # The preset stops at a quarter of the size, where objects of 40 pixels are lost; from half
        # the size on, one round of refinement gives all that five do.
        self._method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._method.setFinestScale(1)
        self._method.setVariationalRefinementIterations(1)

    def __call__(self, first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> Float32:
        """(h, w, 2) displacement (dx, dy) of each pixel of the first picture."""
        height, width = first.shape
        if min(height, width) < _SMALLEST_PX:
            return np.zeros((height, width, 2), np.float32)
        # None: no flow to start from. OpenCV's stubs do not know that it may be left out.
        flow = self._method.calc(first, second, None)  # type: ignore[call-overload]
        cv2.patchNaNs(flow, 0)
        return np.asarray(np.clip(flow, -_LARGEST_PX, _LARGEST_PX), np.float32)
