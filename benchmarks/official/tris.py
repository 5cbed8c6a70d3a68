"""TRIS: steps of stage 1 and stage 2, PRMS of an image, and the evaluation of a split.

The official loops run as they are, on a loader of one batch. Its logger and its tensorboard write
nothing. The judge of the official stage 1 encodes expressions in each step; ours has their features
from before the training, as the project's encode_text gives them.
"""

import argparse
import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.official.clone import Silent, on, opened
from benchmarks.official.comparison import (
    STEP,
    Comparison,
    Results,
    Sizes,
    fill,
    first_loss,
    gradients,
    sentences,
    start,
)
from stages.backbones.clip import frozen, load_clip
from stages.config.experiment import Experiment
from stages.data import response_maps as response
from stages.models.prms import choose_maps
from stages.models.saved import build_segmentor
from stages.models.tris import Stage1Trainer, build_stage1
from stages.runtime.device import inferring
from stages.storage.matching import load_exactly
from stages.training.batches import WHOLE_STEP
from stages.training.engine import _Run

LENGTH, NEGATIVES = 20, 3  # tokens of an expression; expressions of other objects, of each item
OBJECTS, EXPRESSIONS = 3, 3  # of an image, of an object
# Arguments of the official CLIP: embedding, resolution, layers, width, patch.
CLIPS = {"RN50": (1024, 224, (3, 4, 6, 3), 64, None), "ViT-B/32": (512, 224, 12, 768, 32)}
TEXT = (49408, 512, 8, 12)  # vocabulary, width, heads and layers
JUDGE = "ViT-B/32"
MAPS = 5e-3  # an instance norm of one expression enlarges rounding; their maximum is 1


class Scalars(Silent):
    """A tensorboard that keeps the first value of each name."""

    def __init__(self) -> None:
        self.first: dict[str, Any] = {}

    def add_scalar(self, name: str, value: Any, step: int) -> None:
        self.first.setdefault(name, value)


class Official:
    """The modules of a clone of TRIS, with models of random weights."""

    def __init__(self, root: Path, device: torch.device, *names: str) -> None:
        with opened(root):
            self.clip = importlib.import_module("CLIP.clip")
            self.arguments = importlib.import_module("args").get_parser()
            self.modules = [importlib.import_module(name) for name in names]
            clip_model = importlib.import_module("CLIP.clip.model")
        self.device = device
        self.convert = clip_model.convert_weights
        self.make_clip = clip_model.CLIP
        self.clip.load = self._load
        self._judge: nn.Module | None = None

    def _load(self, name: str, txt_length: int = LENGTH, **_options: Any) -> tuple[nn.Module, None]:
        """As the official function, without a download."""
        if name == JUDGE:
            return self.judge(), None
        return self.make_clip(*CLIPS[name], 77, txt_length, *TEXT), None

    def judge(self) -> nn.Module:
        """Frozen CLIP, the same each time."""
        if self._judge is None:
            self._judge = self.make_clip(*CLIPS[JUDGE], 77, LENGTH, *TEXT)
            fill(self._judge, seed=1)
        return self._judge

    def judge_in_use(self, exact: bool) -> nn.Module:
        """Frozen CLIP on the device; on a GPU in 16 bits, as the official loader has it."""
        judge = self.judge().eval().to(self.device)
        if self.device.type == "cuda" and not exact:
            self.convert(judge)
        return judge

    def parse(self, *options: str) -> argparse.Namespace:
        return self.arguments.parse_args([*options, "--epoch", str(10**6)])

    def optimizer(self, model: Any, args: argparse.Namespace) -> torch.optim.Optimizer:
        backbone, others = model.trainable_parameters()
        rate, decay = args.lr, args.weight_decay
        groups = [{"params": backbone, "lr": rate * args.lr_multi}, {"params": others, "lr": rate}]
        return torch.optim.AdamW(groups, lr=rate, weight_decay=decay)


