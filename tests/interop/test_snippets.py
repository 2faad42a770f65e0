"""The Python of docs/use-the-init.md for PEFT, transformers and TRL runs as it stands there."""

import json
import sys

from snippets import filled, snippet


def test_the_snippets_for_peft_and_trl_train_the_init(fresh, base, init, rows, tmp_path):
    text = snippet("PEFT and transformers", "python") + snippet("TRL", "python")
    script = tmp_path / "snippets.py"
    text = text.replace("SFTConfig(", "SFTConfig(use_cpu=True, ")
    script.write_text(filled(text, base=base, init=init, rows=rows, output=tmp_path / "run"))
    said = fresh([sys.executable, "-I", script], cwd=tmp_path)
    assert "'train_loss'" in said
    (saved,) = (tmp_path / "run").glob("checkpoint-*/adapter_config.json")
    before = json.loads((init / "adapter_config.json").read_text())
    after = json.loads(saved.read_text())
    for key in ("r", "lora_alpha", "base_model_name_or_path"):
        assert after[key] == before[key]
