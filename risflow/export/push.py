"""risflow push: a model of an experiment to the Hugging Face hub."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import typer

from risflow.completion import experiments
from risflow.console import notes, out
from risflow.project.run_options import RunConfig, parse_run_options
from stages.runtime.errors import InputError

Stage = Literal["segmentor", "stage1"]
MODEL = "model.safetensors"


def push(
    experiment: Annotated[
        str, typer.Argument(help="A name of configs/experiments/.", autocompletion=experiments)
    ],
    repository: Annotated[str, typer.Argument(help="Where to, on the hub: owner/name.")],
    private: Annotated[
        bool, typer.Option("--private", help="Only for those whom its owner allows.")
    ] = False,
    stage: Annotated[Stage, typer.Option(help="Which of its models.")] = "segmentor",
    config: RunConfig = None,
) -> None:
    """A model, with its card, to the Hugging Face hub."""
    from risflow.project.project import find_experiment, read_project
    from stages.config.hub import parse_hub_name

    options = parse_run_options(config)
    configs = read_project(options)
    find_experiment(experiment, configs)
    try:
        file = parse_hub_name(f"hf:{repository}/{MODEL}")
    except ValueError:
        file = None
    if file is None or file.repository != repository:
        raise InputError(f"{repository!r} is no repository; needed owner/name")
    model = configs.settings.results / experiment / stage / MODEL
    if not model.is_file():
        raise InputError(f"{model}: not made yet: {options.command(experiment)}")
    from risflow.export.model_card import export_with_card

    with TemporaryDirectory() as folder:
        export_with_card(model, Path(folder, MODEL), repository)
        title = f"{experiment}, {stage}"
        address = upload(Path(folder), repository, private=private, title=title)
    out.print(address, markup=False)
    notes.print(f'use: risflow predict photo.jpg "the red cup" --model {file}', markup=False)


def upload(folder: Path, repository: str, *, private: bool, title: str) -> str:
    """Put the files of a folder into a repository, which is made unless it is there.

    Returns its address. Raises InputError without a token, for a repository that the token may not
    write to, and for a public one if it is to be private.
    """
    from huggingface_hub import HfApi, get_token

    from stages.data.hub import LOGIN, hub_endpoint

    if get_token() is None:
        raise InputError(f"push: no token of the hub; needed {LOGIN}, with the right to write")
    api = HfApi(endpoint=hub_endpoint(), library_name="risflow")
    try:
        address = api.create_repo(repository, private=private or None, exist_ok=True)
        if private and not api.model_info(repository).private:
            raise InputError(f"--private: {repository} is there and public; name another one")
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=title)
    except InputError:
        raise
    except Exception as error:  # of the hub, or of the network
        raise InputError(f"push to {repository}: {_explain(error)}") from None
    return str(address)


def _explain(error: Any) -> str:
    from stages.data.hub import LOGIN
    from stages.runtime.foreign_errors import one_line

    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return f"the hub does not know the token; needed {LOGIN}"
    if status == 403:
        return "the token has no right to write there; needed one that has, or your own name"
    return one_line(str(error)) or type(error).__name__
