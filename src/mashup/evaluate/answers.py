"""Score every answer of a finite set for the price of little more than the right one.

Prompts are run once. The answers follow each prompt as a tree: tokens that answers begin with
together stand in it once, and an attention mask lets every token see its prompt and its own
ancestors alone. So one forward pass gives the probability of every answer, and nothing of one
answer is seen by another. A trial on a few examples decides whether a model computes that as it
computes plain sequences; where it does not, every answer is run as a sequence of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mashup.evaluate.batches import LOGITS, Batch, make_batches
from mashup.evaluate.evaluate import (
    Evaluation,
    batches_for,
    evaluate,
    evaluating,
    vocabulary_of,
)
from mashup.evaluate.head import head_only_at
from mashup.evaluate.prefix import cached, run_prefix
from mashup.model import Base
from mashup.progress import SILENT, Advance, Progress
from mashup.task import Example, Task, Tokens, prompts_of, tokenize

MOST = 64  # answers of a set
_TOKENS = 1024  # of all answers together: each prompt meets all of them
POOL = 4096  # rows of the task that are searched for its answers
_NO_LIMIT = 1 << 30  # tokens
_TRIED = 4  # examples of the trial
_ROUNDINGS = 3.0
_LEAST = 1e-5  # relative: sums in float32 are coarser than a chance agreement of two batches
_TOGETHER = 2048  # tokens of a batch


class FreeTextError(ValueError):
    """The answers of a task are no finite set; the text says why."""


@dataclass(frozen=True)
class AnswerSet:
    """The possible answers of a task.

    Attributes:
        texts: the answers, sorted.
        tokens: of each answer, those that are predicted, with the end of the turn.
        labels: ``(n,)`` which answer is the right one of each example.
    """

    texts: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    labels: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def tree(self) -> Tree:
        return Tree.of(self.tokens)

    def of(self, rows: Sequence[int]) -> AnswerSet:
        """The same answers for some of the examples."""
        return replace(self, labels=self.labels[list(rows)])


def task_answers(base: Base, task: Task, tokens: Sequence[Tokens], seed: int) -> AnswerSet:
    """:func:`answer_set` of a task's first :data:`POOL` training rows, as drawn with ``seed``.

    Args:
        base: whose tokenizer it is.
        task: only its training rows are looked at.
        tokens: of the sample.
        seed: of the sample.

    Raises:
        FreeTextError: the answers are no finite set.
    """
    return answer_set(base.tokenizer, tokens, task.drawn(seed)[:POOL], base.processor)


def answer_set(
    tokenizer: Any,
    tokens: Sequence[Tokens],
    examples: Sequence[Example],
    processor: Callable[[str], Any] | None = None,
) -> AnswerSet:
    """The set of answers of a task.

    Args:
        tokenizer: that of the base.
        tokens: of the sample.
        examples: of the task, with those of the sample among them: an answer that the sample
            lacks is possible too.
        processor: of the base, for rows with pictures (:func:`mashup.task.tokenize`).

    Raises:
        FreeTextError: fewer than two answers, more than :data:`MOST`, more than one for every two
            examples, answers of more than 1,024 tokens together, several answers in one
            conversation, or tokens that make no set.
    """
    first: dict[str, Example] = {}
    for example in examples:
        first.setdefault(_answer(example), example)
        if len(first) > MOST:
            raise FreeTextError(f"more than {MOST} different answers")
    if len(first) < 2:
        raise FreeTextError(f"one answer only, {next(iter(first), '')!r}")
    if 2 * len(first) > len(examples):
        raise FreeTextError(f"{len(first)} different answers in {len(examples)} rows")
    texts = sorted(first)
    known = tokenize(
        tokenizer, [first[text] for text in texts], max_length=_NO_LIMIT, processor=processor
    )
    if any(one.seen and not one.seen.is_open for one in (*tokens, *known)):
        raise FreeTextError("the base's processor marks the tokens of an answer")
    answers = dict(zip(texts, map(_answer_tokens, known), strict=True))
    if (total := sum(map(len, answers.values()))) > _TOKENS:
        raise FreeTextError(f"{len(answers)} different answers of {total:,} tokens together")
    _refuse_prefixes(answers)
    label = {one: number for number, one in enumerate(answers.values())}
    try:
        labels = [label[_answer_tokens(one)] for one in tokens]
    except KeyError:
        raise FreeTextError("the tokens of an answer depend on its prompt") from None
    return AnswerSet(tuple(texts), tuple(answers.values()), np.array(labels, np.intp))


def _answer(example: Example) -> str:
    if example.first_answer != len(example.messages) - 1:
        raise FreeTextError("several answers in one conversation")
    return example.messages[-1].content.strip()


def _answer_tokens(tokens: Tokens) -> tuple[int, ...]:
    start = tokens.answer.index(True)
    if not all(tokens.answer[start:]):
        raise FreeTextError("text after the answer")
    return tokens.ids[start:]


def _refuse_prefixes(answers: dict[str, tuple[int, ...]]) -> None:
    """An answer that another one goes on from has the other's probability in its own."""
    same = Counter(answers.values())
    for text, one in answers.items():
        longer = any(two != one and two[: len(one)] == one for two in answers.values())
        if longer or same[one] > 1:
            raise FreeTextError(f"{text!r} is the beginning of another answer, or the same tokens")


