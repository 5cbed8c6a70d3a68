"""The version of risflow, and that of the workflow that `risflow init` wrote into a project."""

from pathlib import Path

VERSION = "0.2.0.dev0"
VERSION_FILE = Path("workflow/version.txt")  # in a project


def version_notice(project: Path) -> str | None:
    """A line for who runs the workflow of another version; None for this one's, and a clone's."""
    file = project / VERSION_FILE
    if not file.is_file():
        return None
    stated = file.read_text().strip()
    if stated == VERSION:
        return None
    return (
        f"{project / 'workflow'}: of risflow {stated}; {VERSION} is installed."
        f" `risflow init {project} --update` writes the workflow anew"
    )
