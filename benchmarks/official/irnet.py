"""IRNet: confident labels by the dense CRF, and the random walk."""

import importlib
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from benchmarks.crf import photograph, rough_masks
from benchmarks.official.clone import on, opened
from benchmarks.official.comparison import Comparison, Results, Sizes
from irnet.affinity.crf import label_images
from irnet.affinity.walk import random_walk
from stages.config.steps import Labels, Propagation

OBJECTS = 3  # of an image; instances of the walk
WALK = 2e-4  # both walks are float32: 1e-4 and 5e-5 from one in float64


def labels(root: Path, sizes: Sizes, device: torch.device) -> Comparison:
    """The labels of the objects of one photograph; the official code reads and writes files."""
    with opened(root):
        making = importlib.import_module("step_refer.cam_to_ir_label")
    width, height = sizes.picture
    image = photograph("astronaut", width, height)
    slope = np.linspace(0.15, 1, width, dtype=np.float32)
    responses = rough_masks(OBJECTS, width, height).astype(np.float32) * slope
    config = Labels()
    folder = tempfile.TemporaryDirectory()
    names = [str(number) for number in range(OBJECTS)]
    for name, values in zip(names, responses, strict=True):
        np.save(Path(folder.name) / f"{name}.npy", values)
    args = SimpleNamespace(
        cam_out_dir=folder.name,
        ir_label_out_dir=folder.name,
        conf_fg_thres=config.foreground_threshold,
        conf_bg_thres=config.background_threshold,
        num_workers=2,  # its progress divides by a twentieth of the data set, in the last worker
    )
    items = [[{"name": name, "img": image} for name in names]]
    maps = torch.from_numpy(responses).to(device)

    def label_ours() -> torch.Tensor:
        (labeled,) = label_images([image], [maps], config, device)
        return labeled.cpu()

    def results() -> tuple[Results, Results]:
        files = [Path(folder.name) / f"{name}.png" for name in names]
        return (
            {"labels": np.stack([np.asarray(Image.open(file)) for file in files])},
            {"labels": label_ours().numpy()},
        )

    work = f"a photograph of {width} x {height}, {OBJECTS} objects"
    return Comparison(
        lambda: making._work(0, items, args), label_ours, results, work, {"labels": 0.0}
    )


def walk(root: Path, sizes: Sizes, device: torch.device) -> Comparison:
    """The random walk of the instances of an image, from its edges."""
    with opened(root):
        indexing = importlib.import_module("misc.indexing")
    config = Propagation()
    draw = torch.Generator().manual_seed(0)
    edge = (torch.rand((1, *sizes.walked), generator=draw) * 0.8).to(device)
    scores = torch.rand((1, OBJECTS, *sizes.walked), generator=draw).to(device)

    def walk_official() -> torch.Tensor:
        with on(device), torch.no_grad():
            done: torch.Tensor = indexing.propagate_to_edge(
                scores, edge, radius=config.radius, beta=config.beta, exp_times=8
            )
        return done[:, 0]

    def walk_ours() -> torch.Tensor:
        with torch.no_grad():
            return random_walk(scores, edge, config.radius, config.beta, config.steps)[0]

    def results() -> tuple[Results, Results]:
        return {"scores": walk_official()}, {"scores": walk_ours()}

    height, width = sizes.walked
    work = f"{OBJECTS} maps of {width} x {height} cells, {config.steps} steps"
    return Comparison(walk_official, walk_ours, results, work, {"scores": WALK})
