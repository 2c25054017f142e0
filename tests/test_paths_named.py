"""Names and paths of files."""

from pathlib import Path

import pytest

from kvplan.catalog.lookup import resolve
from kvplan.errors import UnknownName


def test_a_file_that_is_here_is_named_as_a_path(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.csv").write_text("gpu,price\nh100,2.5\n")
    with pytest.raises(UnknownName, match=r"write \./mine\.csv for the file here"):
        resolve("prices", "mine.csv", "price list")
    with pytest.raises(UnknownName, match="or give a path"):
        resolve("prices", "x" * 5000, "price list")
