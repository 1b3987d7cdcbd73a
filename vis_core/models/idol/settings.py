"""What a job says of the network to train; its files say it again, to whoever uses them."""

from __future__ import annotations

import dataclasses

from vis_core.models.idol.config import IdolConfig, IdolShape

LARGEST_PX = 16_384


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IdolSettings(IdolShape):
    """The released network unless said otherwise."""

    # The first step of the release: instances of single pictures, without what tells them apart.
    detection_only: bool = False
    # Whether the later picture of a pair learns to find instances, too. Off, as released: half the
    # pictures teach detection.
    both_detect: bool = False
    # Weight of a loss by which the transformer's tokens learn where which category is. None in the
    # release, which starts from a trained backbone; from scratch, categories are slow without it.
    token_loss: float = 0.0
    # Of the input when the network is used: smaller loses small objects, larger costs time.
    short_side_px: int = 480
    long_edge_cap: int = 1333  # of the other side; a frame beyond it becomes smaller as a whole

    def __post_init__(self) -> None:
        IdolShape.__post_init__(self)
        if not 0 <= self.token_loss <= 1000:
            raise ValueError(f"token_loss: expected 0 to 1000, got {self.token_loss}")
        for name in ("short_side_px", "long_edge_cap"):
            if not 32 <= getattr(self, name) <= LARGEST_PX:
                raise ValueError(f"{name}: expected 32 to {LARGEST_PX}, got {getattr(self, name)}")

    def config(self, num_classes: int) -> IdolConfig:
        """Of the network for so many categories."""
        shape = {field.name: getattr(self, field.name) for field in dataclasses.fields(IdolShape)}
        return IdolConfig(num_classes=num_classes, **shape)
