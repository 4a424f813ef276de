"""Trying again: how the loops of source, sink and archive outlive a trouble that passes.

In: an attempt that lasts until it is stopped or fails. Out: it ends when it is stopped. Refuses: an error that waiting
cannot mend is raised as it came.

Waits double from half a second to fifteen; an attempt that went well for a minute begins them anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from cdc.errors import CdcError, Code

_WAIT_S = (0.5, 15.0)
_SETTLED_S = 60.0
_STANDBY_S = 2.0


def keep_trying(
    attempt: Callable[[], None],
    stop: Callable[[], bool],
    tell: Callable[[CdcError, float], None],
    standing_by: Collection[Code] = (),
) -> None:
    """`tell`: what went wrong, and how long until the next try. `standing_by`: errors that end when somebody goes."""
    failures = 0
    while not stop():
        began = time.monotonic()
        try:
            attempt()
        except CdcError as error:
            if not error.transient and error.code not in standing_by:
                raise
            if time.monotonic() - began > _SETTLED_S:
                failures = 0
            wait_s = min(_WAIT_S[1], _WAIT_S[0] * 2 ** min(failures, 10)) if error.transient else _STANDBY_S
            failures += 1
            tell(error, wait_s)
            sleep(wait_s, stop)


def sleep(seconds: float, stop: Callable[[], bool]) -> None:
    """Unless it is stopped before."""
    until = time.monotonic() + seconds
    while not stop() and time.monotonic() < until:
        time.sleep(min(0.1, seconds))
