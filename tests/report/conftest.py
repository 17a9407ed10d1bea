"""One browser for all tests of the page."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import chromium


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    if chromium.PROGRAM is None:
        pytest.skip("no Chromium on this machine: the page of `report` is not tested")
    pytest.importorskip("websocket", reason="no websocket-client: the page of `report` is not tested")
    page = chromium.Page(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


@pytest.fixture
def page(browser: chromium.Page) -> Iterator[chromium.Page]:
    """The page may load files only, and must log no fault."""
    browser.faults.clear()
    browser.addresses.clear()
    yield browser
    browser.run("0")  # reads the last messages
    assert browser.faults == []
    assert {address.split(":")[0] for address in browser.addresses} <= {"file", "data", "blob", "about"}
