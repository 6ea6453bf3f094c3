"""Links between the documents lead to a file that is there, and to a heading in it; no Sphinx is needed to find out."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "data_manifests/README.md",
    ROOT / "probe/embedded/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/codes").glob("*.md")),
]


def prose(text: str) -> str:
    """Return a page without its code: fenced blocks, other than notes, and the text within backticks."""
    text = re.sub(r"^(```+)(?!\{(?:note|tip|warning)).*?^\1`*$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", lambda code: re.sub(r"[\[\]()]", "", code[0]), text)


def links(text: str) -> list[str]:
    """Return the targets of a page's links and figures, without those of other sites."""
    targets = re.findall(r"\]\(([^()\s]+(?:\([^()]*\)[^()\s]*)*)\)", prose(text))
    return [t for t in targets if not re.match(r"[a-z]+:", t)]


def anchors(text: str) -> set[str]:
    """Return the anchors of a page: headings as GitHub and docutils write them, and names such as ``(here)=``."""
    found: Counter[str] = Counter()
    names = set(re.findall(r"^\(([\w-]+)\)=$", text, flags=re.MULTILINE))
    for heading in re.findall(r"^#+ +(.+?) *$", prose(text), flags=re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        names |= {f"{slug}-{found[slug]}" if found[slug] else slug, re.sub("-+", "-", slug).strip("-")}
        found[slug] += 1
    return names


def source_of(path: Path) -> Path:
    """Return the file that is in the repository: pages of the gallery are made from scripts."""
    if path.parent == ROOT / "docs/examples":
        return ROOT / "docs/gallery" / ("GALLERY_HEADER.rst" if path.stem == "index" else f"{path.stem}.py")
    return path


def broken_links(page: Path, text: str) -> list[str]:
    """Return the links of a page that lead nowhere."""
    wrong = []
    for link in links(text):
        name, _, anchor = link.partition("#")
        target = source_of((page.parent / name).resolve()) if name else page
        if target != page and not target.exists():
            wrong.append(link)
        elif anchor and target.suffix == ".md":
            there = text if target == page else target.read_text(encoding="utf-8")
            if anchor not in anchors(there):
                wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page):
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


def test_links_that_lead_nowhere_are_found():
    text = """
# A heading: of `two` terms
[itself](#a-heading-of-two-terms) [again](#a-heading-of-two-terms-1) [gone](#no-heading)
[page](index.md) [missing](no-page.md) ![figure](no-figure.png) [site](https://example.org)
`[code](no-code.md)`
```
[fenced](no-fence.md)
# no heading
```
[after](README.md#install)
# A heading, of `two` terms
"""
    nowhere = ["#no-heading", "no-page.md", "no-figure.png", "README.md#install"]
    assert broken_links(ROOT / "docs/links.md", text) == nowhere


def test_pages_of_the_site_link_only_to_pages_of_the_site():
    outside = {
        page.name: [
            link
            for link in links(page.read_text(encoding="utf-8"))
            if link.startswith("..") and not link.endswith(".png")  # the site takes images along
        ]
        for page in (ROOT / "docs").glob("*.md")
    }
    assert {name: found for name, found in outside.items() if found} == {}


def test_images_of_the_site_are_small():
    images = sorted((ROOT / "docs/images").glob("*.png"))
    assert len(images) > 1
    assert [image.name for image in images if image.stat().st_size >= 300_000] == []


def test_tests_that_a_page_names_exist():
    named = {
        name
        for page in (ROOT / "docs").glob("*.md")
        for name in re.findall(r"\w+/test_\w+\.py", page.read_text(encoding="utf-8"))
    }
    assert len(named) > 15
    assert sorted(name for name in named if not (ROOT / "tests" / name.removeprefix("tests/")).is_file()) == []
