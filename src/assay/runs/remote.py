"""A store that is no folder: what is finished lies in a bucket, and work is done in a folder here.

Trials are run in a folder of the user's cache, exactly as in any other store; when one is finished
it goes to the bucket, and what another machine has put there is brought before it would be run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from assay.config import digest
from assay.disk import cache_folder
from assay.runs.bucket import Bucket, Version
from assay.runs.display import say
from assay.runs.entry import Entry
from assay.runs.parcels import Damaged, Files, Folder, Kept, Opened, Target
from assay.runs.reach import URL
from assay.runs.store import FOLDERS, Kind, Run, Store, slug
from assay.runs.trial import Trial

LOOK_EVERY = 5.0  # seconds between two looks at what others have put into the bucket


def open_store(location: Path | str) -> Store:
    """Return the store of a folder, or of a URL ("s3://bucket/path").

    Raises:
        AssayError: neither can be used.
    """
    url = url_of(location)
    if url is None:
        return Store(location)
    protocol, _, path = url.partition("://")
    return Store(f"/{path.lstrip('/')}") if protocol == "file" else RemoteStore(url)


def place_of(location: Path | str) -> Target:
    """Return the place that parcels are moved to or from: a folder, or a bucket."""
    store = open_store(location)
    return store.bucket if isinstance(store, RemoteStore) else Folder(store)


def url_of(location: Path | str) -> str | None:
    """Return the URL that is meant, or None for a folder. A Path has dropped a slash of it.

    >>> url_of(Path("s3://bucket/runs"))
    's3://bucket/runs'
    """
    found = URL.fullmatch(str(location))
    return f"{found[1]}://{found[2]}" if found else None


class RemoteStore(Store):
    """A store in a bucket.

    Attributes:
        root: the folder of this machine where trials are run, and what was used is kept.
        bucket: where everything finished is.
    """

    def __init__(self, url: str) -> None:
        self.bucket = Bucket(url)
        at = f"{slug(url.partition('://')[2])[-40:]}-{digest({'url': self.bucket.name})[:8]}"
        super().__init__(cache_folder(None) / "stores" / at)
        self.local = Folder(Store(self.root))
        self.read: dict[str, int] | None = None  # which version of each run was read, if any was

    @property
    def name(self) -> str:
        return self.bucket.name

    def prepare(self) -> None:
        super().prepare()
        self.bucket.prepare()

    # -- trials ----------------------------------------------------------------------------------

    def fetch(self, trial: Trial) -> bool:
        return self._bring(f"trials/{trial.short}")

    def publish(self, trial: Trial) -> None:
        parcel = f"trials/{trial.short}"
        last = self.bucket.last(parcel)
        if last and (parcel, last) not in self.bucket.damaged:
            return
        files = self.local.files(parcel)
        if files is None:
            return
        opened = partial(self.local.open, parcel)
        if self.bucket.keep(parcel, files, opened) == "differs":
            say(
                f"{trial.title} was finished elsewhere too, with other bytes (another processor?): "
                f"{self.name} keeps what was there first, and this machine its own"
            )

    def entry(self, trial: Trial) -> Entry:
        self.fetch(trial)
        return super().entry(trial)

    def stored(self, address: str) -> Entry | None:
        self._bring(f"trials/{address[:12]}")
        return super().stored(address)

    def survey(self) -> tuple[Counter[str], list[Path]]:
        self.bucket.look(within=LOOK_EVERY)
        states, unreadable = super().survey()
        here = {path.name for path in self.folders("trials") if (path / "record.json").is_file()}
        names = (name for name in self.bucket.versions if name.startswith("trials/"))
        states["finished"] += sum(name.partition("/")[2] not in here for name in names)
        return +states, unreadable

    def _bring(self, parcel: str) -> bool:
        """Copy a trial from the bucket if it is not here; return whether it was. Where its files
        there are damaged it counts as not finished: whoever runs it again puts it there anew."""
        if self.local.files(parcel) is not None:
            return False
        self.bucket.look(within=LOOK_EVERY)
        last = self.bucket.last(parcel)
        return last > 0 and self._brought(parcel, last, self.local.keep) == "new"

    def _brought(
        self, parcel: str, number: int, keep: Callable[[str, Files, Opened], Kept]
    ) -> Kept | None:
        """Copy a version of a parcel; None: its files in the bucket are damaged."""
        files = self.bucket.versions[parcel][number].files
        opened = partial(self.bucket.open, parcel, number=number)
        for again in (True, False):  # the network may have done it
            if (parcel, number) in self.bucket.damaged:
                break
            try:
                return keep(parcel, files, opened)
            except Damaged as error:
                if not again:
                    self.bucket.damaged.add((parcel, number))
                    say(f"{self.name}: {error}; it is done without, and made anew when needed")
        return None

    # -- studies and audits ----------------------------------------------------------------------

    def save_run(self, kind: Kind, id: str, document: Mapping[str, Any]) -> Run:
        run = super().save_run(kind, id, document)
        parcel = f"{FOLDERS[kind]}/{id}"
        files = self.local.files(parcel)
        assert files is not None  # it was written in this moment
        number = self.bucket.add_version(parcel, files, partial(self.local.open, parcel))
        if self.read is not None and number > self.read.get(parcel, 0) + 1:
            say(
                f"{id} was written by another machine too while this one worked: {self.name} keeps "
                f"both, and shows this one; the same command judges all its trials once more"
            )
        if self.read is not None:
            self.read[parcel] = number
        return replace(run, home=self)

    def runs(self) -> list[Run]:
        self.bucket.look(within=LOOK_EVERY)
        for parcel, versions in self.bucket.versions.items():
            if not parcel.startswith("trials/"):
                self._bring_run(parcel, versions)
        self.read = {parcel: max(versions) for parcel, versions in self.bucket.versions.items()}
        return [replace(run, home=self) for run in super().runs()]

    def _bring_run(self, parcel: str, versions: Mapping[int, Version]) -> None:
        """Copy the last version of a study or an audit that is not damaged, unless a newer one was
        made here. What is here stays until the other has arrived."""
        here, instead = self.local.files(parcel), partial(self.local.keep_run, replace=True)
        if here is not None and all(here != version.files for version in versions.values()):
            return
        for number in sorted(versions, reverse=True):
            if here == versions[number].files:
                return
            if self._brought(parcel, number, instead) is not None:
                return

    def find(self, text: str) -> Run | Entry:
        self.bucket.look(within=LOOK_EVERY)
        begins = f"trials/{text[:12]}"
        for parcel in [name for name in self.bucket.versions if text and name.startswith(begins)]:
            self._bring(parcel)
        found = super().find(text)
        inside = self.root in found.folder.parents
        return replace(found, home=self) if isinstance(found, Run) and inside else found
