"""``python -m mashup``, and the entry of the ``mashup`` command: loads nothing by itself."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Ctrl-C while it is being loaded is one line, too."""
    try:
        from mashup.cli.__main__ import main as run

        run()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
