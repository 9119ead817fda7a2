"""Which models the landing page shows: those of a search and a status, a page at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qs, urlencode

from exporter.model import ModelState

PAGE_SIZE = 100
_LONGEST = 200  # characters of a search


@dataclass(frozen=True, slots=True)
class Selection:
    """What the query of the URL asks for; false when it asks for nothing. Pages are counted from 1."""

    text: str = ""
    status: str = ""
    page: int = 1

    @classmethod
    def of(cls, query: str) -> Self:
        """Read a URL's query; what makes no sense is left out."""
        try:
            given = parse_qs(query, errors="replace", max_num_fields=10)
        except ValueError:
            return cls()
        text, status, page = (given.get(name, [""])[0] for name in ("q", "status", "page"))
        number = int(page) if page.isascii() and page.isdigit() and len(page) <= 6 else 1
        return cls(text[:_LONGEST].strip(), status, max(number, 1))

    def __bool__(self) -> bool:
        return bool(self.text or self.status)

    def among(self, states: Sequence[ModelState]) -> Sequence[ModelState]:
        """Return the models that match, in the order given."""
        if self.status:
            states = [state for state in states if state.model.status == self.status]
        if self.text:
            wanted = self.text.casefold()
            states = [state for state in states if wanted in _searched(state).casefold()]
        return states

    def start_of(self, found: Sequence[ModelState]) -> int:
        """Return the place of the page's first model; of the last page's when there are fewer pages."""
        return (min(self.page, self.last_page(len(found))) - 1) * PAGE_SIZE

    def last_page(self, found: int) -> int:
        """Return the number of the last page."""
        return max(-(-found // PAGE_SIZE), 1)

    def query(self, page: int) -> str:
        """Return the URL's query for another page of the same selection."""
        given = {"q": self.text, "status": self.status, "page": page}
        return urlencode({name: value for name, value in given.items() if value}, errors="replace")


def _searched(state: ModelState) -> str:
    model = state.model
    return f"{model.name}\n{model.id}\n{model.base_model}"
