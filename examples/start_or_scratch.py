"""Train from the best start that a library has, or from scratch where it has none.

python examples/start_or_scratch.py LIBRARY BASE DATASET OUTPUT
"""

import sys

import mashup


def main(library: str, model: str, dataset: str, output: str) -> mashup.Run:
    base = mashup.load_base(model)
    task = mashup.load_task(dataset)
    scores = mashup.score(library, base, task)
    print(scores)

    # Empty where no checkpoint is better than the base by more than noise.
    selection = mashup.select(scores, k=2)
    print(selection)
    init = None
    if not selection.is_empty:
        init = mashup.merge(selection, output=f"{output}-init", base=base)

    # The weights at the point with the least dev loss are kept, step 0 included.
    settings = mashup.TrainSettings(learning_rate=3e-4, epochs=3, keep="best")
    run = mashup.train(base, task, init=init, settings=settings, output=output)
    print(f"test accuracy {run.kept.test_accuracy:.1%}, weights in {run.path}")
    return run


if __name__ == "__main__":
    main(*sys.argv[1:])
