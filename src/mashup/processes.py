"""One piece of work shared by several processes, a device each: all compute, the first one writes.

``accelerate launch`` starts them and tells each its place by environment variables
(https://huggingface.co/docs/accelerate/basic_tutorials/launch). Without it there is one.
"""

from __future__ import annotations

import os


def process_count() -> int:
    """How many processes share the work."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that writes and talks."""
    return int(os.environ.get("RANK", "0")) == 0


def wait() -> None:
    """Go on when every process has come here."""
    if process_count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
