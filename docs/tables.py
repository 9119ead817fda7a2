"""Tables of the pages that are written from code and from results."""

from collections.abc import Iterable, Sequence


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a `|` within a cell must come escaped."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def filled(page: str, name: str, table: str) -> str:
    """Return a page with its table `name` in place of the one that stands there."""
    begin, end = f"<!-- {name}: written by `make docs` -->\n\n", f"\n\n<!-- end of {name} -->"
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise RuntimeError(f"the page has no place for the table {name}")
    return f"{before}{begin}{table}{end}{after}"
