"""What the shell offers after TAB for networks and runs; it imports nothing heavy, as it runs at every TAB."""

from pathlib import Path

from severstal_cli.learning.networks import names


def networks(incomplete: str) -> list[str]:
    """Names of the registry."""
    return [name for name in names.networks() if name.startswith(incomplete)]


def runs(incomplete: str) -> list[str]:
    """Folders of runs under `models/`, or under what has been typed."""
    typed = Path(incomplete or "models")
    folders = {typed, typed.parent, Path("models")}
    found = {str(card.parent) for folder in folders for card in folder.glob("*/model.json")}
    return sorted(name for name in found if name.startswith(incomplete))


def candidates(incomplete: str) -> list[str]:
    """Both."""
    return [*networks(incomplete), *runs(incomplete)]
