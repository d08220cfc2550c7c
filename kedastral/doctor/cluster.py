# SPDX-License-Identifier: Apache-2.0
"""Reads objects from a cluster by the user's kubeconfig, with lightkube (extra ``kubernetes``); writes nothing."""

import httpx2
from lightkube import ApiError, Client, KubeConfig
from lightkube.core.exceptions import ConfigError as KubeconfigError
from lightkube.generic_resource import create_namespaced_resource

from kedastral.doctor.evidence import Place, Unread
from kedastral.doctor.manifests import Manifests, tree_of
from kedastral.errors import KedastralError

READ = (
    ("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("", "v1", "Pod", "pods"),
)
"""Group, version, kind and plural of what is listed. No Secret, and no ConfigMap, which may hold one, is."""
# lightkube has typed classes of the standard kinds under their own names; here all objects are taken as they come
RESOURCES = {kind[2]: create_namespaced_resource(*kind[:2], f"Listed{kind[2]}", kind[3]) for kind in READ}
CHUNK = 500
"""Objects that one answer holds."""
EVERYWHERE = "*"


class ClusterError(KedastralError):
    """The cluster cannot be asked."""


def read_cluster(manifests: Manifests, namespace: str, context: str | None) -> bool:
    """Add what a cluster has, of all namespaces where ``namespace`` is empty. Returns whether all could be listed.

    What may not be listed is noted as unread. Blocks: to be called in a thread. Raises ClusterError.
    """
    try:
        config = KubeConfig.from_env().get(context)
        if config is None:
            raise ClusterError(f"the kubeconfig has no context {context!r}")
        with Client(config) as client:
            complete = [_list_kind(client, manifests, kind, namespace or EVERYWHERE) for kind in READ]
    except (KubeconfigError, OSError) as error:
        raise ClusterError(f"the kubeconfig cannot be used: {error}") from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ClusterError(f"the cluster cannot be reached: {error}") from error
    return all(complete)


def _list_kind(client: Client, manifests: Manifests, kind: tuple[str, str, str, str], namespace: str) -> bool:
    group, version, name, plural = kind
    place = Place(f"{plural} of the cluster")
    try:
        for item in client.list(RESOURCES[name], namespace=namespace, chunk_size=CHUNK):
            api_version = f"{group}/{version}" if group else version
            manifests.add("the cluster", tree_of({**item, "kind": name, "apiVersion": api_version}))
    except ApiError as error:
        manifests.unread.append(Unread(place, f"cannot be listed: {error.status.message or error.status.code}"))
        return False
    return True
