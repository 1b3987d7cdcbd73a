"""Deformable DETR's encoder, and its decoder with boxes refined from layer to layer.

Shape letters: B pictures, C channels, S tokens of all levels, Q queries, L levels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.models.idol.attention import DeformableAttention, Size
from vis_core.models.idol.config import IdolConfig
from vis_core.models.idol.mlp import Mlp
from vis_core.models.idol.position import pixel_centres, sine_embedding, valid_ratios

LEVELS = 4
_EPS = 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """What the encoder gives, and what is needed to look at it."""

    memory_BSC: Tensor
    padding_BS: Tensor
    ratios_BL2: Tensor
    sizes: Sequence[Size]

    def level(self, level: int) -> Tensor:
        """A level as a picture: (B, C, h, w)."""
        counts = [height * width for height, width in self.sizes]
        tokens_BNC = self.memory_BSC.split(counts, 1)[level]
        return tokens_BNC.transpose(1, 2).unflatten(2, self.sizes[level])


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """Queries after every decoder layer.

    `references[l]` enters layer l, as points (x, y) for the first and boxes (cx, cy, w, h) after
    it; there is one more, the boxes after the last layer. Each is detached.
    """

    hidden: list[Tensor]  # (B, Q, C)
    references: list[Tensor]  # (B, Q, 2 or 4)
    tokens: Tokens


def inverse_sigmoid(share: Tensor) -> Tensor:
    share = share.clamp(0, 1)
    return torch.log(share.clamp(min=_EPS) / (1 - share).clamp(min=_EPS))


def refined(reference_BQx: Tensor, delta_BQ4: Tensor) -> Tensor:
    """Boxes moved by what a box head says; a point has no size yet."""
    before = inverse_sigmoid(reference_BQx)
    return (delta_BQ4 + F.pad(before, (0, 4 - before.shape[-1]))).sigmoid()


class EncoderLayer(nn.Module):
    def __init__(self, config: IdolConfig) -> None:
        super().__init__()
        width = config.width
        self.self_attn = DeformableAttention(width, LEVELS, config.heads, config.points)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, config.ffn_width)
        self.linear2 = nn.Linear(config.ffn_width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        tokens_BSC: Tensor,
        position_BSC: Tensor,
        places_BSL2: Tensor,
        padding_BS: Tensor,
        sizes: Sequence[Size],
    ) -> Tensor:
        queries = tokens_BSC + position_BSC
        attended = self.self_attn(queries, places_BSL2, tokens_BSC, padding_BS, sizes)
        tokens_BSC = self.norm1(tokens_BSC + self.dropout(attended))
        inner = self.dropout(F.relu(self.linear1(tokens_BSC)))
        normed: Tensor = self.norm2(tokens_BSC + self.dropout(self.linear2(inner)))
        return normed


class DecoderLayer(nn.Module):
    """Queries look at each other, then at the picture."""

    def __init__(self, config: IdolConfig) -> None:
        super().__init__()
        width = config.width
        self.cross_attn = DeformableAttention(width, LEVELS, config.heads, config.points)
        self.self_attn = nn.MultiheadAttention(
            width, config.heads, dropout=config.dropout, batch_first=True
        )
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, config.ffn_width)
        self.linear2 = nn.Linear(config.ffn_width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, hidden_BQC: Tensor, position_BQC: Tensor, places_BQLx: Tensor, tokens: Tokens
    ) -> Tensor:
        queries = hidden_BQC + position_BQC
        attended, _ = self.self_attn(queries, queries, hidden_BQC, need_weights=False)
        hidden_BQC = self.norm2(hidden_BQC + self.dropout(attended))
        attended = self.cross_attn(
            hidden_BQC + position_BQC,
            places_BQLx,
            tokens.memory_BSC,
            tokens.padding_BS,
            tokens.sizes,
        )
        hidden_BQC = self.norm1(hidden_BQC + self.dropout(attended))
        inner = self.dropout(F.relu(self.linear1(hidden_BQC)))
        normed: Tensor = self.norm3(hidden_BQC + self.dropout(self.linear2(inner)))
        return normed


class Encoder(nn.Module):
    def __init__(self, config: IdolConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))


class Decoder(nn.Module):
    def __init__(self, config: IdolConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.bbox_embed = nn.ModuleList(Mlp(config.width, 4) for _ in range(config.decoder_layers))


class Transformer(nn.Module):
    def __init__(self, config: IdolConfig) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.level_embed = nn.Parameter(torch.empty(LEVELS, config.width))
        self.reference_points = nn.Linear(config.width, 2)
        self._reset()

    def _reset(self) -> None:
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, DeformableAttention):
                module.reset()
        nn.init.zeros_(self.reference_points.bias)
        nn.init.normal_(self.level_embed)
        for layer, head in enumerate(self.decoder.bbox_embed):
            last = head.get_submodule("layers.2")
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            if layer == 0:  # boxes begin small
                nn.init.constant_(last.bias[2:], -2.0)

    def forward(
        self, levels: Sequence[Tensor], paddings: Sequence[Tensor], query_embed_QE: Tensor
    ) -> Decoded:
        """`levels` (B, C, h, w) with their paddings (B, h, w), fine to coarse."""
        tokens = self.encode(levels, paddings)
        return self.decode(tokens, query_embed_QE)

    def encode(self, levels: Sequence[Tensor], paddings: Sequence[Tensor]) -> Tokens:
        sizes = [(int(level.shape[-2]), int(level.shape[-1])) for level in levels]
        position_BSC = torch.cat(
            [
                sine_embedding(padding, level.shape[1]).flatten(2).transpose(1, 2) + embed
                for level, padding, embed in zip(levels, paddings, self.level_embed, strict=True)
            ],
            1,
        )
        tokens_BSC = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)
        padding_BS = torch.cat([padding.flatten(1) for padding in paddings], 1)
        ratios_BL2 = valid_ratios(paddings)
        places_BSL2 = pixel_centres(sizes, ratios_BL2)
        for layer in self.encoder.layers:
            tokens_BSC = layer(tokens_BSC, position_BSC, places_BSL2, padding_BS, sizes)
        return Tokens(
            memory_BSC=tokens_BSC, padding_BS=padding_BS, ratios_BL2=ratios_BL2, sizes=sizes
        )

    def decode(self, tokens: Tokens, query_embed_QE: Tensor) -> Decoded:
        """E = 2 C: where a query looks first, then what it is."""
        batch = len(tokens.memory_BSC)
        position_BQC, hidden_BQC = query_embed_QE.expand(batch, -1, -1).chunk(2, -1)
        reference = self.reference_points(position_BQC).sigmoid()
        hidden, references = [], [reference]
        for layer, box_head in zip(self.decoder.layers, self.decoder.bbox_embed, strict=True):
            ratios_BLx = tokens.ratios_BL2.repeat(1, 1, reference.shape[-1] // 2)
            places_BQLx = reference[:, :, None] * ratios_BLx[:, None]
            hidden_BQC = layer(hidden_BQC, position_BQC, places_BQLx, tokens)
            reference = refined(reference, box_head(hidden_BQC)).detach()
            hidden.append(hidden_BQC)
            references.append(reference)
        return Decoded(hidden=hidden, references=references, tokens=tokens)
