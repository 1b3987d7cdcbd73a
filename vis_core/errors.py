"""Errors a user can act on, and the exit code each one means to the command line."""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_QUARANTINE = 3
EXIT_BUSY = 4
EXIT_INTERRUPTED = 130


class ReelmaskError(Exception):
    """A mistake or a condition with a remedy: shown as one line, without a traceback."""

    exit_code = EXIT_FAILED


class UsageError(ReelmaskError):
    """A setting, path or command is wrong; the message says what was expected."""

    exit_code = EXIT_USAGE


class BusyError(ReelmaskError):
    """Another run holds the results folder."""

    exit_code = EXIT_BUSY


class StorageFullError(ReelmaskError):
    """The results folder has no space left; free some and run the same command again."""


class AlignmentError(ReelmaskError):
    """A predictor returned rows for frames it was not given, or lost some."""


class SourceError(ReelmaskError):
    """An input video cannot be used: becomes a row in `videos` and `failures`, never a crash."""


class SourceChangedError(SourceError):
    """The file behind a video is not the one the index saw."""


class DecoderDied(SourceError):
    """The decoder child crashed, hung or broke a limit while it worked on this video.

    The one failure that is blamed on the video: three of them put it in quarantine.
    """


class AddressError(SourceError, UsageError):
    """An address that is never opened: a usage error where a person names it, a row in a list."""
