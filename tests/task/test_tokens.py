import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from helpers import make_tokenizer, refused
from mashup.task import Example, Message, tokenize
from mashup.task.tokens import plain_text

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="<"), min_size=1, max_size=30)
WORDS = TEXT.filter(lambda text: text == text.strip() and text)


def one(tokenizer, example, max_length=512):
    return tokenize(tokenizer, [example], max_length=max_length)[0]


def parts(tokenizer, tokens):
    """The text in runs of prompt and answer: ``[(False, prompt), (True, answer), ...]``."""
    runs = []
    for token, answer in zip(tokens.ids, tokens.answer, strict=True):
        if not runs or runs[-1][0] != answer:
            runs.append((answer, []))
        runs[-1][1].append(token)
    return [(answer, tokenizer.decode(ids)) for answer, ids in runs]


def talk(*turns):
    return Example(tuple(Message(role, text) for role, text in turns))


def test_an_answer_is_its_text_and_the_end_of_the_turn_without_the_line_break_after(tokenizer):
    tokens = one(tokenizer, Example.of("Is it?", "yes"))
    assert parts(tokenizer, tokens) == [
        (False, "<|im_start|>user\nIs it?<|im_end|>\n<|im_start|>assistant\n"),
        (True, "yes<|im_end|>"),
    ]
    assert tokens.answer_count == sum(tokens.answer) == len(tokenizer("yes")["input_ids"]) + 1


