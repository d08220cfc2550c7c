# SPDX-License-Identifier: Apache-2.0
"""Hooks of MkDocs: the project's own pages join the site, and files that a page links to are served beside it."""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = PurePosixPath("docs")
Entry = dict[str, "str | list[Entry]"]
"""A title, and its page or the entries below it."""
PROJECT = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")
_CODE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replace each FOLDER/* of the navigation by the pages of that folder."""
    config.nav = [_expand(entry) for entry in config.nav or ()]
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the project's own pages, and every file outside of docs/ that some page links to."""
    for name in PROJECT:
        files.append(File.generated(config, f"project/{name}", content=(ROOT / name).read_text(encoding="utf-8")))
    linked = {_source_of(page.src_uri): page.content_string for page in files.documentation_pages()}
    for path in sorted({aim for page, text in linked.items() for aim in _outside(page, text)}):
        files.append(File.generated(config, f"source/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Point links at where their targets are in the site; a link to a folder becomes its text."""
    place = page.file.src_uri
    parts = _CODE.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(lambda m: _moved(place, m), part) for part in parts)


def _expand(entry: Entry) -> Entry:
    [(title, value)] = entry.items()
    if isinstance(value, list):
        return {title: [_expand(one) for one in value]}
    if not value.endswith("/*"):
        return entry
    folder = ROOT / DOCS / value.removesuffix("/*")
    pages = sorted(folder.glob("*.md"), key=lambda page: (page.name != "README.md", page.name))
    return {title: [page.relative_to(ROOT / DOCS).as_posix() for page in pages]}


def _source_of(place: str) -> str:
    """A page's path in the repository, from its place in the site."""
    return place.removeprefix("project/") if place.startswith("project/") else str(DOCS / place)


def _aim(source: str, target: str) -> str:
    return normpath(str(PurePosixPath(source).parent / target))


def _outside(source: str, text: str) -> set[str]:
    aims = {_aim(source, found["target"]) for found in _LINK.finditer(_CODE.sub("", text))}
    return {aim for aim in aims if not aim.startswith("docs/") and aim not in PROJECT and (ROOT / aim).is_file()}


def _moved(place: str, found: re.Match[str]) -> str:
    aim = _aim(_source_of(place), found["target"])
    if (ROOT / aim).is_dir():
        return found["text"]
    if aim in PROJECT:
        moved = f"project/{aim}"
    elif aim.startswith("docs/"):
        moved = aim.removeprefix("docs/")
    else:
        moved = f"source/{aim}"
    return f"[{found['text']}]({relpath(moved, str(PurePosixPath(place).parent))}{found['anchor'] or ''})"
