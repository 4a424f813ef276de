"""Named places where a test kills the process: every edge between two durable steps has one.

In: environment `CDC_FAILPOINT=NAME` or `NAME:N` (the N-th time it is reached). Out: SIGKILL to this very process, as
a power cut would be. Without the variable each call is one comparison. Refuses: a count that is not a number.
"""

from __future__ import annotations

import itertools
import os
import signal

_name, _, _count = os.environ.get("CDC_FAILPOINT", "").partition(":")
_hits = itertools.count(1)
_fatal_hit = int(_count or 1)


def failpoint(name: str) -> None:
    """Die here if the test asked for it."""
    if name == _name and next(_hits) >= _fatal_hit:
        os.kill(os.getpid(), signal.SIGKILL)
