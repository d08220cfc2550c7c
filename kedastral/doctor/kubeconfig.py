# SPDX-License-Identifier: Apache-2.0
"""Reads the user's kubeconfig like kubectl does, for lightkube (extra ``kubernetes``).

lightkube's own reader takes one file, prefers a pod's ServiceAccount to it, and fails with a Python error if something
is missing in it.
"""

import base64
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
from lightkube.config.kubeconfig import SERVICE_ACCOUNT, KubeConfig, SingleConfig
from lightkube.config.models import Cluster, Context, NameValue, User, UserExec

from kedastral.doctor.manifests import MAX_DEPTH
from kedastral.doctor.nodes import node_at, rows_at, text_at
from kedastral.errors import KedastralError
from kedastral.settings.yaml import Node, Table, YamlError, read_documents
from kedastral.text import printable

DEFAULT_FILE = "~/.kube/config"
EXEC_VERSIONS = "client.authentication.k8s.io/"
LIGHTKUBES_EXEC_VERSION = EXEC_VERSIONS + "v1beta1"
"""The newest version that lightkube supports; v1 answers have the token in the same place."""
UNSUPPORTED = {
    "cluster": ("tls-server-name",),
    "user": ("auth-provider", "as", "as-groups", "as-uid", "as-user-extra"),
}
"""What kubectl supports and lightkube does not: ignoring it would mean another user, or another cluster."""


class KubeconfigError(KedastralError):
    """The kubeconfig cannot be used; messages quote only names, paths and addresses from it."""


@attrs.frozen
class Login:
    """The cluster, the user that logs in, and the proxy to use."""

    config: SingleConfig = attrs.field(repr=False)
    proxy: str | None = attrs.field(default=None, repr=False)


def read_login(context: str | None) -> Login:
    """The login of ``context``, by default the current one; that of the pod if there is no kubeconfig.

    Raises KubeconfigError.
    """
    given = os.environ.get("KUBECONFIG", "")
    names = [name for name in given.split(os.pathsep) if name] or [DEFAULT_FILE]
    files = [Path(name).expanduser() for name in names]
    there = [file for file in files if file.exists()]  # it may be a pipe
    if not there and context is None and not given and _is_in_pod():
        return _login_of_pod()
    if not there:
        raise KubeconfigError(f"there is no kubeconfig {_shown(files[0])}")
    return _Kubeconfig(tuple((file, _read_file(file)) for file in there)).find_login(context)


def _login_of_pod() -> Login:
    config = KubeConfig.from_service_account().get()
    assert config is not None  # noqa: S101 - it has one context, the current one
    return Login(config)


def _is_in_pod() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ and Path(SERVICE_ACCOUNT, "token").is_file()


def _read_file(file: Path) -> Node | None:
    try:
        documents = read_documents(file.read_bytes(), max_depth=MAX_DEPTH)
    except OSError as error:
        raise KubeconfigError(f"{_shown(file)} cannot be read: {(error.strerror or str(error)).lower()}") from error
    except YamlError as error:
        raise KubeconfigError(f"{_shown(file)} {error}") from error
    return documents[0] if documents else None


def _shown(file: Path) -> str:
    return printable(str(file))


@attrs.frozen
class _Entry:
    """An entry, and the folder that its paths are relative to: that of its file."""

    node: Table
    folder: Path

    def text(self, key: str) -> str | None:
        return text_at(self.node, key) or None

    def data(self, key: str) -> str | None:
        text = "".join(text_at(self.node, key).split())
        try:
            base64.b64decode(text.encode(), validate=True)
        except ValueError:
            raise KubeconfigError(f"{key} is not base64") from None
        return text or None

    def file(self, key: str) -> str | None:
        text = text_at(self.node, key)
        if not text:
            return None
        path = self.folder / text
        if not os.access(path, os.R_OK):
            raise KubeconfigError(f"{key} {_shown(path)} cannot be read")
        return str(path)


