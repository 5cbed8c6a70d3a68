"""configs/config.yaml and configs/downloads.yaml."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from stages.config.section import Positive, Section


class RemoteFile(Section):
    """A public file, and where it belongs in data/."""

    path: Path  # in data/
    source: str  # the page that publishes it
    license: str  # as its page states it
    size: str | None = None  # where it is large, as people say it
    trained_on_coco: bool = False  # of weights
    urls: tuple[str, ...] = ()  # mirrors, in the order they are tried; none: is put there by hand
    checksum: Annotated[str, Field(pattern=r"^(sha256|md5):[0-9a-f]{8,64}$")] | None = None
    unpack: Path | None = None  # a zip file: the folder that its content goes into
    gives: tuple[Path, ...] = ()  # patterns of what is in the archive: nothing is fetched if it is


class Download(Section):
    """What is fetched together."""

    contents: tuple[RemoteFile, ...]


class Downloads(Section):
    """configs/downloads.yaml: public data and weights, by the names of their targets."""

    downloads: dict[str, tuple[RemoteFile, ...]] = Field(default_factory=dict)


class Settings(Section):
    """configs/config.yaml: which experiments there are to run, and where results go."""

    results: Path = Path("results")  # the folder of all that is made
    demo: str = "refshapes_tris"  # the experiment of the target demo
    jobs_per_gpu: Positive = 1  # steps that may share a GPU of one machine
    cache_images: Literal["auto", "always", "never"] = "auto"  # resized once, for all epochs
    comparisons: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(
        default_factory=dict
    )  # target -> experiments
