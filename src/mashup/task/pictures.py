"""Pictures of rows: where a row may have them, checked when it is read, opened when it is used.

The formats are those of transformers
(https://huggingface.co/docs/transformers/chat_templating_multimodal) and of TRL
(https://huggingface.co/docs/trl/dataset_formats): parts ``{"type": "image", ...}`` of a message,
with the picture in the part or in a column ``images`` or ``image`` of the row. The mark ``<image>``
in a text is that of LLaVA and LLaMA-Factory.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MARK = "<image>"
MOST_PIXELS = 2**26  # 8192 x 8192: 200 MB when it is decoded
MOST_BYTES = 100_000_000  # of a file
#: Formats that PIL reads by itself; it would run Ghostscript for EPS, which is a program.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_COLUMNS = ("images", "image")
_KEYS = ("image", "path", "url", "base64", "image_url")  # of a part, where the picture may be
_TYPES = ("image", "image_url")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class PictureError(ValueError):
    """A picture that cannot be used: which, and why."""


@dataclass(frozen=True)
class Place:
    """Where a conversation has a picture.

    Attributes:
        turn: index of the turn.
        at: how many characters of the turn's text come before it.
        given: the picture as the row has it; None where the next one of a column belongs here.
    """

    turn: int
    at: int
    given: Any = None


@dataclass(frozen=True)
class Picture:
    """A picture in a conversation; its file is read again when it is used.

    Attributes:
        turn, at: where, as :class:`Place` has it.
        digest: SHA-256 (hex) of the bytes of its file.
        path: of the file, "" where the row has the bytes.
        data: the bytes, where there is no file.
    """

    turn: int
    at: int
    digest: str
    path: str = field(default="", compare=False)
    data: bytes = field(default=b"", compare=False, repr=False)

    @property
    def name(self) -> str:
        return repr(self.path) if self.path else f"of {len(self.data):,} bytes in the row"

    def open(self) -> Any:
        """The picture as PIL has it: RGB, turned as its EXIF says, as transformers loads one.

        Raises:
            PictureError: gone, changed since the row was read, or damaged.
        """
        from PIL import Image, ImageOps

        content = self.data or _file(Path(self.path))
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise PictureError(f"picture {self.name} has changed since the row was read")
        with _decoding(self.name), Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            turned = ImageOps.exif_transpose(image)
            return turned.convert("RGB")


def in_part(part: Any) -> tuple[bool, Any]:
    """Whether a part of a message is a picture, and the picture, None where the part has none."""
    if not isinstance(part, Mapping) or part.get("type") not in _TYPES:
        return False, None
    key = next((key for key in _KEYS if part.get(key) is not None), None)
    given = part[key] if key else None
    if key == "image_url" and isinstance(given, Mapping):
        given = given.get("url")
    if key == "base64" and isinstance(given, str) and not given.startswith("data:"):
        given = f"data:;base64,{given}"
    return True, given


def in_columns(row: Mapping[str, Any]) -> list[Any]:
    """The pictures in a column of their own; empty without any."""
    found: Any = next((row[name] for name in _COLUMNS if row.get(name) is not None), [])
    return list(found) if isinstance(found, list | tuple) else [found]


def marked(turns: Sequence[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[Place]]:
    """Turns without the mark ``<image>``, and where it was; assistant turns stay as they are."""
    cut: list[tuple[str, str]] = []
    places: list[Place] = []
    for turn, (role, text) in enumerate(turns):
        parts = text.split(MARK) if role != "assistant" and isinstance(text, str) else [text]
        length = 0
        for part in parts[:-1]:
            length += len(part)
            places.append(Place(turn, length))
        cut.append((role, "".join(parts) if len(parts) > 1 else text))
    return cut, places


def filled(
    turns: Sequence[tuple[str, str]], places: Sequence[Place], column: Sequence[Any], folder: Path
) -> tuple[Picture, ...]:
    """The pictures of a row, in order.

    Args:
        turns: roles and texts.
        places: where the messages have pictures.
        column: pictures of a column, which go to the places without one. Where the messages have
            no place at all, they go before the text of the first user turn, as in TRL.
        folder: that relative paths are below.

    Raises:
        PictureError: other numbers of places and pictures, a picture in an answer, or one that
            cannot be read.
    """
    if column and not places:
        first = next((turn for turn, (role, _) in enumerate(turns) if role == "user"), 0)
        places = [Place(first, 0)] * len(column)
    empty = sum(place.given is None for place in places)
    if empty != len(column):
        raise PictureError(f"{_count(empty, 'place')} for {_count(len(column), 'picture')}")
    if any(turns[place.turn][0] == "assistant" for place in places):
        raise PictureError("a picture in an assistant turn: answers are text")
    rest = iter(column)
    given = [next(rest) if place.given is None else place.given for place in places]
    return tuple(_read(place, one, folder) for place, one in zip(places, given, strict=True))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _read(place: Place, given: Any, folder: Path) -> Picture:
    """A picture as a row has it: a path, a data URL, bytes, a struct of ``datasets``, or PIL's."""
    path, data = _bytes_of(given, folder)
    name = repr(str(path)) if path else f"of {len(data):,} bytes in the row"
    _check(data, name)
    digest = hashlib.sha256(data).hexdigest()
    return Picture(place.turn, place.at, digest, str(path or ""), b"" if path else data)


