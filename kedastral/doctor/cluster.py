# SPDX-License-Identifier: Apache-2.0
"""Reads objects from a cluster with the user's kubeconfig and lightkube (extra ``kubernetes``); writes nothing."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus

import attrs
import httpx
import httpx2
import msgspec
from lightkube import ApiError, Client
from lightkube.core.exceptions import ConfigError as LoginError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.resources.core_v1 import Namespace

from kedastral.adapters.http import shown_url, words_of
from kedastral.doctor.evidence import Place, Unread
from kedastral.doctor.kubeconfig import KubeconfigError, read_login
from kedastral.doctor.manifests import Manifests
from kedastral.doctor.nodes import tree_of
from kedastral.errors import KedastralError
from kedastral.text import one_line, printable

READ = (
    ("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("", "v1", "Pod", "pods"),
)
"""Group, version, kind and plural of what is listed. Neither Secrets nor ConfigMaps, which may hold secrets, are."""
READ_IF_ALLOWED = (
    ("argoproj.io", "v1alpha1", "Rollout", "rollouts"),
    ("keda.sh", "v1alpha1", "TriggerAuthentication", "triggerauthentications"),
    ("keda.sh", "v1alpha1", "ClusterTriggerAuthentication", "clustertriggerauthentications"),
    ("", "v1", "LimitRange", "limitranges"),
    ("", "v1", "Service", "services"),
)
"""The same for what only makes some rules more exact: nothing is said if it cannot be listed."""
# lightkube has typed classes of the standard kinds under their own names; here all objects stay untyped
RESOURCES = {
    kind[2]: create_namespaced_resource(*kind[:2], f"Listed{kind[2]}", kind[3]) for kind in (*READ, *READ_IF_ALLOWED)
}
CHUNK = 500
"""The most objects of one response."""
EVERYWHERE = "*"
THE_CLUSTER = "the cluster"
PIPED = "or pipe kubectl get scaledobject,hpa,deployment,statefulset,pod -A -o yaml into kedastral doctor -"
CORRECT = f"correct the kubeconfig (KUBECONFIG, or ~/.kube/config) or --context, {PIPED}"
REACH = (
    "check server, certificate-authority and proxy-url in the kubeconfig, --context, and whether kubectl reaches it "
    "from here"
)
LOG_IN = f"log in again with your provider's command: a token or a certificate may have expired; {PIPED}"
LET_LIST = "let this user list them, or name a namespace in which it may with --namespace"
NAME_ANOTHER = "correct --namespace, or choose another cluster with --context"
INSTALL = "choose the cluster with --context, or install KEDA there"
MAX_WORDS = 1000
LOOK = "try again; if it keeps failing, see whether kubectl get lists them"


class ClusterError(KedastralError):
    """The cluster cannot be read at all; ``remedy`` says what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


def read_cluster(manifests: Manifests, namespace: str, context: str | None) -> bool:
    """Add the objects of a cluster, from all namespaces if ``namespace`` is empty. Returns whether all were listed.

    Kinds that may not be listed are noted as unread, as is a cluster that cannot be read. Blocks: call it in a thread.
    """
    try:
        with _open_client(context) as client:
            return _ClusterReader(client, manifests, namespace).read()
    except ClusterError as error:
        manifests.unread.append(Unread(Place(THE_CLUSTER), one_line(str(error), MAX_WORDS), error.remedy))
        return False


def _open_client(context: str | None) -> Client:
    try:
        login = read_login(context)
        return Client(login.config, proxy=login.proxy)
    except KubeconfigError as error:
        raise ClusterError(f"the kubeconfig cannot be used: {error}", CORRECT) from error
    except LoginError as error:
        raise ClusterError(f"cannot log in with the kubeconfig: {error}", CORRECT) from error
    except OSError as error:  # ssl.SSLError is one
        raise ClusterError(f"a certificate in the kubeconfig cannot be used: {words_of(error)}", CORRECT) from error
    except (httpx2.InvalidURL, ImportError, ValueError) as error:  # their messages may quote a password
        raise ClusterError("server or proxy-url in the kubeconfig cannot be used", CORRECT) from error


