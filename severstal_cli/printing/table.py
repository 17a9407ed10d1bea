"""The table that all commands print, by rich on stdout."""

from collections.abc import Sequence

from severstal_cli.errors import shown


def figure(value: float | None) -> str:
    """Four decimals; empty for None."""
    return "" if value is None else f"{value:.4f}"


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> None:
    """Print a table; columns of numbers are right-aligned."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=shown(title),
        title_justify="left",
        caption="\n".join(map(shown, caption.split("\n"))) or None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for number, name in enumerate(header):
        is_text = any(row[number].strip(".0123456789") for row in rows)
        table.add_column(shown(name), justify="left" if is_text or not number else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(shown, row))
    Console(markup=False, emoji=False, highlight=False).print(table)
