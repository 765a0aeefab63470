"""Limits on the memory and processor time that a piece of work may take."""

from __future__ import annotations

import contextlib
import math
import resource
import time
from collections.abc import Iterator

from stepgrader.worker.hardening import address_space

__all__ = ["limited"]


@contextlib.contextmanager
def limited(*, memory: int, cpu_seconds: int) -> Iterator[None]:
    """Limit the further memory and processor time of this process.

    Past the limit on memory, allocations raise ``MemoryError``; past the limit on processor time,
    the kernel ends the process. The limits hold for all threads of the process, so it should have
    one. They are lifted again at the end.

    Args:
        memory: Address space, in bytes.
        cpu_seconds: Processor time, in seconds.

    Example:
        >>> with limited(memory=2**30, cpu_seconds=60):
        ...     total = sum(range(1000))
        >>> total
        499500
    """
    limits = {
        resource.RLIMIT_AS: address_space() + memory,
        resource.RLIMIT_CPU: math.ceil(time.process_time()) + cpu_seconds,
    }
    previous = {limit: resource.getrlimit(limit) for limit in limits}
    try:
        for limit, value in limits.items():
            finite = [old for old in previous[limit] if old != resource.RLIM_INFINITY]
            resource.setrlimit(limit, (min(value, *finite, value), previous[limit][1]))
        yield
    finally:
        for limit, values in previous.items():
            resource.setrlimit(limit, values)
