"""Answers of one model, one at a time: a second thread waits, whatever the first is asked or trains."""

from __future__ import annotations

import functools
import inspect
import threading
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

_Class = TypeVar("_Class", bound=type)
_locks: WeakKeyDictionary[Any, Any] = (
    WeakKeyDictionary()
)  # beside the models, which are copied and pickled, and locks cannot be
_making = threading.Lock()


def one_at_a_time(whose: Callable[[Any], Any]) -> Callable[[_Class], _Class]:
    """Guard all public methods of a class that this package defines by the lock of one object.

    Parameters
    ----------
    whose
        Of an instance to the object; instances that share it wait for each other.

    Examples
    --------
    >>> @one_at_a_time(lambda self: self)
    ... class Counter:
    ...     def count(self) -> int:
    ...         return 1
    >>> Counter().count()
    1
    """

    def guard_all(cls: _Class) -> _Class:
        for name in dir(cls):
            method = inspect.getattr_static(cls, name)
            if not name.startswith("_") and isinstance(method, FunctionType) and _is_own(method):
                setattr(cls, name, _guarded(method, whose))
        return cls

    return guard_all


def lock_of(owner: Any) -> Any:
    """The lock of an object; the same thread may take it again.

    Examples
    --------
    >>> class Model: ...
    >>> model = Model()
    >>> lock_of(model) is lock_of(model), lock_of(model) is lock_of(Model())
    (True, False)
    """
    with _making:
        return _locks.setdefault(owner, threading.RLock())


def _is_own(method: FunctionType) -> bool:
    return method.__module__.split(".")[0] == __name__.split(".")[0]


def _guarded(method: FunctionType, whose: Callable[[Any], Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def answer(self: Any, *args: Any, **options: Any) -> Any:
        with lock_of(whose(self)):
            return method(self, *args, **options)

    return answer
