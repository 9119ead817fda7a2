"""The level "restricted" of the Pod Security Standards, as a namespace that enforces it would judge a pod.

It stands here, and not in a scanner's hands, because each field must be seen to fail when it is taken away.
https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from collections.abc import Iterator, Mapping
from typing import Any

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def pod_security_violations(pod: Mapping[str, Any]) -> Iterator[str]:
    """Name what is forbidden in a pod's specification."""
    yield from (name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name))
    outer = pod.get("securityContext", {})
    if outer.get("sysctls"):
        yield "sysctls"
    for volume in pod.get("volumes", []):
        if set(volume) - {"name"} - _VOLUMES:
            yield f"volume {volume['name']}"
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        # What a container says goes before what the pod says.
        yield from _container_violations(container, {**outer, **container.get("securityContext", {})})


def _container_violations(container: Mapping[str, Any], context: Mapping[str, Any]) -> Iterator[str]:
    capabilities = context.get("capabilities", {})
    allowed = {
        "privileged": not context.get("privileged"),
        "procMount": context.get("procMount", "Default") == "Default",
        "hostPort": not any(port.get("hostPort") for port in container.get("ports", [])),
        "runAsNonRoot": context.get("runAsNonRoot") is True,
        "runAsUser": context.get("runAsUser") != 0,
        "allowPrivilegeEscalation": context.get("allowPrivilegeEscalation") is False,
        "seccompProfile": context.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
        "capabilities": "ALL" in capabilities.get("drop", [])
        and set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"},
    }
    yield from (name for name, fine in allowed.items() if not fine)
