"""What stops a run from outside: SIGTERM and the terminal's end are taken like Ctrl-C."""

from __future__ import annotations

import contextlib
import signal

_ENDS = (signal.SIGTERM, signal.SIGHUP)


def interrupt_on_termination() -> None:
    """SIGTERM and SIGHUP raise KeyboardInterrupt: receipts are committed and the code is 130.

    Under `nohup` SIGHUP is ignored, and stays so.
    """
    for number in _ENDS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            with contextlib.suppress(ValueError):  # not the main thread: the caller's business
                signal.signal(number, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    """Once: shell and kernel both send SIGHUP, and a second would cut the commit short."""
    for each in _ENDS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt
