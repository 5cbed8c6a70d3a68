"""Pages of the site that stand beside docs/, and links to them (a hook of mkdocs.yml)."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = {
    "README.md": "index.md",
    "data/README.md": "folder_data.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "SECURITY.md": "security.md",
    "THIRD_PARTY_NOTICES.md": "notices.md",
}
LINK = re.compile(r"\]\((?!\w+:|#)([^)#]+)")


def on_files(files: Files, config: Any) -> Files:
    for place, name in PAGES.items():
        text = with_links((ROOT / place).read_text(), place)
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    if page.file.src_uri in PAGES.values():
        return markdown
    return with_links(markdown, f"docs/{page.file.src_uri}")


def with_links(text: str, place: str) -> str:
    """The text of a file, with links as the site has them; all its pages are in one folder."""
    folder = (ROOT / place).parent

    def link(match: re.Match[str]) -> str:
        path = (folder / match[1]).resolve().relative_to(ROOT.resolve()).as_posix()
        return f"]({PAGES.get(path, path.removeprefix('docs/'))}"

    return LINK.sub(link, text)
