"""Importing the modules of a clone of official code, unchanged, in this environment.

Names of modules (`model`, `utils`, `dataset`) mean another file in each clone: a clone's modules
leave `sys.modules` when it is closed. Some set options of cuDNN when they are imported: these are
as before afterwards, so that both codes run with the same ones.

Packages that only log, or that an editor has imported, are stood in for by modules that do nothing.
Others that are missing may be imported but not called: what needs them fails with their name.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import nn

# Imported by the official code without a use that counts; never the real ones.
SILENT = {"turtle", "tkinter", "readline", "wandb", "loguru", "tensorboardX", "termcolor"}
CUDNN = ("enabled", "benchmark", "deterministic", "allow_tf32")
# May be missing for what does not call them.
OPTIONAL = {"cv2", "ema_pytorch", "imageio", "lmdb", "pkg_resources", "pyarrow", "transformers"}


class Unavailable(Exception):
    """Why a piece of official code cannot be run here."""


class Silent:
    """Takes every call, and does nothing."""

    def __getattr__(self, name: str) -> "Silent":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **options: Any) -> "Silent":
        return self


class _Missing:
    """Something of a package that is not installed."""

    def __init__(self, package: str) -> None:
        self.package = package

    def __getattr__(self, name: str) -> "_Missing":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **options: Any) -> Any:
        raise Unavailable(f"needs the package {self.package}, which is not installed")


class _StandIn(ModuleType):
    def __init__(self, name: str, content: Any) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.content = content

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.content


class _Finder(MetaPathFinder, Loader):
    """Finds stand-ins for some packages."""

    def __init__(self, packages: set[str]) -> None:
        self.packages = packages

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package = fullname.partition(".")[0]
        return ModuleSpec(fullname, self, is_package=True) if package in self.packages else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        package = spec.name.partition(".")[0]
        if package == "pkg_resources":  # of it, the packaging that it came with
            version = importlib.import_module("packaging.version")
            return _StandIn(spec.name, SimpleNamespace(version=version))
        return _StandIn(spec.name, Silent() if package in SILENT else _Missing(package))

    def exec_module(self, module: ModuleType) -> None:
        pass


@contextmanager
def opened(root: Path) -> Iterator[None]:
    """While it is open, the modules under `root` can be imported. Raises Unavailable without it."""
    if not root.is_dir():
        raise Unavailable(f"no {root.name} in {root.parent}")
    options = {name: getattr(torch.backends.cudnn, name) for name in CUDNN}
    before, first, last = dict(sys.modules), _Finder(SILENT), _Finder(OPTIONAL)
    for name in before:
        if name.partition(".")[0] in SILENT:
            del sys.modules[name]
    sys.path.insert(0, str(root))
    sys.meta_path.insert(0, first)
    sys.meta_path.append(last)
    importlib.invalidate_caches()
    try:
        yield
    except Exception as error:  # whatever old code meets in new packages
        reason = f"{type(error).__name__}: {error}"
        raise Unavailable(f"{root.name} cannot be imported: {reason}") from error
    finally:
        for name, value in options.items():
            setattr(torch.backends.cudnn, name, value)
        sys.path.remove(str(root))
        sys.meta_path.remove(first)
        sys.meta_path.remove(last)
        for name, module in list(sys.modules.items()):
            if isinstance(module, _StandIn) or _is_under(module, root):
                del sys.modules[name]
        sys.modules.update({n: m for n, m in before.items() if n.partition(".")[0] in SILENT})


def _is_under(module: ModuleType, root: Path) -> bool:
    own = vars(module)  # some modules make attributes up
    places = [own.get("__file__"), *(own.get("__path__") or ())]
    return any(place and Path(place).is_relative_to(root) for place in places)


@contextmanager
def on(device: torch.device) -> Iterator[None]:
    """Official code asks for a GPU everywhere; on a CPU its requests change nothing."""
    if device.type == "cuda":
        yield
        return
    make = torch.tensor

    def tensor(*args: Any, **options: Any) -> torch.Tensor:
        return make(*args, **{**options, "device": None})

    with ExitStack() as changes:
        for owner, name, value in (
            (torch.Tensor, "cuda", lambda self, *args, **options: self),
            (nn.Module, "cuda", lambda self, *args, **options: self),
            (torch.cuda, "synchronize", Silent()),
            (torch, "tensor", tensor),
        ):
            changes.enter_context(mock.patch.object(owner, name, value))
        yield
