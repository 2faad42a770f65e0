"""Train source checkpoints on families of related tasks: one LoRA a task, at most 1,200 rows each.

    python benchmarks/families.py DATA RUNS LIBRARY [--model BASE] [--part 0/2] [--only NAME,...]
    python benchmarks/families.py DATA RUNS TWINS --shuffled

DATA has ``families/FAMILY/TASK`` and ``textcls/TASK``, each with train.jsonl and validation.jsonl.
RUNS gets the runs. LIBRARY gets them cut to rank 2, in 1.2 MB each and without the tokenizer, so
that one library serves experiments on several machines. Measured on two sources and two targets,
the cut keeps 75 to 79 % of the energy and moves the knowledge by less than 0.03 bits.

``--shuffled`` trains twins: the same training rows with their answers shuffled among them. A twin
learns the form of the answers and their shares, and nothing about the task: the control
``format-only``.

What is in LIBRARY already is not trained again, and a run that was stopped goes on with the same
command. ``--part 0/2`` and ``--part 1/2`` share the work between two processes. Only 16 test rows
are evaluated: nothing is reported here.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import mashup
from mashup.experiment.work import with_shuffled_answers

#: Task to passes over its rows: small tasks get more of them.
SOURCES = {
    "families/reviews/electronics": 1, "families/crises/boston": 1,
    "families/reviews/kitchen_housewares": 1, "families/emotion/goemotions": 1,
    "families/crises/alberta": 1, "families/emotion/tweets": 1,
    "families/intents/calendar": 3, "families/intents/music": 3,
    "families/intents/alarm": 3, "families/intents/transport": 3,
    "families/stance/feminist": 3, "families/stance/hillary": 3,
    "textcls/trec": 1, "textcls/subjectivity": 1,
    "families/reviews/toys_games": 1, "families/reviews/books": 1,
    "families/crises/queensland": 1, "families/crises/sandy": 1,
    "families/emotion/stimulus": 1, "families/emotion/isear": 1,
    "families/intents/play": 2, "families/intents/iot": 2,
    "textcls/mrpc": 1, "families/crises/west_texas": 1,
    "families/intents/audio": 3, "families/intents/recommendation": 3,
    "families/reviews/apparel": 1, "families/reviews/dvd": 1,
    "families/stance/abortion": 3, "families/stance/atheism": 3,
}  # fmt: skip
DEV_SHARE, MOST_DEV, MOST_TRAIN = 0.12, 150, 1200
RATE = 1e-3
RANK = 2  # of the library
WEIGHTS = "adapter_model.safetensors"
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
#: What a library needs of a run: what it was, how it went, and which prompts it saw (digests).
KEPT = ("run.json", "curve.jsonl", "train_prompts.txt")


def train_source(
    data: Path, task: str, epochs: int, base: mashup.Base, output: Path, *, shuffled: bool
) -> Path:
    """One source checkpoint, in ``output/FAMILY/TASK``; its folder."""
    folder = data / task
    rows = sum(1 for _ in (folder / "train.jsonl").open())
    dev = min(MOST_DEV, int(rows * DEV_SHARE))
    loaded = mashup.load_task(
        folder / "train.jsonl", test=folder / "validation.jsonl",
        name=task.removeprefix("families/"), train_rows=min(MOST_TRAIN, rows - dev),
        dev_rows=dev, test_rows=16,
    )  # fmt: skip
    if shuffled:
        loaded = with_shuffled_answers(loaded, seed=42)
    settings = mashup.TrainSettings(
        learning_rate=RATE, epochs=epochs, batch_size=16, lora_r=8, lora_alpha=16,
        evaluations=2, max_length=512,
    )  # fmt: skip
    return mashup.train(base, loaded, settings=settings, output=output / loaded.name).path


def pack(run: Path, output: Path, model: str) -> None:
    """``run`` on ``model``, cut to the rank of the library, as a checkpoint in ``output``.

    The base is called by its name on the Hub, wherever it was loaded from.
    """
    about = json.loads((run / "mashup.json").read_text())
    with tempfile.TemporaryDirectory() as scratch:
        cut = mashup.merge([run], output=Path(scratch) / "cut", rank=RANK, dtype="bfloat16")
        output.mkdir(parents=True, exist_ok=True)
        kept = [cut.path / "adapter_config.json", *(run / name for name in KEPT)]
        for path in kept:
            (output / path.name).write_text(path.read_text().replace(model, BASE))
        shutil.copyfile(cut.path / WEIGHTS, output / WEIGHTS)
    about |= {"base": BASE, "cut": {"rank": RANK, "kept_energy": cut.manifest["kept_energy"]}}
    (output / "mashup.json").write_text(json.dumps(about, indent=2, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("library", type=Path)
    parser.add_argument("--model", default=BASE)
    parser.add_argument("--only", default="", help="names of sources, with commas between them")
    parser.add_argument("--shuffled", action="store_true", help="twins with shuffled answers")
    parser.add_argument("--part", default="0/1", help="0/2: the first of two processes")
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    names = {task.removeprefix("families/"): task for task in SOURCES}
    wanted = options.only.split(",") if options.only else list(names)
    base = mashup.load_base(options.model)
    for name in wanted[part::parts]:
        packed, task = options.library / name, names[name]
        if (packed / "mashup.json").exists():
            continue
        run = train_source(
            options.data, task, SOURCES[task], base, options.runs, shuffled=options.shuffled
        )
        pack(run, packed, options.model)
        print(task, flush=True)


if __name__ == "__main__":
    main()
