"""Send a model to the Hugging Face Hub in one commit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclegan.errors import InputError

if TYPE_CHECKING:
    pass
from cyclegan.storage.hub import LOG_IN, has_token, holds_model, hub_api, hub_url, in_words


@dataclass(frozen=True)
class Remote:
    """A repository as it is. commit: its newest one."""

    files: tuple[str, ...]
    commit: str | None
    private: bool

    @property
    def is_model(self) -> bool:
        """Whether its root holds a model of this package."""
        return holds_model(self.files)

    @property
    def foreign(self) -> list[str]:
        """Files of another kind than a new repository or a model has."""
        own = {".gitattributes", "README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", ".gitignore"}
        return [] if self.is_model else [name for name in self.files if name not in own]


def look_up(repo_id: str, token: str | None = None) -> Remote | None:
    """What is at the Hub under this name, or None if there is nothing.

    Raises InputError without a token, or with one that is not taken, and ConnectionError without a connection.
    """
    api = hub_api(repo_id, token)
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if not has_token(api):
        raise InputError(f"To push to {hub_url(api, repo_id)} you must be logged in: {LOG_IN}.")
    with in_words(api, repo_id):
        try:
            info = api.model_info(repo_id)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return None
    return Remote(tuple(file.rfilename for file in info.siblings or ()), info.sha, bool(info.private))


def upload(
    folder: Path,
    repo_id: str,
    remote: Remote | None,
    *,
    message: str,
    delete: Sequence[str] = (),
    private: bool = False,
    token: str | None = None,
) -> str:
    """Send all files of a folder as one commit, which also deletes the files `delete`. Returns the model's address.

    remote: what `look_up` found; None makes the repository. Until the commit, which comes last, nothing that is there
    changes. Raises InputError or ConnectionError if it does not come about.
    """
    api = hub_api(repo_id, token)
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    state = "is as it was"
    if remote is None:
        with in_words(api, repo_id):
            api.create_repo(repo_id, private=private or None)
        state = "was made and is still empty"
    with in_words(api, repo_id, remedy=f"{hub_url(api, repo_id)} {state}, push again later"):
        api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in files),
                *(CommitOperationDelete(name) for name in delete),
            ],
            commit_message=message,
            # What was looked at is what is replaced, not what somebody else has pushed since.
            parent_commit=remote.commit if remote is not None else None,
        )
    return hub_url(api, repo_id)
