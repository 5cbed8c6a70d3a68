"""Models of the Hugging Face hub, for the verbs and for the project."""

import os
from dataclasses import replace
from pathlib import Path

from stages.config.hub import HubFile, is_hub_name, parse_hub_name
from stages.runtime.errors import InputError


def local_file(path: Path) -> Path:
    """A file of this machine: `hf:owner/name/file` is fetched into the cache of the hub first.

    Raises InputError for a file of the hub that cannot be had.
    """
    return _with_named_files(_parsed(path))[0][1] if is_hub_name(path) else path


def fetch_into_project(name: str, data: Path) -> Path:
    """Link a file of the hub, fetched into its cache, to where configs/ look for it.

    A link that is there is kept: a repository that changes changes no result. Raises InputError if
    the file is another one than at its first fetch.
    """
    from stages.storage.checksums import NAME, file_checksum, known_checksum, learn_checksum
    from stages.storage.locks import locked

    wanted = _parsed(Path(name))
    if wanted.path.exists():
        return wanted.path
    with locked(wanted.path.with_name(f".{wanted.path.name}.lock")):
        for file, cached in _with_named_files(wanted):
            key = file.path.relative_to(data)
            checksum, known = file_checksum(cached), known_checksum(data, key)
            if known is not None and known != checksum:
                raise InputError(
                    f"{file}: other bytes than at the first fetch; to take the new version, delete"
                    f" its line in {data / NAME}"
                )
            learn_checksum(data, key, checksum)
            _link(cached, file.path)
    return wanted.path


def _parsed(path: Path) -> HubFile:
    try:
        return parse_hub_name(path)
    except ValueError as error:
        raise InputError(str(error)) from None


def _with_named_files(file: HubFile) -> list[tuple[HubFile, Path]]:
    """A file and its place in the cache, and those that a model of ours names beside it."""
    from stages.data.hub import download

    fetched = [(file, download(file))]
    for name in _named_files(fetched[0][1]):
        named = replace(file, file=(Path(file.file).parent / name).as_posix())
        beside = _parsed(Path(str(named)))  # a header may name a place outside of the repository
        fetched.append((beside, download(beside)))
    return fetched


def _named_files(path: Path) -> list[Path]:
    """What a model of ours needs and this folder does not have."""
    if path.suffix != ".safetensors":
        return []
    from stages.models.saved import read_options
    from stages.storage.weights import load_about

    about = load_about(path)
    if "kind" not in about:  # weights of others
        return []
    named = read_options(about, path).tokenizer_files
    return [name for name in named if not name.is_absolute() and not name.is_file()]


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.link")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(source.absolute())
    temporary.replace(target)
