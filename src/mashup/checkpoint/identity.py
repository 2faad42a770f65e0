"""Is this the same base model? Names are often blank, local or aliased.

A LoRA says only a name; whether its modules and shapes fit is checked against
the loaded base. Both must hold, or the user must say so with ``--accept-base``.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

_HUB_CACHE = re.compile(r"models--(?:[^/]+?--)?(?P<name>[^/]+)/snapshots/")


def canonical_name(name: str) -> str:
    """The comparable part of a base's name.

    The last part of a Hub id or path, lower case; ``.../models--Owner--Name/snapshots/...``
    (the Hub's cache) gives ``name``.
    """
    match = _HUB_CACHE.search(name.replace("\\", "/"))
    if match:
        return match["name"].lower()
    return PurePosixPath(name.replace("\\", "/").rstrip("/")).name.lower()


def same_base(recorded: str, given: str) -> bool | None:
    """Whether two names mean one base: yes, no, or None when one of them is blank."""
    if not recorded.strip() or not given.strip():
        return None
    return canonical_name(recorded) == canonical_name(given)
