"""Publishing a finished index to an object store, and fetching it from there.

An index is mapped and renamed, neither of which an object store can do: it is copied there to be
kept and handed on, and copied to a disk to be searched.

    publish    shards/000000/... ──▶ store          manifest.json ──▶ store, last
    fetch      manifest.json, then what it names ──▶ .NAME.TOKEN.part ──renamed──▶ NAME

In the store an index is there when its manifest is; on the disk, when its name is. Every byte is
compared with the manifest's SHA-256 on its way, in both directions.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from hficma.artifacts.manifest import (
    MANIFEST,
    MANIFEST_BYTES,
    atomic_directory,
    check_free,
    inside,
    read_manifest,
    sync,
)
from hficma.errors import ArtifactError, HficmaError, InputError, MissingDependencyError
from hficma.limits import MEGABYTE

from ..index.index import Index
from ..index.index_facts import KIND, IndexFacts

COPIES = 8
"""Files that are copied at once: a store answers each slowly, and many together fast."""
BLOCK = 8 * MEGABYTE
"""Bytes that are read at once; each copy holds as many."""

BytesCallback: TypeAlias = Callable[[int, int], None]
"""Called with bytes copied so far and bytes in all."""


def publish_index(
    index: Path, url: str, *, progress: BytesCallback = lambda done, total: None
) -> int:
    """Copy a finished index to an object store.

    Args:
        index: its folder.
        url: where it shall be, as fsspec takes it: `s3://bucket/name`, `gs://`, `file:///path`.
        progress: called with bytes copied so far and bytes in all.

    Returns:
        bytes copied.

    Raises:
        ArtifactError: no index there, a damaged one, another one at the URL, or the store refuses.
        MissingDependencyError: fsspec, or the package of this kind of store, is not installed.
    """
    store = _Store(url)
    with Index.open(index):  # a damaged one is refused before anything is copied
        manifest = read_manifest(index, kind=KIND)
        # These bytes and no later ones: a writer may replace the manifest, and its shards, now.
        content = inside(index, MANIFEST).read_bytes()
    if store.exists(MANIFEST):
        if store.read(MANIFEST, MANIFEST_BYTES) == content:
            return 0
        raise ArtifactError(
            f"{url}: holds another index; give another place, or remove it there first"
        )
    try:
        sizes = {name: inside(index, name).stat().st_size for name in manifest.files}
    except OSError as error:
        raise ArtifactError(
            f"{error.filename}: cannot be read ({error.strerror}); was the index just changed?"
        ) from error

    def copy(name: str, counted: Callable[[int], None]) -> None:
        with inside(index, name).open("rb") as source:
            store.write(name, source, manifest.files[name], counted)

    copied = _copy_all(sizes, copy, progress)
    store.write_whole(MANIFEST, content)
    return copied


def fetch_index(url: str, out: Path, *, progress: BytesCallback = lambda done, total: None) -> Path:
    """Copy an index from an object store to a disk, whole or not at all.

    Its bundle is another artifact, which is looked for where bundles lie.

    Args:
        url: where it is, as fsspec takes it.
        out: the index's folder; must not exist.
        progress: called with bytes copied so far and bytes in all.

    Returns:
        `out`.

    Raises:
        ArtifactError: no index there, a damaged one, `out` exists, the disk has no room, or the
            store refuses.
        MissingDependencyError: fsspec, or the package of this kind of store, is not installed.
    """
    check_free(out)
    store = _Store(url)
    if not store.exists(MANIFEST):
        raise ArtifactError(f"{url}: holds no index; it has no {MANIFEST}")
    with atomic_directory(out) as building:
        (building / MANIFEST).write_bytes(store.read(MANIFEST, MANIFEST_BYTES))
        # Read as any stranger's: its own hash, its kind, and no name that leads out.
        manifest = read_manifest(building, kind=KIND)
        IndexFacts.of_manifest(building, manifest)
        sizes = store.sizes(manifest.files)
        _check_room(out, sum(sizes.values()))

        def copy(name: str, counted: Callable[[int], None]) -> None:
            path = inside(building, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            store.fetch(name, path, manifest.files[name], counted)
            sync(path)

        _copy_all(sizes, copy, progress)
        with Index.open(building):  # its files are those of an index, in their lengths too
            pass
        for folder in (*{inside(building, name).parent for name in manifest.files}, building):
            sync(folder)
    return out


class _Store:
    """A folder of an object store.

    Args:
        url: of the folder.
    """

    def __init__(self, url: str) -> None:
        if "://" not in url:
            raise InputError(f"{url}: is no URL; write one such as s3://bucket/name")
        try:
            from fsspec.core import url_to_fs
        except ModuleNotFoundError as error:
            raise MissingDependencyError("fsspec", "cluster", "an object store") from error
        self.url = url.rstrip("/")
        kind = url.partition("://")[0]
        try:
            self._files, self._root = url_to_fs(self.url)
        except ImportError as error:
            raise InputError(f"{url}: needs a package for {kind} ({error})") from error
        except ValueError as error:
            raise InputError(f"{url}: names no kind of store ({error})") from error

    def exists(self, name: str) -> bool:
        """Return whether a file is there."""
        with self._errors(name):
            # Not what was listed before: another process may have written it meanwhile.
            self._files.invalidate_cache()
            return bool(self._files.isfile(self._path(name)))

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's bytes, of which there may be so many."""
        with self._errors(name), self._files.open(self._path(name), "rb") as file:
            content: bytes = file.read(limit + 1)
        if len(content) > limit:
            raise ArtifactError(f"{self.url}/{name}: has more than {limit:,} bytes; refused")
        return content

    def sizes(self, names: Mapping[str, str]) -> dict[str, int]:
        """Return the bytes of files.

        Raises:
            ArtifactError: one is missing.
        """

        def size(name: str) -> int:
            with self._errors(name):
                return int(self._files.info(self._path(name))["size"])

        with ThreadPoolExecutor(COPIES) as pool:
            return dict(zip(names, pool.map(size, names), strict=True))

    def write(self, name: str, source: Any, sha256: str, counted: Callable[[int], None]) -> None:
        """Copy an open file into the store, comparing it on its way."""
        with self._errors(name):
            self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
            with self._files.open(self._path(name), "wb", block_size=BLOCK) as target:
                digest = _copy(source, target, counted)
        if digest != sha256:
            raise ArtifactError(
                f"{source.name}: is not as it was written (SHA-256 differs); make the index again"
            )

    def write_whole(self, name: str, content: bytes) -> None:
        """Write a file at once."""
        with self._errors(name):
            if self._files.protocol in ("file", ("file", "local")):
                # A disk, unlike a store, would show half of it: by a rename, then.
                part = f"{self._path(name)}.part"
                self._files.pipe_file(part, content)
                self._files.mv(part, self._path(name))
            else:
                self._files.pipe_file(self._path(name), content)

    def fetch(self, name: str, path: Path, sha256: str, counted: Callable[[int], None]) -> None:
        """Copy a file from the store to a new file, comparing it on its way."""
        with (
            self._errors(name),
            self._files.open(
                self._path(name), "rb", cache_type="readahead", block_size=BLOCK
            ) as source,
            path.open("xb") as target,
        ):
            digest = _copy(source, target, counted)
        if digest != sha256:
            raise ArtifactError(
                f"{self.url}/{name}: is not as it was published (SHA-256 differs); publish it again"
            )

    def _path(self, name: str) -> str:
        """Return a file's path as the store takes it."""
        return f"{self._root}/{name}"

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Say in a line what a store refuses, in whatever library's words.

        Raises:
            ArtifactError: it does.
        """
        try:
            yield
        except (HficmaError, KeyboardInterrupt):
            raise
        except FileNotFoundError as error:
            raise ArtifactError(f"{self.url}/{name}: is missing in the store") from error
        # Stores raise their own libraries' errors, which have no base in common.
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0][:200]
            raise ArtifactError(f"{self.url}/{name}: the store refuses ({reason})") from error


def _copy(source: Any, target: Any, counted: Callable[[int], None]) -> str:
    """Copy an open file into another by blocks; return its SHA-256."""
    digest = hashlib.sha256()
    while block := source.read(BLOCK):
        digest.update(block)
        target.write(block)
        counted(len(block))
    return digest.hexdigest()


def _copy_all(
    sizes: Mapping[str, int],
    copy: Callable[[str, Callable[[int], None]], None],
    progress: BytesCallback,
) -> int:
    """Copy files, several at once; return how many bytes they have."""
    total, done = sum(sizes.values()), 0
    lock = threading.Lock()

    def counted(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            progress(done, total)

    # The largest first, so that none of them is alone in the end.
    names = sorted(sizes, key=lambda name: -sizes[name])
    with ThreadPoolExecutor(COPIES) as pool:
        futures = [pool.submit(copy, name, counted) for name in names]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return total


def _check_room(out: Path, size: int) -> None:
    """Refuse a copy that the disk has no room for.

    Raises:
        ArtifactError: it has less.
    """
    free = shutil.disk_usage(out.parent).free
    if size > free:
        raise ArtifactError(
            f"{out}: the index has {size / 1e9:.1f} GB, and the disk {free / 1e9:.1f} GB free"
        )
