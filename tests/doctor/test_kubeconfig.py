# SPDX-License-Identifier: Apache-2.0
"""The user's kubeconfig, read as kubectl reads it: what can be used, and clear messages about what cannot."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from kedastral.doctor import kubeconfig
from kedastral.doctor.cluster import read_cluster
from kedastral.doctor.kubeconfig import KubeconfigError, Login, read_login
from kedastral.doctor.manifests import Manifests

SECRET = "hunter2-s3cr3t"
SERVER = "https://127.0.0.1:1"
CONTEXT = {"name": "here", "context": {"cluster": "there", "user": "me", "namespace": "shop"}}
EXEC = "client.authentication.k8s.io/"


def document(user: Any = None, cluster: Any = None, **changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [CONTEXT],
        "clusters": [{"name": "there", "cluster": {"server": SERVER, **(cluster or {})}}],
        "users": [{"name": "me", "user": {"token": SECRET} if user is None else user}],
        **changes,
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the files that KUBECONFIG names, in the order of their names."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return tmp_path


def use(folder: Path, monkeypatch: pytest.MonkeyPatch, *documents: Any) -> None:
    paths = []
    for number, content in enumerate(documents):
        path = folder / f"{number}.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        paths.append(str(path))
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(paths))


def user_of(login: Login) -> Any:
    assert login.config.user is not None
    return login.config.user


def test_of_several_files_the_first_entry_of_a_name_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "token").write_text(SECRET)
    first = document(clusters=[], users=[{"name": "me", "user": {"tokenFile": "token"}}])
    second = document({"token": "another"}, **{"current-context": "elsewhere"})
    use(folder, monkeypatch, first, second)
    monkeypatch.setenv("KUBECONFIG", f"{folder / 'nowhere'}{os.pathsep}{os.environ['KUBECONFIG']}")
    login = read_login(None)
    assert (login.config.context_name, login.config.cluster.server) == ("here", SERVER)
    assert (user_of(login).token_file, user_of(login).token) == (str(folder / "token"), None)
    assert SECRET not in repr(login)


def test_a_context_is_chosen_and_may_have_no_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts = [CONTEXT, {"name": "anonymous", "context": {"cluster": "there"}}]
    use(folder, monkeypatch, document(contexts=contexts, cluster={"proxy-url": "http://proxy:3128"}))
    login = read_login("anonymous")
    assert (user_of(login).token, login.proxy) == (None, "http://proxy:3128")


def test_without_kubeconfig_the_file_of_the_home_folder_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(KubeconfigError, match=r"there is no kubeconfig .*/home/\.kube/config"):
        read_login(None)
    (folder / "home" / ".kube").mkdir(parents=True)
    (folder / "home" / ".kube" / "config").write_text(yaml.safe_dump(document()))
    assert read_login(None).config.cluster.server == SERVER


def test_in_a_pod_the_kubeconfig_goes_before_the_service_account(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", folder)
    monkeypatch.setattr(kubeconfig.KubeConfig.from_service_account.__func__, "__defaults__", (str(folder),))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    (folder / "token").write_text(SECRET)
    (folder / "namespace").write_text("shop")
    use(folder, monkeypatch, document())
    assert read_login(None).config.cluster.server == SERVER
    monkeypatch.delenv("KUBECONFIG")
    assert read_login(None).config.cluster.server == "https://10.96.0.1:443"
    with pytest.raises(KubeconfigError, match="there is no kubeconfig"):
        read_login("here")


def test_a_login_command_is_told_the_version_it_is_wanted_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"apiVersion": EXEC + "v1", "command": "./log-in", "args": ["a", "1"], "env": [{"name": "A", "value": "b"}]}
    use(folder, monkeypatch, document({"exec": given}))
    found = user_of(read_login(None)).exec
    assert (found.apiVersion, found.command, found.args) == (EXEC + "v1beta1", str(folder / "log-in"), ["a", "1"])
    env = {one.name: one.value for one in found.env}
    assert env["A"] == "b"
    assert json.loads(env["KUBERNETES_EXEC_INFO"])["apiVersion"] == EXEC + "v1"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no current-context is set"),
        ("[]", "no current-context is set"),
        ("contexts: null\nusers: null\nclusters: null\ncurrent-context: ''", "no current-context is set"),
        (f"users:\n- token: {SECRET}\n  a: [b: {{{{", "0.yaml is not YAML (line 4"),
        (document(clusters=[]), "it has no cluster 'there'"),
        (document(clusters={"there": {}}), "it has no cluster 'there'"),
        (document(users=[]), "it has no user 'me'"),
        (document(clusters=[{"name": "there", "cluster": {}}]), "server of the cluster must be an address"),
        (document(cluster={"server": "127.0.0.1:6443"}), "server of the cluster must be an address"),
        (document(cluster={"server": f"https://u:{SECRET}@host:port"}), "server or proxy-url in the kubeconfig cannot"),
        (document(cluster={"proxy-url": f"ftp://u:{SECRET}@p"}), "server or proxy-url in the kubeconfig cannot"),
        (document(cluster={"certificate-authority-data": f"{SECRET}!"}), "certificate-authority-data is not base64"),
        (document(cluster={"certificate-authority-data": "aGVsbG8="}), "a certificate in the kubeconfig cannot"),
        (document(cluster={"certificate-authority": "nowhere.crt"}), "nowhere.crt cannot be read"),
        (document(cluster={"certificate-authority": "."}), "a certificate in the kubeconfig cannot be used: "),
        (document(cluster={"tls-server-name": "x"}), "tls-server-name of cluster 'there' is not supported here"),
        (document({"client-certificate-data": "aGVsbG8="}), "the user has only one"),
        (document({"auth-provider": {"name": "gcp"}}), "auth-provider of user 'me' is not supported here"),
        (document({"as": "somebody", "token": SECRET}), "as of user 'me' is not supported here"),
        (document({"token": f"{SECRET}\n"}), "the token of the user has characters that no token may have"),
        (document({"token": f"{SECRET}é"}), "the token of the user has characters that no token may have"),
        (document({"exec": {"apiVersion": EXEC + "v1", "command": "no-such-command"}}), "no-such-command: no such"),
        (document({"exec": {"apiVersion": "v9", "command": "true"}}), "cannot log in with the kubeconfig"),
        (document({"exec": {"apiVersion": EXEC + "v1", "command": "echo", "args": [SECRET]}}), "gives no token"),
        (document({"exec": {"apiVersion": EXEC + "v1", "command": "echo", "args": ["{}"]}}), "gives no token"),
        (document({"exec": {"apiVersion": EXEC + "v1", "command": "echo", "args": ["[]"]}}), "gives no token"),
        (document({"exec": {"apiVersion": EXEC + "v1", "command": "false"}}), "false returned 1"),
        (document(), "the cluster at https://127.0.0.1:1 cannot be reached: connection refused"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_said_without_a_secret(
    content: Any, words: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(folder, monkeypatch, content)
    manifests = Manifests()
    assert not read_cluster(manifests, "", None)
    [unread] = manifests.unread
    assert words in unread.reason
    assert unread.remedy
    assert SECRET not in unread.reason
