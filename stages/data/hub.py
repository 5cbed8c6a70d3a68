"""Files of the Hugging Face hub, fetched by huggingface_hub into its cache (HF_HOME)."""

import os
from pathlib import Path

from stages.config.hub import HubFile
from stages.data.file_kinds import find_fault
from stages.runtime.errors import InputError
from stages.runtime.foreign_errors import one_line

LOGIN = "`hf auth login`, or HF_TOKEN"


def hub_endpoint() -> str | None:
    """The address of the hub, where it is not the public one."""
    return os.environ.get("HF_ENDPOINT") or None


def download(file: HubFile) -> Path:
    """The file in the cache, fetched unless it is there; one that was fetched needs no network.

    Raises InputError, in one line, for a file that cannot be had, and for one that is cut or holds
    no weights.
    """
    from huggingface_hub import hf_hub_download  # takes a second

    try:
        path = hf_hub_download(
            file.repository, file.file, revision=file.revision, endpoint=hub_endpoint()
        )
    except Exception as error:  # of the hub, of the network, of the disk
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            raise
        raise InputError(f"{file}: {explain_hub(error, file)}") from None
    fault = find_fault(Path(path), Path(path).suffix)
    if fault is not None:
        raise InputError(f"{file}: {fault}; {path} is what was fetched")
    return Path(path)


def explain_hub(error: Exception, file: HubFile) -> str:
    """What went wrong, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):
        cause = one_line(str(error.__cause__ or "offline mode (HF_HUB_OFFLINE)"))
        return f"not in the cache, and the hub is not reached ({cause}); needed a network"
    if isinstance(error, errors.GatedRepoError):
        return f"needs access, which its page gives on request; then {LOGIN}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"no such repository, or a private one; needed its right name, or {LOGIN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"no such revision of {file.repository}; needed a branch, a tag or a commit"
    if isinstance(error, errors.EntryNotFoundError):
        return f"no such file in {file.repository}; its page lists them"
    return one_line(str(error)) or type(error).__name__
