"""What the passes from response maps to scores cost here, as JSON; under a minute on a GPU.

    python -m benchmarks.gpu_irnet [--images 48] [--size 640x480] [--experiments NAME ...]

Photographs of scikit-image, mirrored and cropped, with four objects of three expressions each, so
that an image has eight labelings. Models have their published sizes and random weights. A pass is
timed as its step runs, with all that it reads and writes: milliseconds an object or an expression
are of the images after the first few, which bear the loading of the model.

`labels_that_differ` counts the labels of CRF that are not those of pydensecrf, or, where that is
not installed, not those of the same code on the CPU.
"""

import argparse
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.crf import PHOTOGRAPHS, photograph
from irnet import make_labels, propagate
from irnet.affinity.crf import label_images
from irnet.affinity.network import AffinityNetwork, about_affinity
from stages import evaluate, predict
from stages.config.load import load_configs
from stages.config.section import CrfName
from stages.config.steps import Labels
from stages.models.saved import build_segmentor, describe
from stages.runtime.device import choose_device
from stages.storage.masks import encode
from stages.storage.tables import ResponseMap, Samples, map_row, write_samples, write_table
from stages.storage.weights import save_weights

OBJECTS, EXPRESSIONS = 4, 3  # of an image, of an object
FIRST = 8  # images whose time is not counted
CELLS, SEEN = 10, 320  # of a response map; pixels a side that stage 1 saw
CPU = torch.device("cpu")


class Data:
    """Images and tables in a folder: of all images, and of the first few."""

    def __init__(self, folder: Path, images: int, width: int, height: int) -> None:
        self.folder, self.images = folder, images
        self.size = (width, height)
        self.rows: dict[str, list[dict[str, Any]]] = {
            name: [] for name in ("images", "objects", "expressions", "maps")
        }
        draw = np.random.default_rng(0)
        for number in range(images):
            self._add(number, draw)
        for count, name in ((images, "all"), (FIRST, "first")):
            self._write(folder / name, count)

    def _add(self, number: int, draw: np.random.Generator) -> None:
        width, height = self.size
        pixels = photograph(PHOTOGRAPHS[number % 3], width + 64, height + 64)
        down, right = draw.integers(0, 64, 2)
        pixels = pixels[down : down + height, right : right + width]
        pixels = pixels[:, :: draw.choice([1, -1])]
        file = self.folder / f"{number}.jpg"
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, quality=95)
        size = {"width": width, "height": height}
        self.rows["images"].append({"image": number, "file": str(file), **size})
        for mask, grid in discs(draw, width, height):
            target = len(self.rows["objects"])
            rows, columns = mask.nonzero()
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            known = {"object": target, "image": number, "split": "val", "name": str(target)}
            truth = {"mask": encode(mask), "boxes": [box], "no_target": False}
            self.rows["objects"].append({**known, **truth})
            for place in range(EXPRESSIONS):
                self.rows["expressions"].append(
                    {
                        "expression": EXPRESSIONS * target + place,
                        "object": target,
                        "text": f"the round thing number {place}",
                        "kind": "",
                    }
                )
            response = ResponseMap(EXPRESSIONS * target, grid, SEEN)
            self.rows["maps"].append(map_row(target, response, [0.5]))

    def _write(self, folder: Path, images: int) -> None:
        import pandas as pd

        folder.mkdir()
        objects = images * OBJECTS
        write_samples(
            folder,
            Samples(
                pd.DataFrame(self.rows["images"][:images]),
                pd.DataFrame(self.rows["objects"][:objects]).assign(category=""),
                pd.DataFrame(self.rows["expressions"][: objects * EXPRESSIONS]),
            ),
        )
        write_table(folder / "maps.parquet", "maps", self.rows["maps"][:objects])


def discs(
    draw: np.random.Generator, width: int, height: int
) -> list[tuple[NDArray[np.bool_], NDArray[np.float32]]]:
    """A mask (height, width) and a response map (CELLS, CELLS) of each object of an image."""
    rows, columns = np.mgrid[:height, :width]
    grid = (np.mgrid[:CELLS, :CELLS] + 0.5) / CELLS
    made = []
    for y, x, radius in draw.uniform((0.2, 0.2, 0.1), (0.8, 0.8, 0.25), (OBJECTS, 3)):
        mask = np.hypot(rows / height - y, columns / width - x) < radius
        response = radius + 0.1 - np.hypot(grid[0] - y, grid[1] - x)
        made.append((mask, (response + draw.normal(0, 0.01, response.shape)).astype(np.float32)))
    return made


