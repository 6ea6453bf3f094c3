"""Values that are made once and kept for a while, for several threads and across forks."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class once(Generic[Value]):  # noqa: N801 - it is written as property is
    """A property that is computed at its first use.

    `functools.cached_property` has a lock for all instances, which a fork may inherit from a thread that it lacks.
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        """Set what computes the value."""
        self._compute = compute

    def __get__(self, instance: Any, owner: type | None = None) -> Value:
        """Compute the value and put it in place of this property."""
        value = self._compute(instance)
        instance.__dict__[self._compute.__name__] = value
        return value


class Kept(Generic[Value]):
    """Values by key, made once by one thread while others wait; those used longest ago are dropped."""

    def __init__(self, most: int, size: Callable[[Value], int] = lambda _: 1) -> None:
        """Keep values of ``most`` together, by their sizes; the last one is kept whatever its size."""
        self._most, self._size, self._pid = most, size, os.getpid()
        self._clear()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key, which is made where there is none; an error of making is not kept."""
        if self._pid != os.getpid():  # a fork has neither the threads that hold locks nor the position of open files
            self._pid = os.getpid()
            self._clear()
        with self._lock:
            own = self._locks.setdefault(key, threading.Lock())
        with own:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key]
            try:
                value = make()
            finally:
                with self._lock:
                    self._locks.pop(key, None)
            with self._lock:
                self._values[key] = value
                self._held += self._size(value)
                while self._held > self._most and len(self._values) > 1:
                    self._held -= self._size(self._values.popitem(last=False)[1])
            return value

    def _clear(self) -> None:
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._lock, self._held = threading.Lock(), 0
