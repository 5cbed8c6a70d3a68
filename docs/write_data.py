"""The page of all public files: python docs/write_data.py > docs/data.md (`make docs`)."""

from pathlib import Path

from stages.config.load import load_configs
from stages.config.settings import RemoteFile

HEAD = """# Public files

    snakemake --cores 1 fetch_coco fetch_refcoco fetch_clip

The files that `snakemake fetch_<name>` fetches, and their sources. `make docs` writes this page
from `configs/downloads.yaml`, which also has the mirrors. A fetched file that does not match its
published checksum is deleted. Where none is published, that of the first fetch is kept in
`data/checksums.sha256`. A file that you put in its place by hand is used as it is.

| `fetch_` | file in `data/` | source | license | published checksum |
|---|---|---|---|---|
"""
TAIL = """
Not fetched:

- gRefCOCO (https://github.com/henghuiding/gRefCOCO; no license stated), which has no permanent
  address;
- the released weights of DETRIS and ReLA, of which only a folder is published:
  `fetch_detris_released` and `fetch_rela_released` say where to put the files. ETRIS's are on
  Baidu; CRIS has released none.

Released weights are imported by the experiments `<row>_released`. No code in them is run; no
checksums are published.

The test images of RefCOCO, RefCOCO+ and RefCOCOg are training images of COCO 2014: a detector or
segmentor trained on COCO has seen them. None of the weights above is known to be trained on COCO:
ResNet-50 and Swin use ImageNet, DINOv2 uses Meta's LVD-142M, the CLIPs use OpenAI's own pairs, BERT
uses text. For other weights, set `trained_on_coco: true` at the file in `configs/downloads.yaml` or
in the experiment that uses them; the report then has a warning.
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