def timed(work: Callable[[], object]) -> float:
    """Seconds of some work, with what it leaves to a GPU."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def step(data: Data, work: Callable[[Path], object], divisor: int) -> float:
    """Milliseconds for each of `divisor` things of an image; `work` gets a folder of tables."""
    work(data.folder / "first")  # warms up
    start = timed(lambda: work(data.folder / "first"))
    whole = timed(lambda: work(data.folder / "all"))
    return round(1000 * (whole - start) / ((data.images - FIRST) * divisor), 3)


def crf(data: Data, device: torch.device) -> dict[str, Any]:
    """The CRF of a batch of photographs: milliseconds an object, and labels that differ."""
    width, height = data.size
    images = [photograph(name, width, height) for name in PHOTOGRAPHS] * 4
    draw = np.random.default_rng(1)
    responses = []
    for _ in images:
        maps = np.stack([mask for mask, _ in discs(draw, width, height)]).astype(np.float32)
        responses.append(torch.from_numpy(maps) * torch.linspace(0.15, 1, width))
    config, on_device = Labels(), [maps.to(device) for maps in responses]

    def label() -> list[torch.Tensor]:
        return label_images(images, on_device, config, device, "torch")

    label()
    seconds = min(timed(label) for _ in range(3))
    reference: CrfName = "pydensecrf" if importlib.util.find_spec("pydensecrf") else "torch"
    expected = label_images(images[:3], responses[:3], config, CPU, reference)
    differ = [
        int((ours.cpu() != theirs).sum())
        for ours, theirs in zip(label()[:3], expected, strict=True)
    ]
    return {
        "milliseconds_an_object": round(1000 * seconds / (len(images) * OBJECTS), 3),
        "compared_with": reference if reference == "pydensecrf" else "torch on the CPU",
        "labels_that_differ": sum(differ),
        "labels": 3 * OBJECTS * width * height,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=48, help=f"more than {FIRST}")
    parser.add_argument("--size", default="640x480", help="width x height")
    parser.add_argument(
        "--experiments", nargs="+", default=["tris_r50_refcoco", "cris_r50_refcoco"]
    )
    parser.add_argument("--workers", type=int, default=8, help="of make_labels")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    device = choose_device()
    experiments = load_configs(Path("configs")).experiments
    published = experiments[options.experiments[0]]  # whose affinity network is used
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "torch": torch.__version__,
        "size": options.size,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = Data(folder, options.images, width, height)
        result["crf"] = crf(data, device)
        print(json.dumps(result), flush=True)  # also if what follows takes too long

        result["make_labels_milliseconds_an_object"] = step(
            data,
            lambda tables: make_labels.run(
                tables, [tables / "maps.parquet"], folder / "l", Labels(), options.workers
            ),
            OBJECTS,
        )
        torch.manual_seed(0)
        network = AffinityNetwork(published.affinity.backbone)
        model = folder / "affinity.safetensors"
        save_weights(model, network.state_dict(), about_affinity(published.affinity))
        result["propagate_milliseconds_an_object"] = step(
            data,
            lambda tables: propagate.run(
                tables, [tables / "maps.parquet"], model, folder / "m", published.propagation
            ),
            OBJECTS,
        )
        print(json.dumps(result), flush=True)
        each = OBJECTS * EXPRESSIONS
        for kind in options.experiments:
            config = experiments[kind].segmentor
            segmentor = build_segmentor(config, pretrained=False)
            trained = folder / f"{kind}.safetensors"
            save_weights(trained, segmentor.state_dict(), describe(config.model, config))
            made = folder / f"{kind}.parquet"
            result[f"predict_{kind}_milliseconds_an_expression"] = step(
                data,
                lambda tables, made=made, trained=trained: predict.run(
                    tables, made, "val", published.evaluation, model=trained
                ),
                each,
            )
            result[f"evaluate_{kind}_milliseconds_an_expression"] = step(
                data,
                lambda tables, made=made: evaluate_first(tables, made, data),
                each,
            )
            print(json.dumps(result), flush=True)


def evaluate_first(tables: Path, predictions: Path, data: Data) -> None:
    """Scores of the predictions of all images, or of the first few."""
    import pandas as pd

    some = tables / "predictions.parquet"
    if not some.exists():
        rows = pd.read_parquet(predictions)
        count = FIRST if tables.name == "first" else data.images
        write_table(some, "predictions", rows[: count * OBJECTS * EXPRESSIONS])
    evaluate.run(tables, "val", "segmentor", tables / "rows.parquet", [some])


if __name__ == "__main__":
    main()
