"""Content credentials: nothing is fetched for them, originals that were tampered with are named, one key signs."""

from __future__ import annotations

import logging
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from mien.editing import provenance, signing
from mien.editing.mark import Mark
from mien.editing.photo import Photo, open_photo
from mien.editing.results import Edit
from mien.editing.signing import ProvenanceError, Signer

pytest.importorskip("c2pa")


@pytest.fixture(autouse=True)
def _own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the signing key of the person who runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def edit_of(original: Photo) -> Edit:
    """An edit that changed nothing: what a file says of itself is what counts here."""
    return Edit(original, original, (), "happiness")


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))


# Manifests elsewhere


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """The port of a server on this machine, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    visitor, _ = server.accept()
                except OSError:
                    return
                with visitor:
                    asked.append(visitor.recv(1000))
                    visitor.sendall(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1], asked
        server.shutdown(socket.SHUT_RDWR)


def naming(picture: Image.Image, form: str, address: str) -> bytes:
    """A picture whose XMP names a manifest at an address."""
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dcterms="http://purl.org/dc/terms/" '
        f'dcterms:provenance="{address}"/></rdf:RDF></x:xmpmeta>'
    )
    file = BytesIO()
    if form == "png":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp)
        picture.save(file, form, pnginfo=text)
    elif form == "tiff":
        picture.save(file, form, tiffinfo={700: xmp.encode()})
    else:
        picture.save(file, form, xmp=xmp.encode())
    return file.getvalue()


@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "tiff"])
def test_a_manifest_elsewhere_is_named_and_never_fetched(
    form: str,
    picture: Image.Image,
    listener: tuple[int, list[bytes]],
    tmp_path: Path,
    command: Callable,
) -> None:
    port, asked = listener
    address = f"http://127.0.0.1:{port}/manifest.c2pa"
    path = tmp_path / f"original.{form}"
    path.write_bytes(naming(picture, form, address))
    found = provenance.verify(path)
    assert (found.manifest, found.holds, found.elsewhere) == (False, False, address)
    ran = command("verify", path)
    assert ran.code == 1
    assert f"names a manifest elsewhere, not fetched: {address}" in ran.out
    edited = tmp_path / "edited.png"
    provenance.write_edit(edit_of(open_photo(path)), edited)
    ran = command("verify", edited)
    assert ran.code == 0, ran.out
    assert "an original names a manifest elsewhere, not fetched" in ran.out
    assert asked == []


def test_the_listener_would_have_seen_it(picture: Image.Image, listener: tuple[int, list[bytes]]) -> None:
    """What c2pa does when it is left to itself; else the test above would say nothing."""
    import c2pa

    port, asked = listener
    data = naming(picture, "jpeg", f"http://127.0.0.1:{port}/x")
    with pytest.raises(c2pa.C2paError), c2pa.Context() as context:
        c2pa.Reader("image/jpeg", BytesIO(data), context=context)
    assert len(asked) == 1


def test_an_address_is_shown_without_its_password(picture: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "original.jpeg"
    path.write_bytes(naming(picture, "jpeg", "http://me:hunter2@127.0.0.1:9/x?sig=abc"))
    assert "hunter2" not in repr(provenance.verify(path))
    assert "abc" not in repr(provenance.verify(path))


# Originals


def tampered(signed: bytes) -> bytes:
    """A signed PNG with another pixel and its old manifest."""
    picture = Image.open(BytesIO(signed)).convert("RGB")
    red, *_ = picture.getpixel((0, 0))  # type: ignore[misc]
    picture.putpixel((0, 0), (255 - red, 0, 0))
    file = BytesIO()
    picture.save(file, "png")
    start = signed.index(b"caBX") - 4
    chunk = signed[start : start + 12 + struct.unpack(">I", signed[start : start + 4])[0]]
    return file.getvalue()[:33] + chunk + file.getvalue()[33:]  # behind the header


def test_an_original_that_was_tampered_with_is_said_however_far_back(
    picture: Image.Image, tmp_path: Path, command: Callable
) -> None:
    first, second, third = (tmp_path / f"{name}.png" for name in ("first", "second", "third"))
    plain = tmp_path / "plain.png"
    picture.save(plain)
    provenance.write_edit(edit_of(open_photo(plain)), first)
    assert provenance.verify(first).holds
    broken = tmp_path / "broken.png"
    broken.write_bytes(tampered(first.read_bytes()))
    assert not provenance.verify(broken).intact
    provenance.write_edit(edit_of(open_photo(broken)), second)
    provenance.write_edit(edit_of(open_photo(second)), third)
    for path in (second, third):
        found = provenance.verify(path)
        assert found.intact, "the file itself is as it was signed"
        assert found.history == ("assertion.dataHash.mismatch",)
        ran = command("verify", path)
        assert ran.code == 1
        assert "an original had been changed after it was signed" in ran.out


def test_a_sound_line_of_edits_holds(picture: Image.Image, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    picture.save(paths[0])
    for before, after in pairwise(paths):
        provenance.write_edit(edit_of(open_photo(before)), after)
        found = provenance.verify(after)
        assert found.holds
        assert found.history == ()


# The signing key


def test_first_uses_at_once_make_one_pair(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from mien.editing.signing import Signer, _make_chain\n"
        "_make_chain(); print('ready', flush=True); sys.stdin.readline()\n"
        "one = Signer.of_install(Path(sys.argv[1])); sys.stdout.write(one.chain.decode() + one.key.decode())\n"
    )
    folder = tmp_path / "signing"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # all at once
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = {process.communicate(timeout=120)[0] for process in processes}
    kept = Signer.of_install(folder)
    assert answers == {kept.chain.decode() + kept.key.decode()}
    assert signing._fault(kept.chain, kept.key) == ""
    assert [path.name for path in tmp_path.iterdir()] == ["signing"], "nothing is left of the losers"


def test_threads_at_once_get_one_pair(tmp_path: Path) -> None:
    barrier, found = threading.Barrier(4), []

    def first() -> None:
        barrier.wait()
        found.append(Signer.of_install(tmp_path / "signing"))

    threads = [threading.Thread(target=first) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1


def test_the_key_is_its_owners_alone_from_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    plain = os.open

    def watched(path: str | Path, flags: int, mode: int = 0o777, **more: object) -> int:
        opened = plain(path, flags, mode, **more)  # type: ignore[arg-type]
        modes.append(os.fstat(opened).st_mode & 0o777)
        return opened

    monkeypatch.setattr(os, "open", watched)
    before = os.umask(0)
    try:
        Signer.of_install(tmp_path / "signing")
    finally:
        os.umask(before)
    assert modes == [0o600, 0o600]
    assert (tmp_path / "signing").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "chain.pem").write_bytes(b""), "chain.pem: is empty"),
        (lambda folder: (folder / "chain.pem").write_bytes(b"-----BEGIN CERT"), "chain.pem: is incomplete"),
        (lambda folder: (folder / "key.pem").write_bytes(b"\n"), "key.pem: is empty"),
        (lambda folder: (folder / "key.pem").unlink(), "key.pem: is missing"),
        (lambda folder: (folder / "chain.pem").unlink(), "chain.pem: is missing"),
        (
            lambda folder: (folder / "key.pem").write_bytes(signing._make_chain()[1]),
            "the private key belongs to another certificate",
        ),
        (
            lambda folder: (folder / "chain.pem").write_bytes(
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
            ),
            "the certificate chain is empty, incomplete or not a PEM file",
        ),
    ],
)
def test_a_damaged_pair_is_one_line_with_the_remedy(
    damage: Callable[[Path], object], words: str, picture: Image.Image, tmp_path: Path
) -> None:
    folder = tmp_path / "config" / "mien" / "signing"
    Signer.of_install(folder)
    damage(folder)
    source, out = tmp_path / "a.png", tmp_path / "b.png"
    picture.save(source)
    with pytest.raises(ProvenanceError) as told:
        provenance.write_edit(edit_of(open_photo(source)), out)
    assert words in str(told.value)
    assert f"remove the folder {folder}, and mien makes a new key" in str(told.value)
    assert "\n" not in str(told.value)
    assert not out.exists()
    assert not out.with_name("b.png.mien.json").exists()


def test_a_pair_of_ones_own_is_looked_at_at_the_door(tmp_path: Path) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    made, other = signing._make_chain(), signing._make_chain()
    chain.write_bytes(made[0])
    key.write_bytes(made[1])
    assert Signer.of_files(chain, key).key == made[1]
    key.write_bytes(other[1])
    with pytest.raises(ProvenanceError, match="belongs to another certificate"):
        Signer.of_files(chain, key)
    key.write_bytes(b"")
    with pytest.raises(ProvenanceError, match="the private key is empty"):
        Signer.of_files(chain, key)
    with pytest.raises(ProvenanceError, match="check --certificate and --key"):
        Signer.of_files(chain, tmp_path / "none.pem")


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    signing._passing.cache_clear()
    caplog.set_level(logging.WARNING, "mien")
    return caplog


def test_without_a_folder_to_keep_it_in_a_key_of_this_run_signs(
    picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warned: pytest.LogCaptureFixture
) -> None:
    taken = tmp_path / "taken"
    taken.touch()
    monkeypatch.setenv(
        "XDG_CONFIG_HOME", str(taken)
    )  # a file: no folder can be made below it, not even by root
    source, out = tmp_path / "a.png", tmp_path / "b.png"
    picture.save(source)
    provenance.write_edit(edit_of(open_photo(source)), out)
    assert provenance.verify(out).holds
    assert Signer.of_install() == Signer.of_install()
    (line,) = warned.messages
    assert str(taken) in line
    assert "signed with a key of this run only" in line


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become nobody")
def test_a_user_without_home_and_entry_signs_too(tmp_path: Path) -> None:
    script = (
        "import os, pwd\n"
        "from mien.editing.signing import Signer, _make_chain\n"
        "_make_chain(); os.setuid(54321)\n"  # all is imported: Python itself may lie where nobody may read
        "print(len(Signer.of_install().key) > 100)"
    )
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CONFIG_HOME")}
    ran = subprocess.run(
        [sys.executable, "-c", script], env=kept, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.stdout.strip() == "True", ran.stderr
    assert ran.stderr.count("\n") == 1
    assert "there is no home folder" in ran.stderr


@pytest.mark.parametrize("given", ["", "config", "./config", None])
def test_an_unset_empty_or_relative_folder_is_the_home_folders(
    given: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME")
    if given is not None:
        monkeypatch.setenv("XDG_CONFIG_HOME", given)
    Signer.of_install()
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert (tmp_path / "home" / ".config" / "mien" / "signing" / "key.pem").is_file()


@pytest.mark.parametrize("home", ["", "here"])
def test_an_empty_or_relative_home_keeps_no_key(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warned: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", home)
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert Signer.of_install().key
    assert list(tmp_path.iterdir()) == []
    assert len(warned.messages) == 1


# What an input says of itself is kept


@pytest.fixture
def large() -> Image.Image:
    """A picture that is large enough for the invisible mark."""
    coarse = np.random.default_rng(1).integers(40, 215, (40, 50, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((400, 320), Image.Resampling.BICUBIC)


def edited_file(source: Path, out: Path, **options: bool) -> provenance.Verification:
    provenance.write_edit(edit_of(open_photo(source)), out, **options)
    return provenance.verify(out)


def test_the_mark_is_found_when_the_metadata_are_stripped(large: Image.Image, tmp_path: Path) -> None:
    large.save(tmp_path / "a.png")
    assert edited_file(tmp_path / "a.png", tmp_path / "b.jpg").mark == Mark()
    with Image.open(tmp_path / "b.jpg") as edited:
        Image.fromarray(np.asarray(edited)).save(tmp_path / "c.jpg", quality=70)
    stripped = provenance.verify(tmp_path / "c.jpg")
    assert (stripped.manifest, stripped.source_type, stripped.sidecar) == (False, "", "none")
    assert stripped.mark == Mark()
    assert provenance.verify(tmp_path / "a.png").mark is None


def test_leaving_the_mark_out_keeps_the_pixels_and_is_recorded(large: Image.Image, tmp_path: Path) -> None:
    large.save(tmp_path / "a.png")
    found = edited_file(tmp_path / "a.png", tmp_path / "b.png", mark=False)
    with Image.open(tmp_path / "b.png") as edited:
        np.testing.assert_array_equal(np.asarray(edited), np.asarray(large))
    assert found.mark is None
    assert found.facts["invisible_mark"] == {"left_out": "not wanted"}
    assert b'mien:InvisibleMark="none: not wanted"' in (tmp_path / "b.png").read_bytes()


def test_a_small_picture_has_no_mark_and_says_why(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.png")
    found = edited_file(tmp_path / "a.png", tmp_path / "b.png")
    assert found.mark is None
    assert found.facts["invisible_mark"] == {"left_out": "fewer than 240 x 240 pixels"}


def test_an_edit_of_an_edit_names_the_mark_and_keeps_the_manifest(large: Image.Image, tmp_path: Path) -> None:
    large.save(tmp_path / "a.png")
    edited_file(tmp_path / "a.png", tmp_path / "b.png")
    again = edited_file(tmp_path / "b.png", tmp_path / "c.png")
    assert again.mark == Mark(generation=2)
    assert again.facts["invisible_mark"]["input"] == "version 1, photo edited by mien"
    assert again.holds
    store = provenance._manifest_store((tmp_path / "c.png").read_bytes())
    assert isinstance(store, dict)
    active = store["manifests"][store["active_manifest"]]
    (parent,) = active["ingredients"]
    assert parent["relationship"] == "parentOf"
    assert parent["active_manifest"] in store["manifests"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize(
    "stated",
    [
        'Iptc4xmpExt:DigitalSourceType="http://example/was"/>',
        "><Iptc4xmpExt:DigitalSourceType>http://example/was</Iptc4xmpExt:DigitalSourceType></rdf:Description>",
    ],
)
def test_the_xmp_of_the_input_is_kept(large: Image.Image, tmp_path: Path, stated: str, suffix: str) -> None:
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="Camera"/>'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f"{stated}</rdf:RDF></x:xmpmeta>"
    )
    large.save(tmp_path / "a.jpg", xmp=packet.encode())
    found = edited_file(tmp_path / "a.jpg", tmp_path / f"b{suffix}")
    assert found.source_type == provenance.SOURCE_TYPE
    assert found.facts["input_digital_source_type"] == "http://example/was"
    with Image.open(tmp_path / f"b{suffix}") as edited:
        written = edited.info["xmp"]
    root = ElementTree.fromstring(written.decode().partition("?>")[2].rpartition("<?")[0])
    assert written.count(b"DigitalSourceType>") == 2, "one element"
    assert b"example/was" not in written
    assert written.count(b"CreatorTool") == 1
    assert root.tag.endswith("xmpmeta")


@pytest.mark.parametrize(
    "packet", [b"<x:xmpmeta></x:xmpmeta>", b"<x:xmpmeta" + b"\xff" * 50, b"<x:xmpmeta>" + b"a" * 64_000]
)
def test_a_broken_or_very_long_xmp_is_replaced(packet: bytes) -> None:
    written = provenance.xmp(original=packet)
    assert len(written) < 2000
    ElementTree.fromstring(written.decode().partition("?>")[2].rpartition("<?")[0])
