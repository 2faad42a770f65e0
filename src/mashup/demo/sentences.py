"""The rated sentences that the demo's tasks are made of.

Source: C.J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment
Analysis of Social Media Text", ICWSM 2014. The sdist of ``vaderSentiment`` (MIT) carries its
data: sentences of film reviews, product reviews, newspaper editorials and tweets, each with
the mean of 15 or more people's ratings from -4 (extremely negative) to 4.
"""

from __future__ import annotations

import html
import math
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mashup.demo.fetch import SENTENCES_SDIST
from mashup.errors import InputError, Problem

_ARCHIVE = "additional_resources/hutto_ICWSM_2014.tar.gz"
FILES = {  # the target's source first: of near-duplicates, the first one stays
    "product review": "amazonReviewSnippets_GroundTruth.txt",
    "film review": "movieReviewSnippets_GroundTruth.txt",
    "tweet": "tweets_GroundTruth.txt",
    "newspaper": "nytEditorialSnippets_GroundTruth.txt",
}
_LONGEST = 160  # characters; the longest sentence of a batch sets what the batch costs
_FEWEST = 3  # words
_ALIKE = 0.6  # share of common words from which two sentences are near-duplicates
_PLACEHOLDERS = {"anonymous", "http", "url_removed"}  # of the tweets


@dataclass(frozen=True)
class Sentence:
    """One rated sentence.

    Attributes:
        source: a key of the four sources ("tweet", "film review", ...).
        rating: mean of the human ratings, -4 to 4.
        text: as written, HTML entities resolved, blanks single.
    """

    source: str
    rating: float
    text: str


def read_sentences(sdist: Path) -> list[Sentence]:
    """The usable sentences of all four sources: short, of three words or more, all different.

    The first of near-duplicates stays, in the order of ``FILES``. Some tweets, for example, are
    the authors' own variants of another one, with other capitals and one other word.

    Raises:
        InputError: ``sdist`` is not the archive that was expected.
    """
    try:
        with tarfile.open(sdist) as outer, tarfile.open(fileobj=_member(outer, _ARCHIVE)) as inner:
            found = [s for source, name in FILES.items() for s in _parse(inner, source, name)]
    except (tarfile.TarError, KeyError, ValueError, OSError, EOFError) as error:
        expected = f"the sdist of vaderSentiment {SENTENCES_SDIST.version}"
        raise InputError(
            Problem("cannot read the sentences", str(sdist), str(error), expected)
        ) from error
    return _distinct(
        s for s in found if len(s.text) <= _LONGEST and len(words_of(s.text)) >= _FEWEST
    )


def _member(archive: tarfile.TarFile, ending: str) -> IO[bytes]:
    """The file whose path ends so; the folders above it are named after versions."""
    for name in archive.getnames():
        stream = archive.extractfile(name) if name.endswith(f"/{ending}") else None
        if stream is not None:
            return stream
    raise KeyError(f"no {ending} in the archive")


def _parse(archive: tarfile.TarFile, source: str, name: str) -> Iterator[Sentence]:
    """Sentences of one file: lines of id, mean rating and text, between tabs."""
    for line in _decoded(_member(archive, name).read()).split("\n"):
        if line.strip():
            _, rating, text = line.split("\t", 2)
            yield Sentence(source, float(rating), " ".join(html.unescape(text).split()))


def _decoded(content: bytes) -> str:
    """UTF-8, with a byte-order mark or not, or else Latin-1, which takes any byte."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def words_of(text: str) -> list[str]:
    """Lower-case words of a text, without the placeholders that tweets have for names."""
    return [word for word in re.findall(r"[\w']+", text.lower()) if word not in _PLACEHOLDERS]


def _distinct(sentences: Iterable[Sentence]) -> list[Sentence]:
    """``sentences`` without near-duplicates of earlier ones (Jaccard similarity of the words).

    Two sets that are alike share one of their rarest words, so only those are looked up
    (prefix filtering; Bayardo et al., "Scaling Up All Pairs Similarity Search", WWW 2007).
    """
    words = {sentence: frozenset(words_of(sentence.text)) for sentence in sentences}
    frequency = Counter(word for bag in words.values() for word in bag)
    index: dict[str, list[frozenset[str]]] = defaultdict(list)
    kept = []
    for sentence, bag in words.items():
        rarest = sorted(bag, key=lambda word: (frequency[word], word))
        prefix = rarest[: len(bag) - math.ceil(_ALIKE * len(bag)) + 1]
        if any(_alike(bag, other) for word in prefix for other in index[word]):
            continue
        kept.append(sentence)
        for word in prefix:
            index[word].append(bag)
    return kept


def _alike(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) >= _ALIKE * len(one | other)
