"""Experiments on rows with pictures: the processor is in the keys, twins keep their pictures."""

from mashup import load_task
from mashup.experiment.inputs import base_key
from mashup.experiment.settings import Experiment, TaskData
from mashup.experiment.work import with_shuffled_answers
from mashup.library import Index
from pictures import picture, write_sighted


def test_the_processor_is_in_the_key_where_rows_have_pictures(tmp_path):
    base = write_sighted(tmp_path / "base", "llava")
    tasks = {name: TaskData(dataset=f"{name}.jsonl") for name in "st"}
    experiment = Experiment(
        name="e", base=str(base), tasks=tasks, dtype="float32", learning_rates=[1e-3]
    )
    with Index(tmp_path) as index:
        text, seen = (base_key(experiment, index, sees=sees) for sees in (False, True))
        assert seen.startswith(text)
        path = base / "processor_config.json"
        path.write_text(path.read_text().replace('"height": 28', '"height": 42', 1))
        assert base_key(experiment, index) == text
        assert base_key(experiment, index, sees=True) != seen


def test_shuffled_answers_come_with_the_pictures_of_their_own_turns():
    rows = [
        {
            "images": [picture(3 * number), picture(3 * number + 1)],
            "messages": [
                {"role": "user", "content": f"<image>{number}"},
                {"role": "assistant", "content": f"yes {number}"},
                {"role": "user", "content": "and <image>"},
                {"role": "assistant", "content": f"no {number}"},
            ],
        }
        for number in range(30)
    ]
    task = load_task(rows)
    known = {one.messages[1].content: one for one in task.train}
    for old, new in zip(task.train, with_shuffled_answers(task, 0).train, strict=True):
        other = known[new.messages[1].content]
        assert new.messages[0] == old.messages[0]
        assert new.pictures == (old.pictures[0], other.pictures[1])