def evaluate_sample(
    base: Base,
    tokens: Sequence[Tokens],
    answers: AnswerSet | None,
    *,
    progress: Progress = SILENT,
    label: str = "evaluating",
) -> Evaluation:
    """The model of ``base``, with what is applied to it now, on a sample.

    Args:
        base: the loaded base.
        tokens: of the sample.
        answers: the finite set of its answers, to give each a probability; None scores the right
            answers alone.
        progress: where to show a bar.
        label: of the bar.
    """
    from mashup.evaluate.continued import continues, evaluate_continued  # it stands on this module

    model, batches = base.model, batches_for(base, tokens)
    shapes = base.pad_id, vocabulary_of(base)
    with progress.bar(label, len(batches)) as advance:
        if answers is None:
            found = evaluate(model, batches, advance=advance)
        elif as_tree(model, tokens, answers, *shapes):
            found = evaluate_answers(model, batches, answers, advance=advance)[0]
        elif continues(model, tokens, answers, *shapes):
            found = evaluate_continued(model, tokens, answers, *shapes, advance)
        else:
            found = evaluate_apart(model, tokens, answers, *shapes)
    return replace(found, prompts=np.array(prompts_of(tokens), np.int64))


@dataclass(frozen=True)
class Tree:
    """Answers as a tree of the tokens that are read before one is predicted.

    Attributes:
        ids: ``(nodes,)`` token of each node; the last token of an answer is never read.
        depth: ``(nodes,)`` tokens after the prompt, from 1.
        sees: ``(nodes, nodes)`` True where a node may attend to another: its ancestors and itself.
        place: ``(predicted,)`` for each predicted token of each answer where it is predicted:
            0 at the end of the prompt, 1 + node in the tree.
        token: ``(predicted,)`` that token.
        answer: ``(predicted,)`` of which answer.
    """

    ids: Tensor
    depth: Tensor
    sees: Tensor
    place: Tensor
    token: Tensor
    answer: Tensor

    @classmethod
    def of(cls, answers: Sequence[tuple[int, ...]]) -> Tree:
        nodes: dict[tuple[int, ...], int] = {}
        predicted = []
        for number, answer in enumerate(answers):
            for length, following in enumerate(answer):
                read = answer[:length]
                after = 1 + nodes.setdefault(read, len(nodes)) if read else 0
                predicted.append((after, following, number))
        sees = torch.zeros(len(nodes), len(nodes), dtype=torch.bool)
        for read, node in nodes.items():
            for length in range(1, len(read) + 1):
                sees[node, nodes[read[:length]]] = True
        place, token, answer_of = torch.tensor(predicted).unbind(1)
        ids = torch.tensor([read[-1] for read in nodes], dtype=torch.long)
        depth = torch.tensor([len(read) for read in nodes], dtype=torch.long)
        return cls(ids, depth, sees, place, token, answer_of)


@torch.no_grad()
def evaluate_answers(
    model: Any,
    batches: Sequence[Batch],
    answers: AnswerSet,
    *,
    copies: int = 1,
    advance: Advance | None = None,
) -> list[Evaluation]:
    """:func:`mashup.evaluate.evaluate.evaluate_copies`, with the probabilities of all answers.

    Args:
        model: computes something of its own on each of ``copies`` copies of the examples.
        batches: of the sample; the tokens after each prompt are not used.
        answers: of the same examples. :func:`as_tree` must have agreed for this model.
        copies: how many.
        advance: called after a batch.
    """
    count = sum(len(batch.rows) for batch in batches)
    logs = np.zeros((copies, count, len(answers)))
    hits = np.zeros((copies, count, len(answers)), bool)
    with evaluating(model):
        cache = run_prefix(model, batches[0], copies) if batches and batches[0].prefix else None
        for batch in batches:
            for part in _parts(model, batch, answers.tree, copies):
                rows = part.rows.numpy()
                logs[:, rows], hits[:, rows] = _forward(model, part, answers.tree, copies, cache)
            if advance:
                advance()
    lengths = np.array([len(one) for one in answers.tokens], np.int64)[answers.labels]
    own = np.arange(count), answers.labels
    return [
        Evaluation(-logs[copy][own], lengths, hits[copy][own], logs[copy], answers.labels)
        for copy in range(copies)
    ]


