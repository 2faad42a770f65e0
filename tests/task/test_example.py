import pytest

from mashup.task import Example, Message
from mashup.task.example import RowError, conversation_key, from_row

PAIR = ("user", "assistant")
ASKED = Example((Message("user", "Is it?"), Message("assistant", "yes")))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Is it?", "completion": "yes"},
        {
            "prompt": [{"role": "user", "content": "Is it?"}],
            "completion": [{"role": "assistant", "content": "yes"}],
        },
        {"prompt": "Is it?", "completion": [{"role": "assistant", "content": "yes"}]},
        {
            "messages": [
                {"role": "user", "content": "Is it?", "name": "Ann"},
                {"role": "assistant", "content": "yes"},
            ],
            "source": "elsewhere",
        },
    ],
)
def test_every_format_gives_the_same_example(row):
    assert from_row(row) == ASKED == Example.of("Is it?", "yes")


def test_conversations_keep_all_their_turns():
    turns = [("system", "Be short."), ("user", "Hi"), ("assistant", "Hi"), ("user", "Is it?")]
    prompt = [{"role": role, "content": text} for role, text in turns]
    row = {"prompt": prompt, "completion": [{"role": "assistant", "content": "yes"}]}
    assert from_row(row).messages == (*turns, ("assistant", "yes"))


def messages(*turns):
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"completion": "yes"}, "no column 'prompt'"),
        ({"prompt": "Is it?"}, "no column 'completion'"),
        ({"prompt": "Is it?", "completion": " \n"}, "empty completion"),
        ({"prompt": " ", "completion": "yes"}, "empty prompt"),
        ({"prompt": "Is it?", "completion": None}, "nothing in column 'completion'"),
        ({"prompt": "Is it?", "completion": 1.5}, "column 'completion' has float 1.5, not text"),
        ({"prompt": "Is it?", "completion": True}, "column 'completion' has bool True, not text"),
        ({"messages": "Is it?"}, "messages are str"),
        ({"messages": []}, "not a list of role and content"),
        ({"messages": ["Is it?"]}, "a message without role and content"),
        ({"messages": [{"role": "user"}]}, "a message without role and content"),
        (messages(("user", "Is it?")), "no assistant turn"),
        (
            messages(("user", "Hi"), ("assistant", "Yes?"), ("user", "Is it?")),
            "the last turn is the",
        ),
        (messages(("assistant", "yes")), "empty prompt"),
        (messages(("human", "Is it?"), ("assistant", "yes")), "unknown role 'human'; expected"),
        (messages(("user", None), ("assistant", "yes")), "a user turn is NoneType, not text"),
    ],
)
def test_a_row_that_is_no_example_says_why(row, fault):
    with pytest.raises(RowError, match=fault):
        from_row(row)


def test_rows_are_duplicates_when_all_before_the_answer_is_the_same_but_for_white_space():
    key = ASKED.prompt_key
    assert Example.of(" Is\n it? ", "no").prompt_key == key
    assert Example.of("Is it", "yes").prompt_key != key
    longer = Example((Message("system", ""), *ASKED.messages))
    assert longer.prompt_key != key


def test_shots_in_the_prompt_are_not_learnt_and_stand_in_its_key():
    shots = [("user", "2+2?"), ("assistant", "four"), ("user", "3+3?")]
    prompt = [{"role": role, "content": text} for role, text in shots]
    answer = [{"role": "assistant", "content": "six"}]
    asked = from_row({"prompt": prompt, "completion": answer})
    assert asked.first_answer == 3
    other = from_row(
        {"prompt": [*prompt[:2], {"role": "user", "content": "4?"}], "completion": answer}
    )
    assert other.prompt_key != asked.prompt_key


def test_one_conversation_cut_at_several_turns_is_kin():
    turns = [("user", "Hi"), ("assistant", "Yes?"), ("user", "Is it?"), ("assistant", "yes")]
    assert from_row(messages(*turns)).prompt_key == from_row(messages(*turns[:2])).prompt_key
    assert from_row(messages(*turns)).first_answer == 1


def test_the_keys_of_a_conversation_are_those_of_all_before_each_answer():
    turns = [Message("system", "s"), *[Message(r, f"{r} {n}") for n in range(12) for r in PAIR]]
    example = Example(tuple(turns))
    ends = [i for i, turn in enumerate(turns) if turn.role == "assistant"]
    assert example.prompts == {conversation_key(turns[:end]) for end in ends}
    windows = {conversation_key(turns[max(1, end - 15) : end]) for end in ends}
    assert windows < example.seen
    assert conversation_key(turns[1 : ends[8]]) not in example.seen  # nine user turns back


def test_a_conversation_without_end_is_a_bad_row():
    turns = [{"role": role, "content": "a"} for role in PAIR] * 1001
    with pytest.raises(RowError, match="2,002 turns, more than 2,000"):
        from_row({"messages": turns})
