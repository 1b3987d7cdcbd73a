"""The console script `reelmask`: parses, calls, prints. What it does can be called from Python."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence

import pyarrow as pa

from jobs import signals, terminal
from jobs.commands import (
    audit,
    eval,
    export,
    fuse,
    label,
    link,
    plan,
    render,
    settings,
    synth,
    train,
)
from vis_core import errors
from vis_core.addresses import scrubbed
from vis_core.errors import ReelmaskError

COMMANDS = (label, plan, link, fuse, eval, export, render, audit, synth, train, settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    with terminal.guarded():
        code = _run(parser().parse_args(argv))
        if (error := terminal.failure_of_stdout()) is not None:
            print(f"reelmask: the result could not be printed: {error.strerror}", file=sys.stderr)
            code = code or errors.EXIT_FAILED
    return code


def _run(arguments: argparse.Namespace) -> int:
    level = logging.DEBUG if os.environ.get("REELMASK_DEBUG") else logging.INFO
    logging.basicConfig(level=level, handlers=[terminal.Handler()])
    for library in ("aiobotocore", "botocore", "s3fs", "matplotlib"):
        # They tell of every login, and of every font.
        logging.getLogger(library).setLevel(logging.WARNING)
    signals.interrupt_on_termination()
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except ReelmaskError as error:
        print(f"reelmask: {_one_line(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            "reelmask: interrupted; the same command (without --replace) goes on from here",
            file=sys.stderr,
        )
        return errors.EXIT_INTERRUPTED
    except (OSError, pa.ArrowException) as error:
        if os.environ.get("REELMASK_DEBUG"):
            raise
        print(f"reelmask: {_one_line(error)} (REELMASK_DEBUG=1 shows where)", file=sys.stderr)
        return errors.EXIT_FAILED


def _one_line(error: Exception) -> str:
    """Messages of libraries may span lines, and may be empty."""
    return " ".join(scrubbed(str(error)).split()) or type(error).__name__


def parser() -> argparse.ArgumentParser:
    """The whole command line; a test freezes its flags."""
    top = argparse.ArgumentParser(
        prog="reelmask", description="Masks and identities for whole video archives, as Parquet."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add(commands)
    return top


if __name__ == "__main__":
    sys.exit(main())
