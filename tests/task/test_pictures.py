"""Rows with pictures: the formats, what is refused with row and file, and keys."""

import base64
import io
import struct
import zlib

import pytest
import torch
from PIL import Image

from helpers import make_tokenizer, prompt_rows, refused, write_jsonl
from mashup import load_base, load_task
from mashup._score.scorer import example_key
from mashup.errors import InputError
from mashup.evaluate.evaluate import sample_digest, sample_tokens
from mashup.task import tokenize
from mashup.task.examples import Examples
from mashup.task.pictures import MOST_PIXELS
from pictures import picture, save_picture, write_sighted

COUNT = 30


def rows_of(user, count=COUNT, **more):
    """Rows that differ in their question only."""
    made = []
    for number in range(count):
        content = user(number) if callable(user) else user
        turns = [
            {"role": "user", "content": content},
            {"role": "assistant", "content": f"yes {number}"},
        ]
        made.append({"messages": turns, **more})
    return made


def asked(number, **image):
    return [{"type": "image", **image}, {"type": "text", "text": f"what is {number}?"}]


@pytest.fixture
def folder(tmp_path):
    save_picture(tmp_path / "data/a.png", 1)
    return tmp_path / "data"


def load(folder, rows, **settings):
    return load_task(write_jsonl(folder / "rows.jsonl", rows), **settings)


def test_a_picture_is_given_in_many_ways_and_is_the_same(folder):
    content = (folder / "a.png").read_bytes()
    url = "data:image/png;base64," + base64.b64encode(content).decode()
    ways = [
        {"path": "a.png"}, {"image": "a.png"}, {"url": "a.png"}, {"image": str(folder / "a.png")},
        {"url": url}, {"image": url}, {"base64": url.partition(",")[2]},
        {"image": {"path": "a.png"}},
    ]  # fmt: skip
    digests = {load(folder, rows_of(lambda n, w=way: asked(n, **w))).digest for way in ways}
    digests.add(
        load(folder, rows_of(lambda n: [asked(n)[0], asked(n)[1]], images=["a.png"])).digest
    )
    digests.add(load(folder, rows_of(lambda n: f"what is {n}?", images=["a.png"])).digest)
    digests.add(load(folder, rows_of(lambda n: f"<image>what is {n}?", image="a.png")).digest)
    in_memory = rows_of(lambda n: f"what is {n}?", images=[{"bytes": content, "path": None}])
    digests.add(load_task(in_memory).digest)
    assert len(digests) == 1


def test_prompts_and_completions_have_pictures_too(folder):
    rows = [
        {"prompt": f"what is {n}?", "completion": f"yes {n}", "images": ["a.png"]}
        for n in range(COUNT)
    ]
    expected = load(folder, rows_of(lambda n: f"what is {n}?", images=["a.png"]))
    assert load(folder, rows).digest == expected.digest
    example = load(folder, rows).train[0]
    assert [(one.turn, one.at) for one in example.pictures] == [(0, 0)]
    assert example.pictures[0].open().size == (40, 30)


def test_pictures_of_datasets_are_read(folder):
    from datasets import Dataset, Features, Value
    from datasets import Image as Kind

    pictures = [picture(number) for number in range(COUNT)]
    columns = {
        "prompt": [f"{n}?" for n in range(COUNT)], "completion": ["yes"] * COUNT, "image": pictures,
    }  # fmt: skip
    kinds = Features({"prompt": Value("string"), "completion": Value("string"), "image": Kind()})
    task = load_task(Dataset.from_dict(columns, features=kinds))
    assert task.sees
    assert len({one.pictures[0].digest for one in task.train}) == len(task.train)


def test_the_question_alone_is_not_the_prompt(folder):
    for number in range(COUNT):
        save_picture(folder / f"{number}.png", number)
    rows = rows_of(lambda n: [{"type": "image", "path": f"{n}.png"}, {"type": "text", "text": "?"}])
    task = load(folder, rows)
    assert len({one.prompt_key for one in task.train}) == len(task.train)
    assert not {one.prompt_key for one in task.train} & {one.prompt_key for one in task.test}
    assert Examples.of(list(task.train)).prompts == Examples.of(task.train).prompts


