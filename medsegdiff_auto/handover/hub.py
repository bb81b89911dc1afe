"""A model file on the Hugging Face Hub, or on a server that speaks as it does."""

from __future__ import annotations

import zipfile
from pathlib import Path

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.inference.model_archive import CARD

NAME_ON_HUB = "model.zip"


def push_to_hub(file: Path, repository: str, endpoint: str | None = None) -> str:
    """Uploads a model file and its card; a repository that is not there yet is made, private. Returns its address.

    The token is the one of ``hf auth login``, or the environment's ``HF_TOKEN``.

    Args:
        repository: ``OWNER/NAME``.
        endpoint: None for the Hub, or the environment's ``HF_ENDPOINT``.

    Raises:
        UserError: huggingface_hub is not installed, or the server refuses or is not reached.
    """
    hub = require_hub()
    api = hub.HfApi(endpoint=endpoint)
    try:
        address = api.create_repo(repository, private=True, exist_ok=True)
        with zipfile.ZipFile(file) as parts:
            card = parts.read(CARD)
        api.create_commit(repository, [hub.CommitOperationAdd(NAME_ON_HUB, str(file)),
                                       hub.CommitOperationAdd(CARD, card)], commit_message=f"Add {file.name}")
    except Exception as failure:  # networks and servers fail in any way
        raise UserError(f"{repository} cannot be written.",
                        found=f"{type(failure).__name__}: {' '.join(str(failure).split())}"[:300],
                        expected="a repository OWNER/NAME, a token that may write, and a network",
                        fix=f"log in (hf auth login, or HF_TOKEN) and upload {file}, which is written: "
                        f"hf upload {repository} {file} {NAME_ON_HUB}") from failure
    return str(address)


def require_hub():
    """The library ``huggingface_hub``.

    Raises:
        UserError: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as failure:
        raise UserError("Uploading needs a library that is not installed.", found="no huggingface_hub",
                        expected="huggingface_hub", fix='pip install "medsegdiff-auto[hub]"') from failure
    return huggingface_hub
