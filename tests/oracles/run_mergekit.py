"""Runs mergekit's merges, many in one process: ``python run_mergekit.py CASES.json``.

It is run by a Python that has mergekit, which need not be the one that has mashup. The file
holds ``[{"config": {...}, "output": "...", "seed": 0}, ...]``; ``config`` is mergekit's own.
"""

import json
import sys
from pathlib import Path

from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions


def main() -> None:
    for case in json.loads(Path(sys.argv[1]).read_text()):
        options = MergeOptions(
            quiet=True, copy_tokenizer=False, write_model_card=False, random_seed=case["seed"]
        )
        run_merge(MergeConfiguration.model_validate(case["config"]), case["output"], options)


if __name__ == "__main__":
    main()
