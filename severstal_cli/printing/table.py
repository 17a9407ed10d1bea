"""The table that all commands print, by rich on stdout."""

import re
from collections.abc import Iterator, Sequence

from severstal_cli.errors import shown

BETWEEN = 3
"""Columns of the terminal between two columns of a table: a space on each side, and the line of the box."""

WIDEST_CELL = 24
"""A longer cell may be wrapped at its spaces; a shorter one stays in one line, such as an interval."""


def figure(value: float | None) -> str:
    """Four decimals; empty for None."""
    return "" if value is None else f"{value:.4f}"


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> None:
    """Print a table; columns of numbers are right-aligned.

    Columns that the terminal has no room for follow in another table below, beside the first column again: no word is
    broken unless it is wider than the terminal.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False, highlight=False)
    room = max(console.width - 1, 20)
    cells = [[shown(cell) for cell in row] for row in (header, *rows)]
    if sum(_width(cells, column, True) + BETWEEN for column in range(len(header))) > room:
        cells = [[_broken(row[0], room // 2), *(_broken(cell, WIDEST_CELL) for cell in row[1:])] for row in cells]
    for number, columns in enumerate(_blocks(cells, room)):
        table = Table(
            title="" if number else shown(title),
            title_justify="left",
            box=box.SIMPLE_HEAD,
        )
        for column, width in columns:
            is_text = any(row[column].strip(".0123456789") for row in rows)
            table.add_column(
                cells[0][column], justify="left" if is_text or not column else "right", overflow="fold", width=width
            )
        for row in cells[1:]:
            table.add_row(*(row[column] for column, _ in columns))
        console.print(table)
    if caption:
        console.print("\n".join(map(shown, caption.split("\n"))))


def _blocks(cells: Sequence[Sequence[str]], room: int) -> Iterator[list[tuple[int, int]]]:
    """The columns of each table with their widths; the first column is in all of them."""
    narrow, wide = ([_width(cells, column, whole) for column in range(len(cells[0]))] for whole in (False, True))
    first = min(wide[0], max(narrow[0], room // 2), room * 2 // 3)
    room -= first + BETWEEN
    block: list[int] = []
    for column in range(1, len(cells[0])):
        if block and sum(narrow[each] + BETWEEN for each in (*block, column)) > room:
            yield [(0, first), *_widened(block, narrow, wide, room)]
            block = []
        block.append(column)
    if block or len(cells[0]) == 1:
        yield [(0, first), *_widened(block, narrow, wide, room)]


def _widened(block: Sequence[int], narrow: Sequence[int], wide: Sequence[int], room: int) -> list[tuple[int, int]]:
    """(column, width), where room that is left goes to the columns that wrap, from left to right."""
    widths = {column: narrow[column] for column in block}
    for column in block:
        left = room - sum(width + BETWEEN for width in widths.values())
        widths[column] = max(1, widths[column] + min(left, wide[column] - narrow[column]))
    return list(widths.items())


def _width(cells: Sequence[Sequence[str]], column: int, whole: bool) -> int:
    """The width of a column, as a whole or where it may be wrapped at spaces."""
    from rich.cells import cell_len

    widths = [0]
    for number, row in enumerate(cells):
        for line in row[column].split("\n"):
            stays = whole or (number and len(line) <= WIDEST_CELL)
            widths += map(cell_len, [line] if stays else line.split())
    return max(widths)


def _broken(text: str, width: int) -> str:
    """A text whose longer words, such as names of runs, continue in the next line after one of / - _."""
    words = []
    for word in text.split(" "):
        lines = [""]
        for part in re.findall(r"[^/\-_]+[/\-_]*|[/\-_]+", word):
            if lines[-1] and len(lines[-1] + part) > width:
                lines.append("")
            lines[-1] += part
        words.append("\n".join(lines))
    return " ".join(words)
