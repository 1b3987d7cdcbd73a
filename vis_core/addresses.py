"""Addresses that are no local paths: which may be opened, and what of them may be shown.

`filesystem` is the one place that opens them, whoever names them: an input, a list, a setting, a
results folder, or a row somebody else wrote. Schemes are on a short list and are never chained:
fsspec has file systems that follow what a file names, and one that fills in a template from it.

Credentials in an address stay in the memory of this process. `keep` takes them out and remembers
them; what it returns may be stored and printed, and opens the same thing as long as we run.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from vis_core.errors import AddressError

# `s3a`, `gcs` and `abfss` are other names of stores on the list.
SCHEMES = frozenset(
    {"file", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "http", "https", "hf"}
)
_EXTRAS = {"s3": "s3", "s3a": "s3"}  # what pip installs the client with
_REMOTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//|:)")
_CHAIN = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*::|::[A-Za-z][A-Za-z0-9+.-]*:(//|:)")
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s\"'<>]+")

# `container@account`, `repository@revision`: an @ that belongs to the name.
_AT_IN_NAMES = frozenset({"az", "abfs", "abfss", "hf"})
_WITHOUT_QUERY = SCHEMES - {"http", "https"}  # there a question mark is part of the name
_SECRET = re.compile(
    r"x-(amz|goog)-[\w-]+|sig|signature|awsaccesskeyid|googleaccessid|auth|authorization|"
    r"[\w-]*(token|secret|password|passwd|pwd|credentials?)|(api|access)[_-]?key([_-]?id)?",
    re.IGNORECASE,
)
_SIGNATURES = frozenset({"sig", "signature"})
# Worth nothing alone, and new with every signature.
_SIGNED_ALONG = re.compile(
    r"policy|expires|key-pair-id|s[vrpte]|ss|srt|spr|sip?|sk(oid|tid|[tesv])", re.IGNORECASE
)


class Secrets(NamedTuple):
    """What `keep` remembers; for processes on our side, never for a file."""

    logins: dict[str, str]  # `user:password`, by scheme and host
    signed: dict[str, str]  # whole addresses, by what is shown of them


_KEPT = Secrets({}, {})


def is_remote(address: str) -> bool:
    """Whether this is no local path: `s3://…`, `http://…`, and whatever we refuse to open."""
    return bool(_REMOTE.match(address)) and not address.startswith("file:")


def checked(address: str) -> str:
    """The address as it stands, if it is one that may be opened."""
    if _CHAIN.search(address):
        raise AddressError(
            f"{public(address)}: chained addresses (…::…) are not supported; name the file or the"
            " store directly (a local file: ./NAME)"
        )
    scheme = address.split(":", 1)[0]
    if scheme not in SCHEMES:
        raise AddressError(
            f"{public(address)}: {scheme}: is no kind of address that is opened; expected a local"
            f" path, or {', '.join(sorted(SCHEMES))}, followed by ://"
        )
    return address


def filesystem(address: str, **options: Any) -> tuple[Any, str]:
    """The fsspec file system of a remote address, and the path in it."""
    scheme = checked(address).split(":", 1)[0]
    import fsspec  # not needed for local files

    address = whole(address)
    try:
        kind = fsspec.get_filesystem_class(scheme)
        # As fsspec.core.url_to_fs does, but for one address: that one takes `::` apart.
        system = fsspec.filesystem(scheme, **kind._get_kwargs_from_urls(address), **options)
        return system, str(kind._strip_protocol(address))
    except ImportError as error:
        extra = f"; `pip install 'reelmask[{_EXTRAS[scheme]}]'`" if scheme in _EXTRAS else ""
        raise AddressError(
            f"{public(address)}: no client for {scheme}:// is installed ({error}){extra}"
        ) from error
    except OSError:
        raise
    except Exception as error:  # every store has its own errors
        what = f"{type(error).__name__}: {scrubbed(str(error))}"
        raise AddressError(f"{public(address)}: cannot be opened: {what}") from error


def public(address: str) -> str:
    """The address without user name, password and signature."""
    if "@" not in address and "?" not in address:
        return address
    return "::".join(map(_public, address.split("::")))


def _public(address: str) -> str:
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    rest = _login(scheme, rest)[1]
    if scheme in _WITHOUT_QUERY:
        return f"{scheme}://{rest}"
    path, question, query = rest.partition("?")
    shown = _unsigned(query)
    return f"{scheme}://{path}{question if shown else ''}{shown}"


def _login(scheme: str, rest: str) -> tuple[str, str]:
    """User and password, and what is left of an address behind its `://`."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    login, at, _ = authority.rpartition("@")
    port = authority.rpartition(":")[2]
    if not at and scheme not in _WITHOUT_QUERY and ":" in authority and not port.isdigit():
        # `user:pass/word@host`: a password that should have been percent-encoded.
        login, at, _ = rest.rpartition("@")
    if not at or (scheme in _AT_IN_NAMES and ":" not in login):
        return "", rest
    return login, rest[len(login) + 1 :]


def _unsigned(query: str) -> str:
    named = [(part.partition("=")[0].lower(), part) for part in re.split("[&#]", query)]
    signed = any(name in _SIGNATURES for name, _ in named)
    return "&".join(
        part
        for name, part in named
        if not (_SECRET.fullmatch(name) or (signed and _SIGNED_ALONG.fullmatch(name)))
    )


def keep(address: str) -> str:
    """What may be stored of an address; `whole` gives the rest back while this process runs."""
    shown = public(address)
    if shown == address:
        return address
    scheme, _, rest = address.partition("://")
    login, rest = _login(scheme, rest)
    if login:
        _KEPT.logins[f"{scheme}://{_host(rest)}"] = login
    if f"{scheme}://{rest}" != shown:
        _KEPT.signed[shown] = f"{scheme}://{rest}"
    return shown


def whole(address: str) -> str:
    """The address with the credentials that were given for it in this run, if any."""
    if not _KEPT.logins and not _KEPT.signed:
        return address
    address = _KEPT.signed.get(address, address)
    scheme, separator, rest = address.partition("://")
    login = _KEPT.logins.get(f"{scheme}://{_host(rest)}") if separator else None
    return f"{scheme}://{login}@{rest}" if login else address


def _host(rest: str) -> str:
    return re.split(r"[/?#]", rest, maxsplit=1)[0]


def secrets() -> Secrets:
    """What this process knows, for another one that opens the same addresses."""
    return Secrets(dict(_KEPT.logins), dict(_KEPT.signed))


def learn(known: Secrets) -> None:
    """Takes over what another process of this run knows."""
    _KEPT.logins.update(known.logins)
    _KEPT.signed.update(known.signed)


def scrubbed(text: str) -> str:
    """Text of libraries, which repeat addresses as they got them, without credentials."""
    return _IN_TEXT.sub(lambda found: public(found[0]), text) if "://" in text else text
