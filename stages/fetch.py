"""Fetch public data or weights to where the experiments look for them (configs/downloads.yaml)."""

from pathlib import Path

from stages.config.settings import Download
from stages.data.download import fetch
from stages.runtime.command_line import main
from stages.storage.files import write_json


def run(config: Download, folder: Path, record: Path) -> None:
    """Get all files of a download into `folder`; `record` lists them. What is there is kept."""
    for file in config.contents:
        fetch(file, folder)
    write_json(record, config.model_dump(mode="json"))


if __name__ == "__main__":
    main(run)
