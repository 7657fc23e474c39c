"""Models on the Hugging Face Hub: fetched into its library's cache, and sent there in one commit.

Only safetensors and JSON are ever fetched. Every call that fails says why in one sentence.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclegan._version import __version__
from cyclegan.errors import InputError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

# How a model of the Hub is named where a path could stand: hf:user/name, or hf:user/name@revision.
PREFIX = "hf:"


# The generators of a model directory. A Hub repository has them in its root, or in model/ as a run directory has.
GENERATORS = ("a2b.safetensors", "b2a.safetensors", "a2b_average.safetensors", "b2a_average.safetensors")


_FOLDERS = ("", "model/")


LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


def is_address(path: str | Path) -> bool:
    """Whether this names a model of the Hub rather than a place on disk."""
    return str(path).startswith(PREFIX)


def fetch_address(address: str | Path) -> Path:
    """The model directory of `hf:user/name` or `hf:user/name@revision`, as in `fetch_model`."""
    repo_id, _, revision = Path(address).as_posix().removeprefix(PREFIX).lstrip("/").partition("@")
    return fetch_model(repo_id, revision=revision or None)


def fetch_model(repo_id: str, *, revision: str | None = None, token: str | None = None) -> Path:
    """Bring a model into the cache of huggingface_hub, where it is not yet, and return its model directory there.

    revision: branch, tag or commit; default: the newest. token: default is that of `hf auth login` or HF_TOKEN. Without
    a connection, or with HF_HUB_OFFLINE=1, the model comes from the cache.
    Raises InputError if there is no such model or it may not be read, and ConnectionError if the Hub cannot be reached
    and the model is not in the cache.
    """
    api = hub_api(repo_id, token)
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        """Leaves no line behind: most calls find everything in the cache, and a bar for nothing is noise."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "leave": False})  # type: ignore[no-untyped-call]

    with in_words(api, repo_id, revision):
        snapshot = Path(
            snapshot_download(
                repo_id,
                revision=revision,
                token=api.token,
                endpoint=api.endpoint,
                allow_patterns=[folder + name for folder in _FOLDERS for name in ("config.json", *GENERATORS)],
                library_name="cyclegan",
                library_version=__version__,
                tqdm_class=Bar,
            )
        )
    for folder in _FOLDERS:
        if holds_model([path.name for path in (snapshot / folder).glob("*")]):
            return snapshot / folder
    with in_words(api, repo_id, revision):
        held = [] if constants.HF_HUB_OFFLINE else api.list_repo_files(repo_id, revision=revision)
    raise InputError(_no_model(hub_url(api, repo_id), held))


def holds_model(names: Sequence[str]) -> bool:
    """Whether a folder with files of these names is a model directory."""
    return "config.json" in names and any(name in names for name in GENERATORS)


def _no_model(url: str, held: Sequence[str]) -> str:
    shown = ", ".join(held[:5]) + (f" and {len(held) - 5} more files" if len(held) > 5 else "")
    sentence = f"{url} holds no cyclegan model (config.json beside a2b.safetensors or b2a.safetensors)"
    sentence += f"; it holds {shown}." if held else "."
    pickled = [name for name in held if name.endswith((".pth", ".pt"))]
    if pickled:
        sentence += f" If {pickled[0]} is of the reference code, download it and bring it over with: cyclegan import"
    return sentence


def hub_api(repo_id: str, token: str | None = None) -> "HfApi":
    """The Hub as it is set up here. Raises InputError without the library, or if `repo_id` cannot be one."""
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise InputError(
            f"{repo_id} is on the Hugging Face Hub, and the package huggingface_hub is not installed: "
            "pip install 'cyclegan[hub]'"
        ) from None
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise _bad_name(repo_id)
    # Read here and not when the library is imported, so that it holds whatever was imported first.
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    return HfApi(endpoint=endpoint, token=token, library_name="cyclegan", library_version=__version__)


def _bad_name(repo_id: str) -> InputError:
    return InputError(
        f"{repo_id!r} cannot be a repository of the Hugging Face Hub; expected user/name, as in its address there."
    )


def hub_url(api: "HfApi", repo_id: str) -> str:
    return f"{api.endpoint}/{repo_id}"


@contextmanager
def in_words(
    api: "HfApi", repo_id: str, revision: str | None = None, *, remedy: str = "try again later"
) -> Iterator[None]:
    """Errors of the library as one sentence: InputError for what a user can mend, else ConnectionError."""
    from huggingface_hub import errors

    # Every failed answer and every lost connection, of the HTTP library that this release is made with.
    transport = errors.HTTPError  # type: ignore[attr-defined]
    try:
        yield
    except InputError:
        raise
    except errors.HFValidationError:
        raise _bad_name(repo_id) from None
    except (transport, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise _told(error, api, repo_id, revision, remedy) from error
    except RuntimeError as error:  # how an upload tells which file failed
        if not isinstance(error.__cause__, transport):
            raise
        raise _told(error.__cause__, api, repo_id, revision, remedy) from error
    except json.JSONDecodeError as error:
        raise ConnectionError(
            f"{api.endpoint} does not answer like a Hub; is there a proxy that wants a login?"
        ) from error
    except ValueError as error:  # metadata of a card that the Hub refuses
        raise InputError(f"The Hub does not take this for {repo_id}: {' '.join(str(error).split())}") from error


def _told(error: Exception, api: "HfApi", repo_id: str, revision: str | None, remedy: str) -> Exception:
    from huggingface_hub import constants, errors

    url = hub_url(api, repo_id)
    cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else error
    response = getattr(cause, "response", None)
    status = response.status_code if response is not None else None
    match cause:
        case errors.GatedRepoError():
            return InputError(f"{url} is gated: ask for access on that page, then {LOG_IN}.")
        case errors.RepositoryNotFoundError() if has_token(api):
            return InputError(f"There is no model {url}, or your token may not see it.")
        case errors.RepositoryNotFoundError():
            return InputError(f"There is no model {url}, or it is private and you are not logged in; {LOG_IN}.")
        case errors.RevisionNotFoundError():
            return InputError(f"{url} has no revision {revision!r}; expected one of its branches, tags or commits.")
    if status == 401:
        return InputError(f"{api.endpoint} does not take your token; {LOG_IN} anew.")
    if status == 403:
        return InputError(f"Your token does not allow this at {url}; use one with that right: {LOG_IN}.")
    if status == 412:
        return ConnectionError(f"{url} was changed by somebody else in the meantime; push again.")
    if status is not None and 400 <= status < 500:
        return InputError(f"{url} refuses this ({status}): {' '.join(str(cause).split())}")
    if constants.HF_HUB_OFFLINE:
        reason = "HF_HUB_OFFLINE is set"
    elif status is not None:
        reason = f"{api.endpoint} answers with error {status}"
    else:
        reason = f"{api.endpoint} cannot be reached ({type(cause).__name__})"
    if isinstance(error, errors.LocalEntryNotFoundError):
        of = f" at revision {revision}" if revision else ""
        return ConnectionError(
            f"{repo_id}{of} is not, or not whole, in the cache {constants.HF_HUB_CACHE}, and {reason}; "
            "connect once to fetch it."
        )
    return ConnectionError(f"{reason}; {'unset it to reach the Hub' if constants.HF_HUB_OFFLINE else remedy}.")


def has_token(api: "HfApi") -> bool:
    """Whether requests tell who is asking."""
    from huggingface_hub import get_token

    return bool(api.token or get_token())