def _batch(sizes: Sizes) -> dict[str, Tensor]:
    """Images, expressions, negatives and masks of a step."""
    count, side = sizes.tris_batch, sizes.tris_side
    draw = torch.Generator().manual_seed(0)
    blocks = torch.rand((count, 1, side // 16, side // 16), generator=draw) < 0.3
    masks = blocks.float().repeat_interleave(16, dim=2).repeat_interleave(16, dim=3)[:, 0]
    return {
        "images": torch.randn((count, 3, side, side), generator=draw),
        "image_index": torch.arange(count),
        "tokens": sentences((count, LENGTH)),
        "negatives": sentences((count, NEGATIVES, LENGTH), seed=1),
        "masks": masks,
    }


def _loader(batch: dict[str, Tensor]) -> list[Any]:
    """The batch as the official data set gives it."""
    tokens, masks = batch["tokens"][:, None], batch["masks"][:, None]
    samples = {"word_ids": tokens, "word_masks": tokens > 0, "img": batch["images"]}
    boxes = torch.zeros((len(masks), 4))
    targets = {"target": masks, "pseudo_gt": masks.long(), "boxes": boxes, "sentences": ()}
    return [(samples | {"neg_word_ids": batch["negatives"]}, targets)]


def stage1_step(
    root: Path, experiment: Experiment, sizes: Sizes, device: torch.device
) -> Comparison:
    """A training step of stage 1."""
    official = Official(root, device, "model.model_stage1", "train_stage1")
    network, training = official.modules
    args = official.parse("--size", str(sizes.tris_side), "--negative_samples", str(NEGATIVES))
    theirs = network.TRIS(args)
    fill(theirs)
    batch = _batch(sizes)

    config = experiment.stage1.model_copy(update=_small(sizes))
    ours, judge = build_stage1(config, False), frozen(load_clip(experiment.judge, False))
    load_exactly(ours, theirs.state_dict(), root)
    load_exactly(judge, official.judge().state_dict(), root)
    count = sizes.tris_batch
    with torch.no_grad():
        texts = torch.cat([batch["tokens"], batch["negatives"].flatten(0, 1)])
        features = judge.encode_text(texts)[1]
    run = start(Stage1Trainer(config, ours, judge, features), config, device)
    rows = {
        "expression": torch.arange(count),
        "negatives": torch.arange(count, count * (1 + NEGATIVES)).view(count, NEGATIVES),
    }
    on_device = {n: v.to(device) for n, v in (batch | rows).items() if n != "masks"}

    theirs.to(device)
    optimizer = official.optimizer(theirs, args)
    clip_judge = official.judge_in_use(sizes.exact)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    training.logger, training.writer = Silent(), Scalars()

    def step() -> None:
        with on(device):
            training.train_one_epoch(
                _loader(batch), theirs, optimizer, 0, 0, args, 0, clip_judge, schedule
            )

    work = f"{count} items of {sizes.tris_side} px"
    return _compared(step, training.writer, theirs, run, ours, on_device, work)


def _compared(
    step: Callable[[], None],
    told: "Scalars",
    theirs: nn.Module,
    run: _Run,
    ours: nn.Module,
    batch: dict[str, Tensor],
    work: str,
) -> Comparison:
    """A step of both, by its first loss and its gradients; `told` has the official losses."""

    def results() -> tuple[Results, Results]:
        loss = float(told.first["train/loss"])
        return (
            {"loss": loss, "gradients": gradients(theirs)},
            {"loss": float(first_loss(run)), "gradients": gradients(ours)},
        )

    return Comparison(step, lambda: run.advance([(batch, WHOLE_STEP)]), results, work, STEP)


def stage2_step(
    root: Path, experiment: Experiment, sizes: Sizes, device: torch.device
) -> Comparison:
    """A training step of stage 2."""
    official = Official(root, device, "model.model_stage2", "train_stage2")
    network, training = official.modules
    args = official.parse("--size", str(sizes.tris_side))
    theirs = network.TRIS(args)
    fill(theirs)
    batch = _batch(sizes)

    config = experiment.segmentor.model_copy(update=_small(sizes))
    ours = build_segmentor(config, pretrained=False)
    load_exactly(ours, theirs.state_dict(), root)
    run = start(ours, config, device)
    on_device = {n: v.to(device) for n, v in batch.items() if n != "negatives"}

    theirs.to(device)
    optimizer = official.optimizer(theirs, args)
    training.writer = Scalars()

    def step() -> None:
        with on(device):
            training.train_one_epoch(_loader(batch), theirs, optimizer, 0, 0, args)

    work = f"{sizes.tris_batch} items of {sizes.tris_side} px"
    return _compared(step, training.writer, theirs, run, ours, on_device, work)


def prms(root: Path, experiment: Experiment, sizes: Sizes, device: torch.device) -> Comparison:
    """The maps of the objects of one image. Ours encodes the expressions for the judge too."""
    official = Official(root, device, "model.model_stage1", "validate")
    network, validation = official.modules
    side, (width, height) = sizes.tris_side, sizes.picture
    theirs = network.TRIS(official.parse())
    fill(theirs)
    config = experiment.stage1.model_copy(update=_small(sizes))
    ours, judge = build_stage1(config, False), load_clip(experiment.judge, False)
    load_exactly(ours, theirs.state_dict(), root)
    load_exactly(judge, official.judge().state_dict(), root)
    frozen(ours).to(device)
    frozen(judge).to(device)
    theirs.eval().to(device)
    official.judge_in_use(sizes.exact)

    draw = torch.Generator().manual_seed(0)
    image = torch.randn((1, 3, side, side), generator=draw)
    tokens = sentences((OBJECTS * EXPRESSIONS, LENGTH))
    target = torch.rand((1, 1, height, width), generator=draw) < 0.3
    items = []
    for number, words in enumerate(tokens.split(EXPRESSIONS)):
        ids = words.T[None, None]  # (1, 1, L, K)
        samples = {"word_ids": ids, "word_masks": ids > 0, "img": image}
        targets = {"target": target, "boxes": torch.tensor([[0, 0, 9, 9]]), "sentences": ()}
        items.append((samples, targets | {"img_path": torch.tensor([number])}))
    args = official.parse("--print-freq", "1000000")

    def choose() -> None:
        with on(device):
            validation.validate_same_sentence(args, items, theirs)

    on_device, words = image.to(device), tokens.to(device)
    index = torch.zeros(len(words), dtype=torch.int64, device=device)

    def choose_ours() -> Tensor:
        with inferring(device, experiment.prms.precision):
            grids = ours(on_device, words, index)
            texts = judge.encode_text(words)[1]
            counts = [EXPRESSIONS] * OBJECTS
            choices = choose_maps(judge, on_device, grids, texts, index, counts)
            rows = [EXPRESSIONS * number + c.index for number, c in enumerate(choices)]
            full = response.full_map(grids[rows], side, (height, width))
            return response.normalize(full).cpu()

    def results() -> tuple[Results, Results]:
        with tempfile.TemporaryDirectory() as folder:
            args.save_cam, args.cam_save_dir, args.name_save_dir = True, folder, folder
            choose()
            args.save_cam = False
            maps = [np.load(Path(folder) / f"{n}_{n}.npy") for n in range(OBJECTS)]
        return {"maps": np.stack(maps)}, {"maps": choose_ours()}

    work = f"an image of {side} px, {OBJECTS} objects of {EXPRESSIONS} expressions"
    return Comparison(choose, choose_ours, results, work, {"maps": MAPS})


def _small(sizes: Sizes) -> dict[str, Any]:
    changes = {"image_size": sizes.tris_side, "batch_size": sizes.tris_batch}
    return changes | ({"precision": "float32"} if sizes.exact else {})
