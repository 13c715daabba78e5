"""Every Python block of the documentation runs, page by page, in one namespace a page."""

import re
from pathlib import Path
from unittest import mock

import pytest

from snnkit.datasets import DATASETS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    text = page.read_text()
    monkeypatch.chdir(tmp_path)
    space = {"__name__": "docs"}
    with mock.patch.dict(DATASETS):  # what a page registers is gone after it
        for found in BLOCK.finditer(text):
            line = text[: found.start()].count("\n") + 1
            exec(compile("\n" * line + found.group(1), str(page), "exec"), space)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