def _parts(model: Any, batch: Batch, tree: Tree, copies: int) -> Iterator[Batch]:
    """The batch in parts of as many logits as a batch may have: each node of the tree has some."""
    vocabulary = model.config.get_text_config().vocab_size
    size = max(1, LOGITS // (copies * (1 + len(tree.ids)) * vocabulary))
    for start in range(0, len(batch.rows), size):
        some = slice(start, start + size)
        yield replace(
            batch, rows=batch.rows[some], ids=batch.ids[some], mask=batch.mask[some],
            answer=batch.answer[some],
        )  # fmt: skip


def _forward(
    model: Any, batch: Batch, tree: Tree, copies: int, cache: Any
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Log-probability of every answer, and whether greedy decoding writes it.

    Each ``(copies, batch, answers)``.
    """
    logits = _logits(model, batch, tree, copies, cache)
    total = torch.logsumexp(logits, -1)
    best = logits.argmax(-1)
    place, token, answer = (t.to(logits.device) for t in (tree.place, tree.token, tree.answer))
    logs = (logits[:, place, token] - total[:, place]).double()
    missed = (best[:, place] != token).double()
    none = torch.zeros(
        len(logits), int(answer.max()) + 1, dtype=torch.float64, device=logits.device
    )
    summed = none.index_add(1, answer, logs).view(copies, len(batch.rows), -1)
    wrong = none.index_add(1, answer, missed).view_as(summed)
    return summed.cpu().numpy(), (wrong == 0).cpu().numpy()


def _logits(model: Any, batch: Batch, tree: Tree, copies: int, cache: Any) -> Tensor:
    """``(copies · batch, 1 + nodes, vocabulary)``, float32: first at the end of the prompt."""
    device = next(model.parameters()).device
    start = 0 if cache is None else batch.prefix
    lengths = batch.positions.int().argmax(1, keepdim=True) + 1  # of the prompts
    rows, longest, nodes = len(batch.rows), int(lengths.max()), len(tree.ids)
    columns = torch.arange(longest)
    ids = torch.cat((batch.ids[:, start:longest], tree.ids.expand(rows, nodes)), 1)
    places = torch.cat((columns[start:].expand(rows, -1), lengths - 1 + tree.depth), 1)
    sees = torch.zeros(rows, ids.shape[1], longest + nodes, dtype=torch.bool)
    sees[:, : longest - start, :longest] = columns[start:, None] >= columns
    sees[:, longest - start :, :longest] = (columns < lengths)[:, None]
    sees[:, longest - start :, longest:] = tree.sees
    wanted = torch.cat((columns[start:] == lengths - 1, torch.ones(rows, nodes).bool()), 1)
    blocked = torch.finfo(model.dtype).min
    mask = torch.zeros(sees.shape, dtype=model.dtype).masked_fill(~sees, blocked)[:, None]
    past = cached(model, cache, rows)
    with head_only_at(model, wanted.repeat(copies, 1)):
        output = model(
            input_ids=ids.repeat(copies, 1).to(device),
            attention_mask=mask.repeat(copies, 1, 1, 1).to(device),
            position_ids=places.repeat(copies, 1).to(device),
            use_cache=bool(past),
            **past,
        )
    return output.logits[0].float().view(copies * rows, 1 + nodes, -1)


def evaluate_apart(
    model: Any,
    tokens: Sequence[Tokens],
    answers: AnswerSet,
    pad_id: int,
    vocabulary: int,
    *,
    size: int = _TOGETHER,
) -> Evaluation:
    """The same numbers from a plain sequence for every prompt and answer: slow, always right."""
    whole = []
    for one in tokens:
        prompt = one.ids[: one.answer.index(True)]
        for answer in answers.tokens:
            marks = (False,) * len(prompt) + (True,) * len(answer)
            whole.append(Tokens(prompt + answer, marks, seen=one.seen))
    found = evaluate(model, make_batches(whole, pad_id, vocabulary, size=size))
    shape = (len(tokens), len(answers))
    own = np.arange(len(tokens)), answers.labels
    return Evaluation(
        found.losses.reshape(shape)[own],
        found.tokens.reshape(shape)[own],
        found.correct.reshape(shape)[own],
        -found.losses.reshape(shape),
        answers.labels,
    )


def as_tree(
    model: Any, tokens: Sequence[Tokens], answers: AnswerSet, pad_id: int, vocabulary: int
) -> bool:
    """Whether ``model`` computes a tree of answers as it computes them apart.

    By a trial on the longest examples. Plain sequences in other batches differ by rounding; the
    tree may differ from them by :data:`_ROUNDINGS` times as much.
    """
    if any(one.seen for one in tokens):
        return False  # the mask and the positions of a row with pictures are the model's own
    order = sorted(range(len(tokens)), key=lambda row: -len(tokens[row].ids))[:_TRIED]
    some, few = [tokens[row] for row in order], answers.of(order)

    def apart(size: int) -> NDArray[np.float64]:
        return _logs(evaluate_apart(model, some, few, pad_id, vocabulary, size=size))

    plain = apart(_TOGETHER)
    try:
        batches = make_batches(some, pad_id, vocabulary)
        tree = _logs(evaluate_answers(model, batches, few)[0])
    except Exception:  # whatever a model raises that cannot be used this way
        return False
    rounding = np.linalg.norm(apart(1) - plain) + _LEAST * np.linalg.norm(plain)
    return bool(np.linalg.norm(tree - plain) <= _ROUNDINGS * rounding)


def _logs(evaluation: Evaluation) -> NDArray[np.float64]:
    assert evaluation.answers is not None
    return evaluation.answers