def _bytes_of(given: Any, folder: Path) -> tuple[Path | None, bytes]:
    if isinstance(given, Mapping):
        inner = given.get("bytes")
        given = given.get("path") if inner is None else inner
    if isinstance(given, bytes):
        return None, given
    if isinstance(given, str | Path):
        text = str(given)
        if text.startswith("data:"):
            return None, _data_url(text)
        if _SCHEME.match(text):
            raise PictureError(
                f"picture {text!r:.100} is an address; give a file or a data URL, since nothing is "
                "downloaded"
            )
        path = (folder / text).absolute()
        return path, _file(path)
    if hasattr(given, "save") and hasattr(given, "mode"):  # PIL's, as ``datasets`` decodes them
        stream = io.BytesIO()
        given.save(stream, "PNG")
        return None, stream.getvalue()
    raise PictureError(f"a picture is {type(given).__name__}, not a path, data URL or bytes")


def _data_url(text: str) -> bytes:
    head, comma, body = text.partition(",")
    if not comma or not head.endswith(";base64"):
        raise PictureError(f"picture {text!r:.40} is a data URL, but not in base64")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PictureError(f"picture {text!r:.40} is no base64: {error}") from None


def _file(path: Path) -> bytes:
    try:
        if not path.is_file():
            what = "not a file" if path.exists() else "no such file"
            raise PictureError(f"picture {str(path)!r}: {what}")
        if (size := path.stat().st_size) > MOST_BYTES:
            raise PictureError(
                f"picture {str(path)!r} has {size:,} bytes, more than {MOST_BYTES:,}"
            )
        return path.read_bytes()
    except OSError as error:
        raise PictureError(f"picture {str(path)!r:.200}: {error.strerror or error}") from None
    except ValueError as error:
        if isinstance(error, PictureError):
            raise
        raise PictureError(f"picture {str(path)!r:.200}: no name for a file") from None


def _check(data: bytes, name: str) -> None:
    """Refuse what is no picture or would fill the memory, by its header alone.

    Raises:
        PictureError: so it is.
    """
    from PIL import Image

    with _decoding(name), Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise PictureError(
                f"picture {name} has {width} x {height} pixels, more than {MOST_PIXELS:,}"
            )
        image.verify()


@contextlib.contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Errors of PIL within the block are :class:`PictureError`; each format has its own."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except PictureError:
        raise
    except Exception as error:
        found = " ".join(str(error).split()) or type(error).__name__
        found = re.sub(r" <_io.BytesIO object at 0x[0-9a-f]+>", "", found)
        raise PictureError(f"picture {name} cannot be read: {found:.200}") from error


def cut_at(text: str, pictures: Sequence[Picture]) -> Iterator[str | Picture]:
    """A turn's text in pieces, with its pictures between them; no empty piece."""
    begin = 0
    for picture in pictures:
        if text[begin : picture.at]:
            yield text[begin : picture.at]
        yield picture
        begin = picture.at
    if text[begin:]:
        yield text[begin:]