@attrs.frozen
class _ClusterReader:
    client: Client
    manifests: Manifests
    namespace: str

    def read(self) -> bool:
        before = self.manifests.count
        complete = [self._list(*kind) for kind in READ]
        if all(complete) and self.namespace and self.manifests.count == before:
            self._require_namespace()
        for kind in READ_IF_ALLOWED if all(complete) else ():
            with suppress(httpx2.HTTPStatusError):
                self._add(*kind)
        return all(complete)

    def _add(self, group: str, version: str, kind: str, _: str) -> None:
        """Add all objects of a kind. Raises httpx2.HTTPStatusError."""
        api_version = f"{group}/{version}" if group else version
        with self._in_our_words():
            for item in self.client.list(RESOURCES[kind], namespace=self.namespace or EVERYWHERE, chunk_size=CHUNK):
                self.manifests.add(THE_CLUSTER, tree_of({**item, "kind": kind, "apiVersion": api_version}))

    def _list(self, group: str, version: str, kind: str, plural: str) -> bool:
        """Add all objects of a kind, or note that they cannot be listed. Returns whether they were."""
        try:
            self._add(group, version, kind, plural)
        except httpx2.HTTPStatusError as error:
            reason, remedy = _words_of_refusal(error, kind)
            place = Place(f"{plural} of {THE_CLUSTER}")
            self.manifests.unread.append(Unread(place, one_line(reason, MAX_WORDS), remedy))
            return False
        return True

    def _require_namespace(self) -> None:
        """Raise ClusterError if the namespace is known to be missing: the API would list it as empty."""
        try:
            with self._in_our_words():
                self.client.get(Namespace, self.namespace)
        except httpx2.HTTPStatusError as error:
            if error.response.status_code == HTTPStatus.NOT_FOUND:
                raise ClusterError(f"it has no namespace {self.namespace}", NAME_ANOTHER) from error

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        """Raise ClusterError if other requests would fail as well; its message never quotes what was sent."""
        where = f"the cluster at {_address(self.client)}"
        try:
            yield
        except httpx2.HTTPStatusError as error:
            if error.response.status_code == HTTPStatus.UNAUTHORIZED:
                raise ClusterError(f"{where} does not accept the login of the kubeconfig (401)", LOG_IN) from error
            raise
        except LoginError as error:
            raise ClusterError(f"cannot log in with the kubeconfig: {error}", LOG_IN) from error
        except httpx2.LocalProtocolError as error:
            raise ClusterError("the login of the kubeconfig cannot be sent", CORRECT) from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ClusterError(f"{where} cannot be reached: {words_of(error)}", REACH) from error
        except (OSError, LookupError, TypeError, ValueError) as error:
            user = self.client.config.user
            if isinstance(error, msgspec.MsgspecError) or user is None or user.exec is None:
                raise ClusterError(f"{where} does not answer like Kubernetes", REACH) from error
            words = f"the login command of the kubeconfig gives no token: {_fault_of(error)}"
            raise ClusterError(words, LOG_IN) from error


def _address(client: Client) -> str:
    return shown_url(httpx.URL(client.config.cluster.server))


def _fault_of(error: Exception) -> str:
    """What went wrong with a command, without its output, which may be a secret."""
    if isinstance(error, OSError):
        return f"{printable(str(error.filename))}: {words_of(error)}"
    return "it printed no ExecCredential with one"


def _words_of_refusal(error: httpx2.HTTPStatusError, kind: str) -> tuple[str, str]:
    """Why a kind cannot be listed, and what to do."""
    status = error.response.status_code
    said = error.status.message if isinstance(error, ApiError) else ""
    if status == HTTPStatus.FORBIDDEN:
        return f"cannot be listed: {said or 'forbidden'}", LET_LIST
    if status == HTTPStatus.NOT_FOUND:
        remedy = INSTALL if kind == "ScaledObject" else LOOK
        return f"cannot be listed: the cluster does not know the kind {kind}", remedy
    return f"cannot be listed: {said or f'status {status}'}", LOOK
