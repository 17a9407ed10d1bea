"""Shell completion of networks and runs. It runs at every TAB, so it imports nothing heavy."""

import glob
import os
from pathlib import Path

from severstal_cli.learning.networks import names


def networks(incomplete: str) -> list[str]:
    """Names of the registry."""
    return [name for name in names.networks() if name.startswith(incomplete)]


def runs(incomplete: str) -> list[str]:
    """Names of the runs in `models/` or, if none begins so, run folders there and in the typed folder."""
    named = sorted(card.parent.name for card in Path("models").glob(f"{glob.escape(incomplete)}*/model.json"))
    if named and os.sep not in incomplete:
        return named
    typed = Path(incomplete or "models")
    folders = {typed, typed.parent, Path("models")}
    matches = {str(card.parent) for folder in folders for card in folder.glob("*/model.json")}
    return sorted(name for name in matches if name.startswith(incomplete))


def candidates(incomplete: str) -> list[str]:
    """Networks and runs."""
    return [*networks(incomplete), *runs(incomplete)]
