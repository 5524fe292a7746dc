"""A training that is broken off says what is left, Ctrl-C does not end the session, and SIGTERM leaves no litter."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDED_BY_SIGTERM = 128 + signal.SIGTERM  # the exit code that shells give a process that it ended


@contextlib.contextmanager
def interruptible(note: str) -> Iterator[None]:
    """Add a note to whatever exception leaves the block.

    Lightning answers Ctrl-C by ignoring further ones and exiting from Python, which would end a notebook's kernel; here it
    stays a ``KeyboardInterrupt``, and the next Ctrl-C is heard.

    Parameters
    ----------
    note
        What is left, and what to do.

    Raises
    ------
    KeyboardInterrupt
        For Lightning's exit on Ctrl-C.

    Examples
    --------
    >>> with interruptible("Nothing is lost."):
    ...     raise ValueError("broken off")
    Traceback (most recent call last):
    ValueError: broken off
    Nothing is lost.
    """
    handler = signal.getsignal(signal.SIGINT) if _hears_signals() else None
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        raise KeyboardInterrupt(note) from None
    except BaseException as error:
        error.add_note(note)
        raise
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def heeding_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as ``SystemExit``, so that it cleans up; a handler of the user's own stays.

    Further ones are ignored while it does. An exit that gets lost on the way, as in a callback of h5py or a destructor, which
    Python lets no exception leave, is made up for at the end of the block, or of one inside it.

    Examples
    --------
    >>> import os
    >>> try:
    ...     with heeding_sigterm():
    ...         os.kill(os.getpid(), signal.SIGTERM)
    ... except SystemExit as end:
    ...     print(end.code)
    143
    """
    hears = _hears_signals()
    is_outermost = hears and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if is_outermost:
        signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        is_leaving = hears and signal.getsignal(signal.SIGTERM) is _ignore
        if is_outermost:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if is_leaving:
            raise SystemExit(ENDED_BY_SIGTERM)


def _leave(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, _ignore)
    raise SystemExit(ENDED_BY_SIGTERM)


def _ignore(*_: object) -> None:
    """Stand for :data:`signal.SIG_IGN`, and tell that a SIGTERM was heard."""


def _hears_signals() -> bool:
    return threading.current_thread() is threading.main_thread()
