"""How many labels does a start save? Test accuracy from scratch and from a start, by labels.

    python examples/labels_needed.py LIBRARY BASE DATASET OUTPUT --labels 16 64 256

Each number of labels makes its own choice of checkpoints: with few labels less can be seen.
"""

import argparse

import mashup


def accuracy(base, task, init, output: str, settings) -> float:
    run = mashup.train(base, task, init=init, settings=settings, output=output)
    return run.kept.test_accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("library", "model", "dataset", "output"):
        parser.add_argument(name)
    parser.add_argument("--labels", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--max-steps", type=int, default=48)
    options = parser.parse_args()

    base = mashup.load_base(options.model)
    settings = mashup.TrainSettings(
        max_steps=options.max_steps, batch_size=8, keep="best", test_points="end"
    )
    print("labels  scratch  from a start")
    for labels in options.labels:
        folder = f"{options.output}/{labels}"
        task = mashup.load_task(options.dataset, train_rows=labels)
        scratch = accuracy(base, task, None, f"{folder}/scratch", settings)
        found = mashup.init(options.library, base, task, output=f"{folder}/init", k=2)
        if found.init is None:
            print(f"{labels:6}  {scratch:7.1%}  no checkpoint knows this task")
            continue
        started = accuracy(base, task, found.init, f"{folder}/run", settings)
        print(f"{labels:6}  {scratch:7.1%}  {started:.1%}")


if __name__ == "__main__":
    main()