def truncated():
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (5, 9, 200)).save(stream, "JPEG")
    return stream.getvalue()[:-30]


def bomb():
    """A PNG of a few bytes that says it is 60,000 pixels wide and high."""

    def chunk(name, data):
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(9)))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "no such file"),
        (b"no picture at all", "cannot be read: cannot identify image file"),
        (b"", "cannot be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot identify image file"),
        (bomb(), "cannot be read: Image size (3600000000 pixels)"),
    ],
)
def test_bad_pictures_are_named_with_row_and_file(folder, content, found):
    if content is not None:
        (folder / "bad.png").write_bytes(content)
    rows = rows_of(lambda n: asked(n, path="a.png" if n != 6 else "bad.png"))
    with refused("bad row", where="line 7 of ", found=found) as caught:
        load(folder, rows)
    assert str(folder / "bad.png") in caught.value.problems[0].found
    assert len(load(folder, rows, drop_bad=True).train) > 0


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(folder):
    side = int(MOST_PIXELS**0.5) + 1
    Image.new("1", (side, side)).save(folder / "large.png")
    with refused("bad row", found=f"has {side} x {side} pixels"):
        load(folder, rows_of(lambda n: asked(n, path="large.png")))


@pytest.mark.parametrize(
    ("user", "more", "found"),
    [
        (lambda n: asked(n, url="https://example.org/a.png"), {}, "is an address"),
        (lambda n: asked(n, url="data:image/png;base64,%%%"), {}, "is no base64"),
        (lambda n: asked(n, url="data:image/png,abc"), {}, "not in base64"),
        (lambda n: asked(n), {}, "1 place for 0 pictures"),
        (lambda n: asked(n), {"images": ["a.png", "a.png"]}, "1 place for 2 pictures"),
        (lambda n: "<image><image>?", {"images": ["a.png"]}, "2 places for 1 picture"),
        (lambda n: asked(n, image=5), {}, "a picture is int"),
        (lambda n: "what?", {"videos": ["a.mp4"]}, "films or sound"),
        (lambda n: [{"type": "audio", "audio": "a.wav"}], {}, "a part of a message is audio"),
    ],
)
def test_what_is_no_picture_is_named(folder, user, more, found):
    with refused("bad row", where="rows.jsonl", found=found):
        load(folder, rows_of(user, **more))


def test_a_picture_in_an_answer_is_refused(folder):
    turns = [
        {"role": "user", "content": "draw it"},
        {"role": "assistant", "content": asked(1, path="a.png")},
    ]
    with refused("bad row", found="a picture in an assistant turn"):
        load(folder, [{"messages": turns}] * COUNT)


def test_a_dataset_has_pictures_in_all_rows_or_in_none(folder):
    seen, said = rows_of(lambda n: asked(n, path="a.png")), prompt_rows(2)
    with refused("bad row", where="line 31 of", found="the row has no picture"):
        load(folder, [*seen, *rows_of("what?", 1)])
    with refused("bad row", where="line 3 of", found="the row has pictures"):
        load(folder, [*said, {**said[0], "images": ["a.png"]}])
    test = write_jsonl(folder / "test.jsonl", prompt_rows(9))
    with refused("bad row", found="the row has no picture"):
        load(folder, seen, test=test)


def test_a_base_that_does_not_see_is_named_with_the_row(folder, tiny_base):
    task = load(folder, rows_of(lambda n: asked(n, path="a.png")))
    with refused("base does not see", where=str(tiny_base), found="rows.jsonl"):
        sample_tokens(load_base(tiny_base), task, 4, 42, 512)
    with refused("cannot use row", found="it has pictures"):
        tokenize(make_tokenizer(), task.train, max_length=512)


def test_a_base_without_its_processor_is_named(folder, seeing_base):
    task = load(folder, rows_of(lambda n: asked(n, path="a.png")))
    with refused("no processor of the base", where=str(seeing_base)):
        sample_tokens(load_base(seeing_base), task, 4, 42, 512)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(write_sighted(tmp_path_factory.mktemp("m") / "gemma3", "gemma3"))


