import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mashup.checkpoint import Checkpoint
from mashup.errors import Problem
from mashup.library.scan import dump_record, load_record, to_record

WORDS = st.text(max_size=8)
CHECKPOINTS = st.builds(
    Checkpoint,
    path=st.sampled_from([Path("a/run"), Path("a/run/checkpoint-7"), Path(".")]),
    kind=st.sampled_from(["lora", "full"]),
    base=WORDS,
    rank=st.none() | st.integers(1, 512),
    targets=st.lists(WORDS, max_size=3).map(tuple),
    modules=st.integers(0, 1000),
    task=WORDS,
    metric=st.none() | st.tuples(WORDS, st.floats(allow_nan=False)),
    bytes=st.integers(0),
    best_step=st.none() | st.integers(0),
    problem=st.none() | st.builds(Problem, WORDS, WORDS, WORDS, WORDS, WORDS),
)


@given(checkpoint=CHECKPOINTS)
def test_a_checkpoint_comes_back_from_the_index_as_it_was(checkpoint):
    assert load_record(dump_record(checkpoint), checkpoint.path) == checkpoint


def test_a_record_is_json_with_name_and_state():
    problem = Problem("not JSON", "adapter_config.json")
    record = to_record(Checkpoint(Path("run/checkpoint-7"), "lora", problem=problem))
    assert record == json.loads(json.dumps(record)) | {"targets": (), "unmatched": ()}
    assert (record["path"], record["name"]) == ("run/checkpoint-7", "run/checkpoint-7")
    assert (record["state"], record["problem"]["what"]) == ("not JSON", "not JSON")
