"""Writes the addresses in `[project.urls]` of pyproject.toml to where else they belong: `make links`.

The package's page, the image's label and the rules take them from there by themselves. A file holds a line
for each address that is set and none for the others, so that no address is ever invented.
"""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
_CHART = ROOT / "deploy" / "helm" / "cohere-finetune-exporter"
Urls = Mapping[str, str]


def urls(pyproject: str = "") -> Urls:
    """Return the addresses `Source`, `Documentation` and `Runbooks`; each may be missing."""
    text = pyproject or (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found: Urls = tomllib.loads(text)["project"].get("urls", {})
    return found


def chart(text: str, addresses: Urls) -> str:
    """Return Chart.yaml with where the project lives."""
    text = re.sub(r"^(home|sources): .*\n", "", text, flags=re.MULTILINE)
    source = addresses.get("Source")
    lines = f"home: {addresses.get('Documentation', source)}\nsources: [{source}]\n" if source else ""
    return text + lines


def site(text: str, addresses: Urls) -> str:
    """Return zensical.toml with the site's own address and a link to the source."""
    text = re.sub(r"^(site|repo)_url = .*\n", "", text, flags=re.MULTILINE)
    wanted = {"site_url": addresses.get("Documentation"), "repo_url": addresses.get("Source")}
    lines = "".join(f"{name} = {json.dumps(url)}\n" for name, url in wanted.items() if url)
    return text.replace("[project]\n", f"[project]\n{lines}", 1)


FILES: Mapping[Path, Callable[[str, Urls], str]] = {
    _CHART / "Chart.yaml": chart,
    ROOT / "zensical.toml": site,
}


def main() -> None:
    """Write every file."""
    addresses = urls()
    for path, linked in FILES.items():
        path.write_text(linked(path.read_text(encoding="utf-8"), addresses), encoding="utf-8")


if __name__ == "__main__":
    main()
