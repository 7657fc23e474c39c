"""Models on the Hugging Face Hub: download them into the cache of huggingface_hub, and explain its errors.

Only safetensors and JSON are downloaded. Every failure is explained in one sentence.
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

# A model of the Hub in place of a path: hf:user/name, or hf:user/name@revision.
PREFIX = "hf:"

# The generators of a model directory. A repository holds them in its root or, like a run directory, in model/.
GENERATORS = ("a2b.safetensors", "b2a.safetensors", "a2b_average.safetensors", "b2a_average.safetensors")
_FOLDERS = ("", "model/")

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


def is_address(path: str | Path) -> bool:
    """Whether this names a model of the Hub and not a path."""
    return str(path).startswith(PREFIX)


def fetch_address(address: str | Path) -> Path:
    """The model directory of `hf:user/name` or `hf:user/name@revision`; errors as in `fetch_model`."""
    repo_id, _, revision = Path(address).as_posix().removeprefix(PREFIX).lstrip("/").partition("@")
    return fetch_model(repo_id, revision=revision or None)


def fetch_model(repo_id: str, *, revision: str | None = None, token: str | None = None) -> Path:
    """Download a model into the cache of huggingface_hub, unless it is there, and return its model directory.

    revision: branch, tag or commit; default: the newest. token: default is that of `hf auth login` or HF_TOKEN. Without
    a connection, or with HF_HUB_OFFLINE=1, the model comes from the cache.
    Raises InputError if there is no such model or you may not read it, and ConnectionError if the Hub cannot be reached
    and the cache does not hold the model.
    """
    api = hub_api(repo_id, token)
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        """Leaves no line behind, because most calls find everything in the cache."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "leave": False})  # type: ignore[no-untyped-call]

    with explained(api, repo_id, revision):
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
    with explained(api, repo_id, revision):
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
        sentence += f" If {pickled[0]} comes from the reference code, download it and convert it with: cyclegan import"
    return sentence


def hub_api(repo_id: str, token: str | None = None) -> "HfApi":
    """The client of the Hub. Raises InputError without huggingface_hub, or if `repo_id` cannot be a repository."""
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise InputError(
            f"{repo_id} is on the Hugging Face Hub, and the package huggingface_hub is not installed: "
            "pip install 'cyclegan[hub]'"
        ) from None
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise _bad_name(repo_id)
    # Read at every call, because huggingface_hub reads it only when it is imported.
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    return HfApi(endpoint=endpoint, token=token, library_name="cyclegan", library_version=__version__)


def _bad_name(repo_id: str) -> InputError:
    return InputError(
        f"{repo_id!r} cannot be a repository of the Hugging Face Hub; expected user/name, as in its address there."
    )


def hub_url(api: "HfApi", repo_id: str) -> str:
    return f"{api.endpoint}/{repo_id}"


@contextmanager
def explained(
    api: "HfApi", repo_id: str, revision: str | None = None, *, remedy: str = "try again later"
) -> Iterator[None]:
    """Turn errors of huggingface_hub into one sentence: an InputError if the user can fix it, else ConnectionError."""
    from huggingface_hub import errors

    # Failed answers and lost connections, in the HTTP library that this release of huggingface_hub uses.
    transport = errors.HTTPError  # type: ignore[attr-defined]
    try:
        yield
    except InputError:
        raise
    except errors.HFValidationError:
        raise _bad_name(repo_id) from None
    except (transport, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise _explain(error, api, repo_id, revision, remedy) from error
    except RuntimeError as error:  # an upload wraps the error of a file
        if not isinstance(error.__cause__, transport):
            raise
        raise _explain(error.__cause__, api, repo_id, revision, remedy) from error
    except json.JSONDecodeError as error:
        raise ConnectionError(
            f"{api.endpoint} does not answer like a Hub; is there a proxy that wants a login?"
        ) from error
    except ValueError as error:  # the Hub refuses the metadata of a card
        raise InputError(f"The Hub refuses this for {repo_id}: {' '.join(str(error).split())}") from error


def _explain(error: Exception, api: "HfApi", repo_id: str, revision: str | None, remedy: str) -> Exception:
    from huggingface_hub import constants, errors

    url = hub_url(api, repo_id)
    cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else error
    response = getattr(cause, "response", None)
    status = response.status_code if response is not None else None
    match cause:
        case errors.GatedRepoError():
            return InputError(f"{url} is gated: request access on that page, then {LOG_IN}.")
        case errors.RepositoryNotFoundError() if has_token(api):
            return InputError(f"There is no model {url}, or your token may not see it.")
        case errors.RepositoryNotFoundError():
            return InputError(f"There is no model {url}, or it is private and you are not logged in; {LOG_IN}.")
        case errors.RevisionNotFoundError():
            return InputError(f"{url} has no revision {revision!r}; expected one of its branches, tags or commits.")
    if status == 401:
        return InputError(f"{api.endpoint} rejects your token; {LOG_IN}.")
    if status == 403:
        return InputError(f"Your token does not allow this at {url}; use one with that right: {LOG_IN}.")
    if status == 412:
        return ConnectionError(f"{url} has changed in the meantime; push again.")
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
    """Whether requests carry a token."""
    from huggingface_hub import get_token

    return bool(api.token or get_token())
