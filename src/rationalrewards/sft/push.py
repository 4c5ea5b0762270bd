"""To the hub, when somebody says so."""

from __future__ import annotations

import re
from pathlib import Path

from rationalrewards.sft.export import FOLDER
from rationalrewards.types import InputError

_REPO = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def files_of(run: Path, repo: str) -> list[Path]:
    """The files that ``push`` would upload. Raises InputError for an unfinished run or an odd name."""
    folder = run / FOLDER
    if not folder.is_dir():
        raise InputError(f"{run} has no {FOLDER}/; give the directory of a finished sft run")
    if not _REPO.fullmatch(repo):
        raise InputError(f"--repo {repo!r} is not OWNER/NAME")
    return sorted(path for path in folder.rglob("*") if path.is_file())


def push(run: Path, repo: str, *, private: bool = False) -> str:
    """Upload ``critic/`` of a finished run to the hub; returns its address there.

    Raises InputError as ``files_of``, and when the hub cannot be reached or says no.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    files_of(run, repo)
    hub = HfApi()
    try:
        hub.create_repo(repo, private=private, exist_ok=True)
        return str(hub.upload_folder(repo_id=repo, folder_path=run / FOLDER))
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        raise InputError(
            f"the hub did not take {repo} ({error}); check the network, and the token with 'hf auth login'"
        ) from error
