"""The page of all public files: python docs/write_data.py > docs/data.md (`make docs`)."""

from pathlib import Path

from stages.config.load import load_configs
from stages.config.settings import RemoteFile

HEAD = """# Public files

Every file that `snakemake fetch_<name>` gets, and where it comes from. Written by `make docs` from
`configs/downloads.yaml`, which has the mirrors too. A checksum is given where one is published:
what does not have it is thrown away. A file that you put in its place by hand is taken as it is.

| `fetch_` | file in `data/` | source | license | published checksum |
|---|---|---|---|---|
"""
TAIL = """
The test images of RefCOCO, RefCOCO+ and RefCOCOg are training images of COCO 2014: a detector or
segmentor of COCO has seen them. No weights here are known to be of COCO: ResNet-50 and Swin are of
ImageNet, DINOv2 of Meta's LVD-142M, the CLIPs of OpenAI's own pairs, BERT of texts. For other ones
say `trained_on_coco: true`, at the file in `configs/downloads.yaml` or in the experiment that uses
it, and its report warns.

Not fetched: gRefCOCO (https://github.com/henghuiding/gRefCOCO; no license stated), which has no
lasting address, and official checkpoints of the segmentors, which an experiment imports from where
its `checkpoint` says. Nothing in them is run when they are read; no checksums are published.
"""


def row(name: str, file: RemoteFile) -> str:
    method, _, digest = (file.checksum or "").partition(":")
    checksum = f"{method} `{digest}`" if digest else "none"
    return f"| `{name}` | `{file.path}` | {file.source} | {file.license} | {checksum} |\n"


def main() -> None:
    folder = Path(__file__).parent.parent / "configs"
    downloads = load_configs(folder).downloads
    rows = [row(name, file) for name, each in downloads.items() for file in each.contents]
    print(HEAD + "".join(rows) + TAIL, end="")


if __name__ == "__main__":
    main()
