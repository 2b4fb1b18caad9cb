"""What commands write: whole files, or one line of standard output."""

from __future__ import annotations

from pathlib import Path

import pytest
from eventengine.cli.arguments import UsageError, write_result


def test_a_result_replaces_a_file_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")
    write_result(target, b'{"sent": 1}')
    assert target.read_text() == '{"sent": 1}'
    assert list(tmp_path.iterdir()) == [target]


def test_a_dash_is_one_line_of_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    write_result(Path("-"), b'{\n  "sent": 1\n}')
    assert capsys.readouterr().out == '{"sent": 1}\n'


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    target = tmp_path / "missing" / "result.json"
    with pytest.raises(UsageError, match="can't be written"):
        write_result(target, b"{}")
