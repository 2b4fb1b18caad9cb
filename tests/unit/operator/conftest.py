"""What several tests of the operator need."""

from __future__ import annotations

import pytest
from eventengine_operator.handlers import object_watches


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watches that failed begin anew at once."""
    monkeypatch.setattr(object_watches, "PAUSE_SECONDS_FIRST", 0.0)