def test_a_picture_that_is_damaged_within_is_named_when_it_is_opened(folder, base):
    (folder / "bad.jpg").write_bytes(truncated())
    task = load(folder, rows_of(lambda n: asked(n, path="bad.jpg")))
    with refused("cannot use row", where="rows.jsonl", found="bad.jpg' cannot be read"):
        sample_tokens(base, task, 4, 42, 512)


def test_a_picture_that_changes_or_goes_away_is_named(folder, base, monkeypatch):
    monkeypatch.setattr("mashup.task.tokens._KEPT", 0)
    task = load(folder, rows_of(lambda n: asked(n, path="a.png")))
    tokens = sample_tokens(base, task, 4, 42, 512)
    kept = tokens[0].seen.inputs(len(tokens[0].ids))
    assert set(kept) == {"pixel_values", "token_type_ids"}
    save_picture(folder / "a.png", 2)
    with refused("cannot use row", found="has changed since the row was read"):
        tokens[0].seen.inputs(4)
    (folder / "a.png").unlink()
    with pytest.raises(InputError, match="no such file"):
        tokens[0].seen.inputs(4)


def test_a_template_without_pictures_is_refused(folder, base, monkeypatch):
    task = load(folder, rows_of(lambda n: asked(n, path="a.png")))
    processor = base.processor("")
    template = processor.chat_template.replace("<start_of_image>", "")
    monkeypatch.setattr(processor, "chat_template", template)
    with pytest.raises(InputError) as caught:
        sample_tokens(base, task, 4, 42, 512)
    assert caught.value.problems[0].what == "cannot use row"


def test_other_settings_of_the_processor_are_another_sample(folder, tmp_path):
    from mashup.files import read_json
    from mashup.outputs import to_json

    task = load(folder, rows_of(lambda n: asked(n, path="a.png")))
    path = write_sighted(tmp_path / "g", "gemma3")
    first = sample_digest(sample_tokens(load_base(path), task, 4, 42, 512))
    settings = read_json(path / "processor_config.json")
    settings["image_processor"]["image_mean"] = [0.1, 0.2, 0.3]
    (path / "processor_config.json").write_text(to_json(settings))
    assert sample_digest(sample_tokens(load_base(path), task, 4, 42, 512)) != first


def test_the_keys_of_rows_of_text_are_as_ever():
    """Written down before rows had pictures: whoever changes them loses all that was measured."""
    task = load_task(prompt_rows(60))
    tokens = tokenize(make_tokenizer(), task.sample(4), max_length=512)
    found = [
        task.digest, task.train[0].prompt_key, sample_digest(tokens), example_key(tokens[0]),
        example_key(tokens[0], ((1, 2), (3,))),
    ]  # fmt: skip
    assert [one[:12] for one in found] == [
        "111aae481df6", "90e0b7aeeed0", "d06c13388dc4", "303a3b065dd5", "e17b331b16ad",
    ]  # fmt: skip
    parts = [{"type": "text", "text": "a "}]
    rows = [
        {"messages": [
            {"role": "user", "content": [*parts, {"type": "text", "text": f"b{number}"}]},
            {"role": "assistant", "content": "c"}, {"role": "user", "content": "d <image>"},
            {"role": "assistant", "content": "e"},
        ]}
        for number in range(40)
    ]  # fmt: skip
    task = load_task(rows)
    seen = sorted(key.hex()[:12] for key in task.train[0].seen)
    assert (task.digest[:12], seen) == ("f1d1516130bc", ["98499529d0ae", "a656292c5b04", seen[2]])


def test_what_belongs_to_tokens_is_cut_or_goes_on_with_them():
    from mashup.task.tokens import _fitted, _is_of_tokens

    masks = torch.arange(12).view(1, 4, 3)  # as Llama 3.2 has: which token sees which picture
    assert _is_of_tokens(masks, 4)
    assert _fitted(masks, 3).tolist() == masks[:, :3].tolist()
    assert _fitted(masks, 5).tolist() == [[*masks[0].tolist(), [0, 0, 0]]]
    assert not _is_of_tokens(torch.zeros(1, 4), 4)  # pixels
    assert not _is_of_tokens(torch.ones(2, 4, dtype=torch.long), 4)
