"""Parameters by name: which learn, at what rate, with what decay."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from vis_core.errors import UsageError
from vis_core.training.config import GroupRule, OptimizerConfig


def freeze(network: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Parameters that match stay as they are; a pattern that fits none is a mistake."""
    names = [name for name, _ in network.named_parameters()]
    _check_used("freeze", patterns, names)
    frozen = [name for name in names if _matches(name, patterns)]
    for name in frozen:
        network.get_parameter(name).requires_grad_(False)
    if len(frozen) == len(names):
        raise UsageError("freeze: all parameters are frozen; nothing is left to learn")
    return frozen


def parameter_groups(
    network: nn.Module, optimizer: OptimizerConfig, rules: Sequence[GroupRule]
) -> list[dict[str, Any]]:
    """One group per rule, in their order, and one for the rest; empty groups are left out."""
    learning = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    every_name = [name for name, _ in network.named_parameters()]
    _check_used("groups", [rule.match for rule in rules], every_name)
    groups: list[dict[str, Any]] = [
        {
            "match": rule.match,
            "factor": rule.lr_factor,
            "weight_decay": (
                optimizer.weight_decay if rule.weight_decay is None else rule.weight_decay
            ),
            "names": [],
            "params": [],
        }
        for rule in (*rules, GroupRule(match="*"))
    ]
    for name, parameter in learning:
        group = next(group for group in groups if fnmatch.fnmatchcase(name, group["match"]))
        group["names"].append(name)
        group["params"].append(parameter)
    return [group for group in groups if group["params"]]


def make_optimizer(
    groups: Sequence[dict[str, Any]], config: OptimizerConfig
) -> torch.optim.Optimizer:
    """Rates are set before each step; see `schedule`."""
    shares = [
        {"params": group["params"], "weight_decay": group["weight_decay"], "lr": config.lr}
        for group in groups
    ]
    if config.kind == "sgd":
        return torch.optim.SGD(shares, lr=config.lr, momentum=config.momentum)
    kind = torch.optim.AdamW if config.kind == "adamw" else torch.optim.Adam
    return kind(shares, lr=config.lr, betas=(0.9, config.beta2))


def set_rates(
    optimizer: torch.optim.Optimizer, groups: Sequence[dict[str, Any]], rate: float
) -> None:
    for share, group in zip(optimizer.param_groups, groups, strict=True):
        share["lr"] = rate * group["factor"]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _check_used(what: str, patterns: Sequence[str], names: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise UsageError(
                f"{what}: no parameter is called like {pattern!r}; the first are"
                f" {', '.join(names[:5])}, --dry-run prints all"
            )
