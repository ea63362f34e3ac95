"""How the commands print: lines with a name and a value, and tables."""

from collections.abc import Sequence


def row(name: str, value: object) -> None:
    """Print a name and, in a column of their own, its value."""
    print(f"{name:<15}{value}", flush=True)


def rows_of(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown's form, with the first column aligned to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join([first, *others])} |"

    rule = "|".join(["", "-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:]), ""])
    return "\n".join([line(header), rule, *map(line, body)])
