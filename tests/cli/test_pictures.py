"""Rows with pictures on the command line: mistakes are named, and nothing is a crash."""

from helpers import write_adapter, write_jsonl
from pictures import picture_rows


def test_mistakes_are_named_with_row_and_file(mashup, tmp_path, tiny_base):
    write_adapter(tmp_path / "lib/a", base=str(tiny_base))
    rows = picture_rows(tmp_path, 40)
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    given = ("score", tmp_path / "lib", "--model", tiny_base, "--dataset", data, "--samples", 4)
    code, _, err = mashup(*given)
    assert code == 3
    assert "base does not see" in err
    assert "rows.jsonl" in err
    (tmp_path / "pictures/3.png").write_bytes(b"none")
    (tmp_path / "pictures/5.png").unlink()
    code, _, err = mashup(*given)
    assert code == 3
    assert "line 4 of" in err
    assert "line 6 of" in err
    assert "Traceback" not in err
