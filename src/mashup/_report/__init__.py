"""Records in; a Markdown table, curves and one self-contained HTML page out."""

from mashup._report.write import rebuild, write_report

__all__ = ["rebuild", "write_report"]
