"""Seq Mask R-CNN: Mask R-CNN with a head that finds its objects in other frames."""

from vis_core.models.seq_mask_rcnn.config import RELEASED, SeqMaskRcnnConfig
from vis_core.models.seq_mask_rcnn.network import Features, SeqMaskRcnn

__all__ = ["RELEASED", "Features", "SeqMaskRcnn", "SeqMaskRcnnConfig"]