def test_every_answer_of_a_conversation_is_learnt(tokenizer):
    turns = [("system", "Be short."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Is it?")]
    tokens = one(tokenizer, talk(*turns, ("assistant", "yes")))
    assert parts(tokenizer, tokens) == [
        (
            False,
            "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\n",
        ),
        (True, "Hello<|im_end|>"),
        (False, "\n<|im_start|>user\nIs it?<|im_end|>\n<|im_start|>assistant\n"),
        (True, "yes<|im_end|>"),
    ]


def test_an_opening_turn_of_the_assistant_answers_nothing_and_is_not_learnt(tokenizer):
    tokens = one(tokenizer, talk(("assistant", "Hello!"), ("user", "Is it?"), ("assistant", "yes")))
    assert [text for answer, text in parts(tokenizer, tokens) if answer] == ["yes<|im_end|>"]


@given(prompt=TEXT, completion=WORDS)
def test_prompt_and_answer_come_apart_exactly_where_the_template_puts_them(
    tokenizer, prompt, completion
):
    tokens = one(tokenizer, Example.of(prompt + ".", completion))
    turns = [{"role": "user", "content": prompt + "."}]
    head = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert list(tokens.ids[: len(head)]) == head
    assert tokens.answer == (False,) * len(head) + (True,) * (len(tokens.ids) - len(head))
    assert tokenizer.decode(tokens.ids[len(head) :]) == f"{completion}<|im_end|>"


@given(prompt=WORDS, completion=WORDS)
def test_without_a_template_a_space_joins_them_and_the_end_token_closes(
    plain_tokenizer, prompt, completion
):
    tokens = one(plain_tokenizer, Example.of(prompt, completion))
    assert parts(plain_tokenizer, tokens) == [(False, prompt), (True, f" {completion}<|end|>")]


@pytest.mark.parametrize(
    ("prompt", "completion", "joined"),
    [("Is it?", "yes", " yes"), ("Is it?\n", "yes", "yes"), ("Is it?", "\nyes", "\nyes")],
)
def test_a_space_is_added_only_where_there_is_no_white_space(prompt, completion, joined):
    assert plain_text(Example.of(prompt, completion).messages) == (prompt, joined)


def test_a_conversation_without_a_template_becomes_lines():
    turns = (("system", "Be short."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Is it?"))
    assert plain_text(talk(*turns, ("assistant", "yes")).messages) == (
        "System: Be short.\nUser: Hi\nAssistant: Hello\nUser: Is it?\nAssistant:",
        " yes",
    )


def test_the_tokens_that_a_plain_tokenizer_adds_stay_at_the_ends():
    tokenizer = make_tokenizer(chat=False)
    tokenizer.add_special_tokens({"bos_token": "<|im_start|>"})
    pieces = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("<|im_start|>", "<|end|>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A <|end|>", special_tokens=pieces
    )
    tokens = one(tokenizer, Example.of("Is it?", "yes"))
    assert parts(tokenizer, tokens) == [(False, "<|im_start|>Is it?"), (True, " yes<|end|>")]


def test_a_tokenizer_without_an_end_token_gets_none():
    tokenizer = make_tokenizer(chat=False)
    tokenizer.eos_token = None
    tokens = one(tokenizer, Example.of("Is it?", "yes"))
    assert parts(tokenizer, tokens) == [(False, "Is it?"), (True, " yes")]


def test_a_prompt_that_is_no_token_prefix_is_an_error(tokenizer, plain_tokenizer):
    assert len(plain_tokenizer(" is")["input_ids"]) == 1  # the space and the word are one token
    for tokenizer_, example in (
        (plain_tokenizer, Example.of("It ", "is")),
        (tokenizer, Example.of("It", "\n\nis")),
    ):
        with refused("cannot use row", where="dataset, row 1", found="not a token prefix"):
            one(tokenizer_, example)


def test_rows_that_are_too_long_are_named(tokenizer):
    rows = [Example.of("Is it?", "yes"), Example.of("Is it? " * 50, "yes")] * 2
    longest = len(one(tokenizer, rows[0]).ids)
    where = "tickets (sample), row 2, tickets (sample), row 4"
    with refused("cannot use row", where=where, found=f"longer than {longest} tokens") as caught:
        tokenize(tokenizer, rows, max_length=longest, where="tickets (sample)")
    assert len(caught.value.problems) == 1
    kept = tokenize(tokenizer, rows, max_length=longest, drop_long=True)
    assert kept == tokenize(tokenizer, rows[::2], max_length=longest)
    with refused("cannot use row"):
        tokenize(tokenizer, rows[1::2], max_length=longest, drop_long=True)


def test_tokens_know_their_prompt_and_long_rows_make_no_warning(tokenizer, capfd):
    rows = [Example.of("Is it? " * 500, "yes"), Example.of(" Is  it?", "yes")]
    _, short = tokenize(tokenizer, rows, max_length=10_000)
    assert short.prompt == Example.of("Is it?", "no").prompt_key
    assert "longer than" not in capfd.readouterr().err


def test_what_a_template_refuses_is_passed_on():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + tokenizer.chat_template
    )
    example = talk(("system", "Be short."), ("user", "Is it?"), ("assistant", "yes"))
    with refused("cannot use row", found="no system role"):
        one(tokenizer, example)


def test_a_template_that_writes_half_a_surrogate_pair_is_refused():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ '\\ud800' }}" + tokenizer.chat_template
    with refused("cannot use row", found="half of a surrogate pair"):
        one(tokenizer, Example.of("Is it?", "no"))


@pytest.mark.parametrize("template", ["", " \n"])
def test_an_empty_chat_template_is_not_taken_for_none(template):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    with refused("chat template is empty", found="no text"):
        one(tokenizer, Example.of("Is it?", "yes"))


def test_special_tokens_are_not_added_twice():
    tokenizer = make_tokenizer()
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|end|>"])
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|end|> $A", special_tokens=[("<|end|>", end)]
    )
    tokens = one(tokenizer, Example.of("Is it?", "yes"))
    assert tokens.ids[0] == start
    assert end not in tokens.ids


def test_shots_in_the_prompt_are_not_answers(tokenizer):
    from mashup.task.example import from_row

    shots = [("user", "2+2?"), ("assistant", "four"), ("user", "3+3?")]
    prompt = [{"role": role, "content": text} for role, text in shots]
    example = from_row({"prompt": prompt, "completion": [{"role": "assistant", "content": "six"}]})
    (tokens,) = tokenize(tokenizer, [example], max_length=200)
    answer = [i for i, learnt in zip(tokens.ids, tokens.answer, strict=True) if learnt]
    assert tokenizer.decode(answer) == "six<|im_end|>"


def test_a_row_that_is_too_long_is_rendered_once(tokenizer, monkeypatch):
    row = talk(*[(role, "a") for _ in range(400) for role in ("user", "assistant")])
    calls, render = [], tokenizer.apply_chat_template

    def counted(*arguments, **named):
        calls.append(arguments)
        return render(*arguments, **named)

    monkeypatch.setattr(tokenizer, "apply_chat_template", counted)
    with refused("cannot use row", found="longer than 512 tokens"):
        one(tokenizer, row)
    assert len(calls) == 1
