"""Does the hidden state of a checkpoint know a task whose answers are other words?

    python benchmarks/probe.py MODEL DATASET CHECKPOINT...

An experiment, not part of the tool. ``score`` measures knowledge in the answers that a model gives.
A checkpoint that learned the task with other answers (good/bad for positive/negative) may know it
in its hidden states alone. So ridge regression predicts the answer from the last hidden state of
the last prompt token, and its leave-one-out predictions are calibrated and measured as knowledge
is: in bits above the label prior (mashup.evaluate.knowledge). One forward pass of the prompts.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax

from mashup import load_base, load_task
from mashup.evaluate.evaluate import plain_batches
from mashup.evaluate.knowledge import knowledge
from mashup.model import Base, applied, read_change
from mashup.task import Example, Tokens, prompts_of, tokenize

Floats = NDArray[np.float64]
SAMPLE = 64  # examples
RIDGES = 10.0 ** np.arange(-3, 4)  # times the mean eigenvalue of the Gram matrix


def probe(base: Base, checkpoint: Path | None, examples: Sequence[Example]) -> float:
    """Bits above the label prior that a ridge probe reads from the hidden states.

    Args:
        base: the loaded base.
        checkpoint: what is put on it; None is the base itself.
        examples: with a finite set of answers, two of each or more.
    """
    tokens = tokenize(base.tokenizer, examples, max_length=base.context)
    texts = [one.messages[-1].content.strip() for one in examples]
    labels = np.unique(texts, return_inverse=True)[1].astype(np.intp)
    if checkpoint is None:
        states = hidden_states(base, tokens)
    else:
        with applied(base.model, read_change(base.model, checkpoint)):
            states = hidden_states(base, tokens)
    return probe_bits(states, labels, np.array(prompts_of(tokens), np.int64))


@torch.no_grad()
def hidden_states(base: Base, tokens: Sequence[Tokens]) -> Floats:
    """``(n, width)`` last hidden state at the last prompt token, after the final norm."""
    found: dict[int, torch.Tensor] = {}
    base.model.eval()
    for batch in plain_batches(base, tokens):
        output = base.model.base_model(
            input_ids=batch.ids.to(base.device), attention_mask=batch.mask.to(base.device)
        )
        last = batch.answer.int().argmax(1) - 1  # the token before the first of the answer
        states = output.last_hidden_state[torch.arange(len(last)), last.to(base.device)]
        found |= dict(zip(batch.rows.tolist(), states.double().cpu(), strict=True))
    return torch.stack([found[row] for row in range(len(tokens))]).numpy()


def probe_bits(states: Floats, labels: NDArray[np.intp], prompts: NDArray[np.int64]) -> float:
    """Calibrated bits of the leave-one-out predictions of a ridge regression on one-hot answers.

    Args:
        states: ``(n, width)``.
        labels: ``(n,)`` which answer is right.
        prompts: ``(n,)`` which prompt each example has.
    """
    spread = states.std(0)
    features = (states - states.mean(0)) / np.where(spread > 0, spread, 1)
    targets = np.eye(labels.max() + 1)[labels]
    made = [leave_one_out(features, targets, ridge) for ridge in RIDGES]
    best = min(made, key=lambda one: float(((one - targets) ** 2).sum()))
    scale = 1 / max(best.std(), 1e-9)  # logits; the calibration finds their temperature
    return knowledge(log_softmax(scale * best, axis=1), labels, prompts).bits


def leave_one_out(features: Floats, targets: Floats, ridge: float) -> Floats:
    """``(n, answers)`` predictions for each example by a regression on the others.

    In closed form, ``y - (y - ŷ) / (1 - h)``, with the hat matrix's diagonal ``h`` (Hastie,
    Tibshirani and Friedman, The Elements of Statistical Learning, 2009, section 7.10). The
    intercept is in ``h``; its own penalty is 0.
    """
    count = len(features)
    gram = features @ features.T
    strength = ridge * np.trace(gram) / count
    hat = gram @ np.linalg.inv(gram + strength * np.eye(count))
    ones = np.full((count, count), 1 / count)  # the features are centred
    hat = hat + ones
    leverage = np.minimum(np.diag(hat), 1 - 1e-6)[:, None]
    return targets - (targets - hat @ targets) / (1 - leverage)


def main(model: str, dataset: str, *checkpoints: str) -> None:
    base, task = load_base(model), load_task(dataset)
    examples = task.sample(SAMPLE, 42)
    for checkpoint in (None, *map(Path, checkpoints)):
        print(f"{probe(base, checkpoint, examples):+.3f} bits  {checkpoint or 'base'}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
