"""What opens a URL is taken out of it; what tells one picture from another stays."""

from __future__ import annotations

import pytest

from mien.errors import MienError
from mien.urls import without_secrets

S3 = (
    "https://bucket.s3.amazonaws.com/faces/a%20b.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAX%2F2026"
    "&X-Amz-Date=20261127T000000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Security-Token=SECRET/+=="
    "&X-Amz-Signature=SECRET"
)
GOOGLE = "https://storage.googleapis.com/b/a.jpg?X-Goog-Algorithm=GOOG4&X-Goog-Credential=me&X-Goog-Signature=SECRET"
AZURE = "https://acc.blob.core.windows.net/c/a.jpg?sv=2024-11-04&st=2026&se=2027&sr=b&sp=r&spr=https&sig=SECRET%2B%3D"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (S3, "https://bucket.s3.amazonaws.com/faces/a%20b.jpg"),
        (GOOGLE, "https://storage.googleapis.com/b/a.jpg"),
        (AZURE, "https://acc.blob.core.windows.net/c/a.jpg"),
        (
            "https://b.s3.amazonaws.com/a.jpg?AWSAccessKeyId=AKIA&Expires=1&Signature=SECRET",
            "https://b.s3.amazonaws.com/a.jpg",
        ),
        (
            "https://d.cloudfront.net/a.jpg?size=2&Expires=1&Signature=SECRET&Key-Pair-Id=K",
            "https://d.cloudfront.net/a.jpg?size=2",
        ),
        (
            "https://h/a.jpg?X%2DAmz%2DSignature=SECRET&versionId=7",
            "https://h/a.jpg?versionId=7",
        ),
        ("https://h/a.jpg?versionId=7&access_token=SECRET#token=SECRET", "https://h/a.jpg?versionId=7"),
        ("https://h/a.jpg?API-Key=SECRET", "https://h/a.jpg"),
        ("https://h/a.jpg?password=SECRET;n=1", "https://h/a.jpg?n=1"),
        ("https://h/my photo.jpg?sig=SECRET", "https://h/my photo.jpg"),
        ("https://me:SECRET@host:8443/a.jpg", "https://host:8443/a.jpg"),
        ("https://SECRET@host/a.jpg", "https://host/a.jpg"),
        ("ftp://me:SEC@RET@host/a@2x.jpg", "ftp://host/a@2x.jpg"),
        ("ftp://me:SEC/RET@host/a.jpg", "ftp://host/a.jpg"),
        ("s3://AKIA:SECRET@bucket/a.jpg", "s3://bucket/a.jpg"),
        ("https:/me:SECRET@host/a.jpg?sig=SECRET", "https:/host/a.jpg"),  # what pathlib makes of it
        ("HTTPS://me:SECRET@HOST/a.jpg", "HTTPS://HOST/a.jpg"),
        ("zip://a.jpg::https://me:SECRET@host/z.zip?sig=SECRET", "zip://a.jpg::https://host/z.zip"),
    ],
)
def test_secrets_go_and_the_object_stays(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
    assert without_secrets(shown) == shown
    assert "SECRET" not in str(MienError(f"{url}: cannot be read: 403 for url '{url}'"))


@pytest.mark.parametrize(
    "url",
    [
        "https://host:8080/a@2x.jpg",
        "https://[::1]:80/a@2x.jpg",
        "abfs://container@account.dfs.core.windows.net/a.jpg",
        "sftp://me@host/a.jpg",
        "https://h/a.jpg?subject=3&session=2&se=1&st=2&si=3&design=4&author=me",
        "https://h/a.jpg?expires=never",
        "s3://bucket/what?.jpg",
        "zip://a.jpg::https://h/a@2x.zip",
        "no url: me:pw@host?sig=1",
        "~/photos/a&sig=1.jpg",
        "C:/photos/me:you@home/a.jpg",
        "/photos/me:you@home/a.jpg",
    ],
)
def test_what_tells_pictures_apart_stays(url: str) -> None:
    assert without_secrets(url) == url


def test_a_key_that_may_name_the_object_tells_objects_apart_unread() -> None:
    one, other = (without_secrets(f"https://h/get?key={key}") for key in ("photos/SECRET.jpg", "b"))
    assert one != other
    assert "SECRET" not in one
    assert without_secrets(one) == one


def test_signed_anew_it_is_the_same() -> None:
    assert without_secrets(AZURE.replace("SECRET", "OTHER").replace("2027", "2028")) == without_secrets(AZURE)


def test_a_sentence_keeps_its_stops() -> None:
    said = f"{AZURE}: cannot be read ('{AZURE}'), see https://me:SECRET@h/x."
    plain = "https://acc.blob.core.windows.net/c/a.jpg"
    assert without_secrets(said) == f"{plain}: cannot be read ('{plain}'), see https://h/x."
