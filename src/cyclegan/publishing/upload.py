"""Upload a model to the Hugging Face Hub in one commit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cyclegan.errors import InputError
from cyclegan.storage.hub import LOG_IN, explained, has_token, holds_model, hub_api, hub_url


@dataclass(frozen=True)
class Remote:
    """The present state of a repository. commit: its newest one."""

    files: tuple[str, ...]
    commit: str | None
    private: bool

    @property
    def is_model(self) -> bool:
        """Whether its root holds a model of `cyclegan`."""
        return holds_model(self.files)

    @property
    def foreign(self) -> list[str]:
        """Files that neither a new repository nor a model has."""
        own = {".gitattributes", "README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", ".gitignore"}
        return [] if self.is_model else [name for name in self.files if name not in own]


def look_up(repo_id: str, token: str | None = None) -> Remote | None:
    """The repository of this name, or None if there is none.

    Raises InputError without a valid token, and ConnectionError without a connection.
    """
    api = hub_api(repo_id, token)
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if not has_token(api):
        raise InputError(f"To push to {hub_url(api, repo_id)} you must be logged in: {LOG_IN}.")
    with explained(api, repo_id):
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
    """Upload all files of a folder in one commit, which also deletes the files `delete`. Returns the model's address.

    remote: the result of `look_up`; None creates the repository. Nothing changes before the commit, which comes last.
    Raises InputError or ConnectionError if the commit fails.
    """
    api = hub_api(repo_id, token)
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    state = "is unchanged"
    if remote is None:
        with explained(api, repo_id):
            api.create_repo(repo_id, private=private or None)
        state = "was created and is still empty"
    with explained(api, repo_id, remedy=f"{hub_url(api, repo_id)} {state}, push again later"):
        api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in files),
                *(CommitOperationDelete(name) for name in delete),
            ],
            commit_message=message,
            # Fails if somebody else has pushed since `look_up`.
            parent_commit=remote.commit if remote is not None else None,
        )
    return hub_url(api, repo_id)
