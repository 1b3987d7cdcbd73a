"""Every Ray Data setting we rely on, in one place, each with its reason."""

from __future__ import annotations

import logging

from ray.data import DataContext

logger = logging.getLogger(__name__)

SETTINGS: dict[str, tuple[object, str]] = {
    "max_errored_blocks": (0, "a failed block would be dropped with a log line and retried never"),
    "actor_task_retry_on_errors": (False, "our actors return errors; an exception is a bug"),
    "retried_map_errors": (False, "the same: a retry would hide it"),
    "max_map_retries": (0, "the default has changed between releases"),
    "actor_init_retry_on_errors": (True, "a weight file on a network mount may be late"),
    "actor_init_max_retries": (3, "but a model that does not load never will"),
    "max_consecutive_actor_init_deaths": (3, "a machine that kills every actor must not loop"),
    "execution_no_progress_timeout_s": (900, "silence for 15 minutes is a hang, not work"),
    "enable_progress_bars": (False, "progress is ours, in frames and videos"),
    "enable_operator_progress_bars": (False, "the same"),
    "enable_auto_log_stats": (False, "run.json has the figures"),
}


def configure() -> None:
    """Sets the current DataContext; names that a Ray release does not know are logged."""
    context = DataContext.get_current()
    for name, (value, _) in SETTINGS.items():
        if hasattr(context, name):
            setattr(context, name, value)
        else:
            logger.warning("Ray Data no longer knows %s; check cluster/data_context.py", name)
    context.execution_options.preserve_order = False