@attrs.frozen
class _Kubeconfig:
    """Files in the order of ``KUBECONFIG``: of two entries with the same name the first counts, as in kubectl."""

    files: Sequence[tuple[Path, Node | None]]

    def find_login(self, name: str | None) -> Login:
        name = name or next((text for _, node in self.files if (text := text_at(node, "current-context"))), "")
        if not name:
            raise KubeconfigError("no current-context is set; name one with --context")
        context = self._find("contexts", "context", name).node
        server, user_name = text_at(context, "cluster"), text_at(context, "user")
        cluster = self._find("clusters", "cluster", server)
        config = SingleConfig(
            context_name=name,
            context=Context(cluster=server, user=user_name or None, namespace=text_at(context, "namespace") or None),
            cluster=_read_cluster(cluster),
            user=_read_user(self._find("users", "user", user_name)) if user_name else User(),
        )
        return Login(config, text_at(cluster.node, "proxy-url") or None)

    def _find(self, section: str, kind: str, name: str) -> "_Entry":
        """The entry ``name`` of a section."""
        found = list(self._named(section, kind, name))
        if not found:
            others = self._others(section) if kind == "context" else ""
            raise KubeconfigError(f"it has no {kind} {printable(name)!r}{others}")
        for key in UNSUPPORTED.get(kind, ()):
            if key in found[0].node.entries:
                raise KubeconfigError(f"{key} of {kind} {printable(name)!r} is not supported here")
        return found[0]

    def _named(self, section: str, kind: str, name: str) -> "Iterator[_Entry]":
        for file, document in self.files:
            for row in rows_at(document, section):
                entry = node_at(row, kind)
                if text_at(row, "name") == name and isinstance(entry, Table):
                    yield _Entry(entry, file.parent)

    def _others(self, section: str) -> str:
        names = [text_at(row, "name") for _, document in self.files for row in rows_at(document, section)]
        return f"; it has {', '.join(printable(name) for name in names[:10])}" if names else ""


def _read_cluster(entry: _Entry) -> Cluster:
    server = entry.text("server") or ""
    if not server.startswith(("http://", "https://")):
        raise KubeconfigError("server of the cluster must be an address with https://")
    data = entry.data("certificate-authority-data")
    return Cluster(
        server=server,
        certificate_auth=None if data else entry.file("certificate-authority"),
        certificate_auth_data=data,
        insecure=entry.text("insecure-skip-tls-verify") == "true",
    )


def _read_user(entry: _Entry) -> User:
    user = User(
        exec=_read_exec(node_at(entry.node, "exec"), entry.folder),
        username=entry.text("username"),
        password=entry.text("password"),
        token=entry.text("token"),
        token_file=entry.file("tokenFile"),
        client_cert=entry.file("client-certificate"),
        client_cert_data=entry.data("client-certificate-data"),
        client_key=entry.file("client-key"),
        client_key_data=entry.data("client-key-data"),
    )
    if bool(user.client_cert or user.client_cert_data) != bool(user.client_key or user.client_key_data):
        raise KubeconfigError("the user has only one of client-certificate and client-key")
    if user.token is not None and not (user.token.isascii() and user.token.isprintable() and " " not in user.token):
        raise KubeconfigError("the token of the user has characters that no token may have, such as a newline")
    return user


def _read_exec(node: Node | None, folder: Path) -> UserExec | None:
    """The login command; like kubectl, it is told which version is wanted."""
    version, command = text_at(node, "apiVersion"), text_at(node, "command")
    if not command:
        return None
    wanted = {"kind": "ExecCredential", "apiVersion": version, "spec": {"interactive": False}}
    env = [NameValue(text_at(row, "name"), text_at(row, "value")) for row in rows_at(node, "env")]
    return UserExec(
        apiVersion=LIGHTKUBES_EXEC_VERSION if version == EXEC_VERSIONS + "v1" else version,
        command=str(folder / command) if os.sep in command else command,  # a bare name is looked up on the PATH
        env=[*env, NameValue("KUBERNETES_EXEC_INFO", json.dumps(wanted))],
        args=[text_at(row) for row in rows_at(node, "args")],
    )
