"""Remove passwords, tokens and signatures from URLs before they reach a table, a log or a message.

What remains is the same each time a URL is signed, so it serves as the name of a picture.
"""

from __future__ import annotations

import re
from typing import Final

# A name and password before the host; passwords may hold raw slashes, and ports and paths look alike. `pathlib` reduces
# two slashes to one, but a drive letter is not a scheme.
_HOST: Final = r"(?:(?<=://)|(?<=\w\w:/)(?!/))"
_USER: Final = re.compile(_HOST + r"[^/?#\s\"<>]*@")
_SLASHED: Final = re.compile(_HOST + r"[^/?#\s\"<>:@\[]+:(?!:|\d*(?:[/?#\s]|$))[^\s\"<>]*@")
_QUERY: Final = re.compile(r"[?#][^\s\"<>]*")
_ALWAYS: Final = re.compile(
    r"x-(?:amz|goog|oss|cos|ms|obs|tos|bce)-.*|q-(?:sign|ak|key|header|url).*|"
    r"(?:.*[-_.])?(?:sig|auth|pass|pwd?|pin|jwt|credentials?|authorization|session-?_?(?:id|key))|"
    r".*(?:signature|token|secret|passw|passphrase|api[-_]?key|access[-_]?key|private[-_]?key|auth[-_]?key).*",
    re.IGNORECASE,
)
_IF_SIGNED: Final = re.compile(
    r"expires?|policy|key-pair-id|\w*access(?:key)?id|s[vtreip]|ss|srt|spr|sip|sdd|sks|skv|skt|ske|skoid|sktid|saoid|suoid|scid",
    re.IGNORECASE,
)
_SIGNATURE: Final = re.compile(r"(?:^|[?&;#])(?:\w*signature|sig)=", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """A URL, or a text with URLs in it, without their passwords, tokens and signatures; any other text as it is.

    The parameters of signed URLs (S3, Google, Azure and others) and those named password, token or key are removed from
    a query; a plain `key`, which may also name an object, becomes a digest. A user name before the host is kept if it
    has no password and the scheme is not http: `abfs://container@account`, `sftp://me@host`.

    >>> without_secrets("https://me:pw@host/a.jpg?size=2&X-Amz-Signature=f00")
    'https://host/a.jpg?size=2'
    """
    if ":/" not in text:
        return text
    text = _SLASHED.sub("", _USER.sub(_user, text))
    return _QUERY.sub(_query, text)


def _user(match: re.Match[str]) -> str:
    web = match.string[: match.start()].lower().rstrip("/").endswith(("http:", "https:"))
    return "" if web or ":" in match[0] else match[0]


def _query(match: re.Match[str]) -> str:
    from hashlib import sha256
    from urllib.parse import unquote

    whole = match[0].rstrip("'\":,.)]}")  # punctuation after a URL in a sentence
    marks, parts = re.findall("[?&;#]", whole), re.split("[?&;#]", whole)[1:]
    signed = _SIGNATURE.search(unquote(whole)) is not None
    kept = []
    for mark, part in zip(marks, parts, strict=True):
        name, _, value = part.partition("=")
        name = unquote(name).strip()
        if value and (_ALWAYS.fullmatch(name) or (signed and _IF_SIGNED.fullmatch(name))):
            continue
        if value and name.lower() == "key" and not value.startswith("~"):
            part = f"{name}=~{sha256(value.encode('utf-8', 'replace')).hexdigest()[:8]}"
        kept.append((mark, part))
    text = "".join(mark + part for mark, part in kept)
    return (marks[0] + text[1:] if text else "") + match[0][len(whole) :]
