"""The official ReLA networks with the weights and inputs of the golden cases."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.config.segmentors import RelaOptions
from stages.data.images import normalize
from stages.models.rela import RelaSegmentor, build_rela, official_weights
from stages.storage.matching import load_exactly
from tests.parity import recipes
from tests.parity.golden import Golden, manifest

BACKBONES = {"R50": "resnet50", "swin_tiny": "swin_tiny", "swin_base": "swin_base"}
WORDS = (9, 18)

_latest: dict[str, RelaSegmentor] = {}  # the latest architecture only: they are large
_loaded: list[object] = []  # what is in it


def build(tag: str, **changes: Any) -> RelaSegmentor:
    """An official architecture, without the layers that drop things at random."""
    config = RelaOptions.model_validate({"backbone": BACKBONES[tag], "drop_path": 0.0, **changes})
    model = build_rela(config, pretrained=False)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def filled(golden: Golden, device: torch.device) -> RelaSegmentor:
    """The model of a case on a device, with its weights loaded as an official checkpoint."""
    tag, seed = golden.meta["case"], golden.meta["seed"]
    all_masked = golden.name.endswith("_allmasked")
    if tag not in _latest:
        release()
        _latest[tag] = build(tag)
    model = _latest[tag].to(device)
    if _loaded != [seed, all_masked]:
        state = official_state(tag, seed, all_masked)
        load_exactly(model, official_weights(state), golden.name)
        _loaded[:] = [seed, all_masked]
    model.zero_grad()
    return model


def release() -> None:
    """Forget the network: it holds gigabytes."""
    _latest.clear()
    _loaded.clear()


def official_state(tag: str, seed: int, all_masked: bool = False) -> dict[str, Tensor]:
    """A checkpoint by the recipe, scaled so that regions differ and words are not all alike."""
    entries = {name: (tuple(shape), kind) for name, shape, kind in manifest("rela", tag)["keys"]}
    state = recipes.state_dict(entries, seed)
    predictor = "sem_seg_head.predictor."
    for name, tensor in state.items():
        if name.startswith("text_encoder.encoder.") and name.endswith("output.dense.weight"):
            tensor *= 2**-2
        if name.startswith(predictor + "mask_embed.layers.2."):
            tensor *= 2**-6
        if name in (predictor + "query_feat.weight", predictor + "query_embed.weight"):
            tensor *= 2**6
    if all_masked:  # regions' masks are constant in space, many hide the whole image
        state["sem_seg_head.pixel_decoder.mask_features.weight"] *= 0
        state["sem_seg_head.pixel_decoder.mask_features.bias"] *= -1
    return state


def inputs(golden: Golden, device: torch.device) -> dict[str, Tensor]:
    """Images, tokens and masks of a case: expression i belongs to image i, the second to none."""
    seed, size, count = (golden.meta[key] for key in ("seed", "size", "batch"))
    tokens, is_word = recipes.bert_tokens(count, seed, WORDS)
    assert torch.equal(tokens != 0, is_word.bool())
    masks = recipes.block_mask((count, size, size), seed)
    masks[1:] = 0
    batch = {
        "images": normalize(recipes.image_bytes((count, 3, size, size), seed)),
        "image_index": torch.arange(count),
        "tokens": tokens,
        "masks": masks.float(),
        "no_target": (torch.arange(count) > 0).float(),
    }
    return recipes.on(device, batch)


class Recorder:
    """Outputs of named parts of a model, while it is open."""

    def __init__(self, model: nn.Module, *names: str) -> None:
        self.seen: dict[str, Any] = {}
        self.hooks = ExitStack()
        for name in names:
            hook = model.get_submodule(name).register_forward_hook(self._keep(name))
            self.hooks.callback(hook.remove)

    def _keep(self, name: str) -> Callable[..., None]:
        def keep(_module: nn.Module, _inputs: object, output: object) -> None:
            self.seen[name] = output

        return keep

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_error: object) -> None:
        self.hooks.close()


class Teacher:
    """Gives the decoder the attention masks of the official run, layer by layer."""

    def __init__(self, model: RelaSegmentor, golden: Golden) -> None:
        counts = golden.meta["key_counts"]
        self.masks = [
            torch.from_numpy(
                np.unpackbits(golden.arrays[f"attn_mask{number}"], axis=-1, count=count)
            ).bool()
            for number, count in enumerate(counts)
        ]
        self.own: list[Tensor] = []
        self.hook = model.sem_seg_head.predictor.attention_mask.register_forward_hook(self._replace)

    def _replace(self, _module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        self.own.append(output)
        return self.masks[len(self.own) - 1].to(output.device)

    def __enter__(self) -> "Teacher":
        return self

    def __exit__(self, *_error: object) -> None:
        self.hook.remove()

    @property
    def flipped(self) -> list[int]:
        """How many decisions of each layer the model would have made otherwise."""
        pairs = zip(self.own, self.masks, strict=True)
        return [int((ours.cpu() != theirs).sum()) for ours, theirs in pairs]
