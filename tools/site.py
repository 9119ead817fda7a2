"""Gathers the pages of the site in `build/site/`, in the folders of the repository: `make site`.

Each relative link must lead to a file that is there, and each anchor to a heading; a link to a folder leads
to its README, or becomes plain text.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
GATHERED = ROOT / "build" / "site"
_LINK = re.compile(r"(!?)\[((?:[^][]|\[[^]]*])*)\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*?)\s*$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_ELSEWHERE = re.compile(r"[a-z]+:|//")


def main() -> int:
    """Gather the pages; print each broken link and return 1 when there is one."""
    shutil.rmtree(GATHERED, ignore_errors=True)
    broken: list[str] = []
    for page in pages():
        target = GATHERED / page
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(gathered(page, broken), encoding="utf-8")
    for line in broken:
        print(line, file=sys.stderr)
    return int(bool(broken))


def pages() -> list[Path]:
    """Return the Markdown pages of the repository, but for what only the package and the forge show."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - fixed
    found = [Path(name) for name in listed.stdout.splitlines() if (ROOT / name).exists()]
    return [page for page in found if page.parts[0] != ".github" and page.name != "package.md"]


def gathered(page: Path, broken: list[str]) -> str:
    """Return the page with links that work on the site; copy what they lead to; name broken ones."""
    text = (ROOT / page).read_text(encoding="utf-8")
    code = [match.span() for match in _CODE.finditer(text)]

    def link(match: re.Match[str]) -> str:
        image, label, address = match.groups()
        inside_code = any(start <= match.start() < end for start, end in code)
        if inside_code or _ELSEWHERE.match(address):
            return match[0]
        path, _, anchor = address.partition("#")
        target = (ROOT / page.parent / path).resolve() if path else ROOT / page
        if target.is_dir() and (target / "README.md").exists():
            target, path = target / "README.md", f"{path.rstrip('/')}/README.md"
        if not target.is_relative_to(ROOT) or not target.exists():
            broken.append(f"{page}: {address} is not there")
        elif target.is_dir():
            return label
        elif anchor and target.suffix == ".md" and anchor not in _anchors(target):
            broken.append(f"{page}: {address}: no such heading")
        elif target.suffix != ".md":
            _copy(target)
        return f"{image}[{label}]({path}{'#' if anchor else ''}{anchor})"

    return _LINK.sub(link, text)


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as forges and the site make them."""
    headings = _HEADING.findall(page.read_text(encoding="utf-8"))
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def _copy(file: Path) -> None:
    target = GATHERED / file.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


if __name__ == "__main__":
    sys.exit(main())
