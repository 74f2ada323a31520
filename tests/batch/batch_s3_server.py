"""As much of Amazon's S3 as reading and writing pictures and tables needs, in this process, in memory, on loopback.

A dozen operations of the REST interface (bucket and object HEAD, GET with ranges, PUT, uploads in parts, DELETE and the
list of version 2), unsigned. It answers what pyarrow's client, Amazon's own C++ library, asks. To run the same tests
against a complete server such as moto or MinIO, name it in MIEN_TEST_S3.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

WHEN = "2026-01-01T00:00:00.000Z"


class Server(ThreadingHTTPServer):
    """Holds the objects, by "bucket/key"; `asked` is what was asked for, in order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.failing: set[str] = set()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""

    def handle_one_request(self) -> None:
        """As usual; a client that goes away is nothing to report."""
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def _place(self) -> tuple[str, dict[str, str]]:
        split = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(split.query, keep_blank_values=True).items()}
        return unquote(split.path).strip("/"), query

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            data = b"".join(iter(self._chunk, b""))
            self.rfile.readline()  # the blank line behind the last chunk
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
            return data
        chunks, start = [], 0  # "<hex size>[;signature]\r\n<bytes>\r\n", ended by a chunk of size 0
        while True:
            end = data.index(b"\r\n", start)
            length = int(data[start:end].split(b";")[0], 16)
            if length == 0:
                return b"".join(chunks)
            chunks.append(data[end + 2 : end + 2 + length])
            start = end + 4 + length

    def _chunk(self) -> bytes:
        length = int(self.rfile.readline().split(b";")[0], 16)
        data = self.rfile.read(length)
        if length:
            self.rfile.readline()
        return data

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _xml(self, text: str, status: int = 200) -> None:
        self._answer(status, f'<?xml version="1.0"?>{text}'.encode(), Content_Type="application/xml")

    def _missing(self, key: str) -> None:
        self._xml(f"<Error><Code>NoSuchKey</Code><Message>no {escape(key)}</Message></Error>", 404)

    def do_HEAD(self) -> None:
        """A bucket, or an object's size."""
        key, _ = self._place()
        if "/" not in key:
            self._answer(200, x_amz_bucket_region="us-east-1")
        elif key in self.server.objects:
            data = self.server.objects[key]
            self._answer(200, Content_Length=str(len(data)), ETag=_tag(data), Last_Modified=_DATE)
        else:
            self._answer(404)

    def do_GET(self) -> None:
        """A list, or an object or a range of it."""
        key, query = self._place()
        if "list-type" in query:
            self._list(key, query)
        elif key in self.server.failing:
            self._xml("<Error><Code>AccessDenied</Code><Message>denied</Message></Error>", 403)
        elif key not in self.server.objects:
            self._missing(key)
        else:
            data = self.server.objects[key]
            span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if span is None:
                self._answer(200, data, ETag=_tag(data), Last_Modified=_DATE)
                return
            start, end = int(span[1]), min(int(span[2] or len(data)), len(data) - 1)
            self._answer(
                206, data[start : end + 1], ETag=_tag(data), Last_Modified=_DATE,
                Content_Range=f"bytes {start}-{end}/{len(data)}",
            )  # fmt: skip

    def do_PUT(self) -> None:
        """An object, or a part of one."""
        key, query = self._place()
        data = self._body()
        if "uploadId" in query:
            self.server.uploads[query["uploadId"]][int(query["partNumber"])] = data
        elif "/" in key:
            self.server.objects[key] = data
        self._answer(200, ETag=_tag(data))

    def do_POST(self) -> None:
        """Begin or complete an upload in parts, or delete several objects."""
        key, query = self._place()
        body = self._body()
        if "uploads" in query:
            name = f"upload{len(self.server.uploads)}"
            self.server.uploads[name] = {}
            self._xml(
                f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
            )
        elif "uploadId" in query:
            parts = self.server.uploads.pop(query["uploadId"])
            self.server.objects[key] = b"".join(parts[number] for number in sorted(parts))
            tag = _tag(self.server.objects[key])
            self._xml(f"<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>")
        else:
            for name in re.findall(rb"<Key>(.*?)</Key>", body):
                self.server.objects.pop(f"{key}/{name.decode()}", None)
            self._xml("<DeleteResult></DeleteResult>")

    def do_DELETE(self) -> None:
        """An object, or an upload that is given up."""
        key, query = self._place()
        if "uploadId" in query:
            self.server.uploads.pop(query["uploadId"], None)
        else:
            self.server.objects.pop(key, None)
        self._answer(204)

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        entries: dict[str, str] = {}
        for name, data in sorted(self.server.objects.items()):
            of, _, key = name.partition("/")
            if of != bucket or not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folder = prefix + rest.partition(delimiter)[0] + delimiter
                entries[folder] = f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
            else:
                entries[key] = (
                    f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size><ETag>{_tag(data)}</ETag>"
                    f"<LastModified>{WHEN}</LastModified></Contents>"
                )
        limit = int(query.get("max-keys", "1000"))
        after = query.get("continuation-token", "")
        names = [name for name in sorted(entries) if name > after]
        shown = names[:limit]
        more = len(names) > limit
        token = f"<NextContinuationToken>{escape(shown[-1])}</NextContinuationToken>" if more else ""
        self._xml(
            f"<ListBucketResult><Name>{bucket}</Name><KeyCount>{len(shown)}</KeyCount>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}"
            f"{''.join(entries[name] for name in shown)}</ListBucketResult>"
        )


_DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


def _tag(data: bytes) -> str:
    return f'"{md5(data, usedforsecurity=False).hexdigest()}"'


@contextmanager
def serving() -> Iterator[tuple[str, Server]]:
    """A server with an empty memory, and its URL."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", server
        finally:
            server.shutdown()
            thread.join()
