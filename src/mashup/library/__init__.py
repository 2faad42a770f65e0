"""Library: the checkpoints below a folder, found fast and remembered."""

from mashup.library.compatible import fitting, skipped
from mashup.library.digest import (
    adapter_digest,
    base_digest,
    checkpoint_digest,
    full_digest,
    model_digest,
)
from mashup.library.index import Index
from mashup.library.scan import Library, name_bases, scan

__all__ = [
    "Index",
    "Library",
    "adapter_digest",
    "base_digest",
    "checkpoint_digest",
    "fitting",
    "full_digest",
    "model_digest",
    "name_bases",
    "scan",
    "skipped",
]
