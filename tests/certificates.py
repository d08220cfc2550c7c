# SPDX-License-Identifier: Apache-2.0
"""Certificates in files, as Kubernetes mounts them: good ones, and each kind of bad one."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import trustme

from kedastral.tls import TlsFiles

EXPIRED = datetime.now(UTC) - timedelta(days=1)


@attrs.define
class Authority:
    """A certificate authority that writes the certificates it issues into ``folder``."""

    folder: Path
    ca: trustme.CA = attrs.field(factory=trustme.CA)

    @property
    def file(self) -> Path:
        """Its own certificate, for clients that trust it."""
        path = self.folder / "ca.pem"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.ca.cert_pem.bytes())
        return path

    def issue(self, *names: str, to: str = "tls", not_after: datetime | None = None) -> TlsFiles:
        """Issue a certificate and its key into the folder ``to``, under the same file names each time."""
        pair = self.ca.issue_cert(*names, not_after=not_after)
        folder = self.folder / to
        folder.mkdir(parents=True, exist_ok=True)
        files = TlsFiles(folder / "tls.crt", folder / "tls.key")
        (folder / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
        (folder / "tls.key").write_bytes(pair.private_key_pem.bytes())
        return files


def mount_secret(mounted: Path, content: TlsFiles) -> TlsFiles:
    """Show a pair as the kubelet shows a Secret: links to ``..data``, itself a link that is swapped in one step."""
    assert content.cert is not None
    assert content.key is not None
    mounted.mkdir(exist_ok=True)
    version = mounted / f"..version-{len(list(mounted.iterdir()))}"
    version.mkdir()
    for path in (content.cert, content.key):
        (version / path.name).write_bytes(path.read_bytes())
        link = mounted / path.name
        if not link.is_symlink():
            link.symlink_to(Path("..data") / path.name)
    (mounted / "..data_tmp").symlink_to(version.name)
    (mounted / "..data_tmp").rename(mounted / "..data")
    return TlsFiles(mounted / content.cert.name, mounted / content.key.name)
