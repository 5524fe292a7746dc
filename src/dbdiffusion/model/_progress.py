"""Progress bars of scvi-tools on what takes longer than three seconds, one at a time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from scvi import settings
from scvi.utils import track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

QUIET_FROM = 30  # logging.WARNING: `scvi.settings.verbosity` at which nothing is said of progress
SECONDS = 3.0  # before a bar appears
_here = threading.local()


def progress(description: str) -> Callable[[Sequence[Any]], Iterable[Any]]:
    """Of steps to the same steps, with a bar for those that are left after three seconds.

    There is none inside of another one, nor where ``scvi.settings.verbosity`` is that of warnings or above.

    Examples
    --------
    >>> list(progress("Counting")([1, 2, 3]))
    [1, 2, 3]
    """

    def tracked(steps: Sequence[Any]) -> Iterable[Any]:
        if len(steps) < 2 or int(settings.verbosity) >= QUIET_FROM or getattr(_here, "is_tracking", False):
            return steps
        return _after_a_while(steps, description)

    return tracked


def _after_a_while(steps: Sequence[Any], description: str) -> Iterator[Any]:
    start, _here.is_tracking = time.monotonic(), True
    try:
        for i, step in enumerate(steps):
            if time.monotonic() - start > SECONDS:
                yield from track(steps[i:], description=description)
                return
            yield step
    finally:
        _here.is_tracking = False
