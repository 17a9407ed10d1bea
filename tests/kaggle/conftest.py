"""A local Kaggle."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests are no package: this makes `server` importable
from server import Server, local_kaggle


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A local Kaggle."""
    with local_kaggle(tmp_path / "home", monkeypatch) as local:
        yield local
