"""A training that is broken off says what is left, and Ctrl-C does not end the session."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def saying(note: str) -> Iterator[None]:
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
    >>> with saying("Nothing is lost."):
    ...     raise ValueError("broken off")
    Traceback (most recent call last):
    ValueError: broken off
    Nothing is lost.
    """
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if is_main else None
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
