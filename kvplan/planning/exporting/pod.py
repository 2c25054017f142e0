"""The parts of a pod that serves a model: its container, volumes and probes, in Kubernetes' fields.

Source: Kubernetes API reference v1.34, core/v1 Container, Probe, Volume (2026-11).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kvplan.errors import Incompatible
from kvplan.planning.exporting.values import Inline, ServerPlan
from kvplan.planning.launch import FILE
from kvplan.units import GIB, show_count

Json = dict[str, Any]
#: vendor of a GPU -> the resource of its device plugin
RESOURCES = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "intel": "habana.ai/gaudi"}
#: shared memory between the processes of a server
SHARED_MEMORY, SHM = "16Gi", "/dev/shm"  # noqa: S108  a mount inside the container
#: a probe each period; a server may take so many of them to load a model: an hour [s, 1]
PERIOD, PATIENCE = 10, 360
#: where checkpoints and the options file stand in a container
CACHE, CONFIG = "/root/.cache/huggingface", "/config"
#: Secret with the token of the hub, and its key
SECRET, KEY = "hf-token", "token"


def resource(s: ServerPlan) -> str:
    """Return the resource that stands for the plan's GPU; raise Incompatible where none is known."""
    if s.needs.vendor not in RESOURCES:
        vendor = s.needs.vendor or "no known vendor"
        raise Incompatible(f"no device plugin is known for GPUs of {vendor}; use as_form=command")
    return RESOURCES[s.needs.vendor]


def image(s: ServerPlan) -> str:
    """Return the container's image; raise Incompatible where none is known for the GPU's vendor."""
    if not s.image:
        raise Incompatible(
            f"kvplan knows no image of {s.title} {s.release} for GPUs of {s.needs.vendor or 'no known vendor'}; "
            "write image=..."
        )
    return s.image


def container(s: ServerPlan, argv: Sequence[str], gpus: int, file: Mapping[str, Any], name: str = "server") -> Json:
    """Return the container of one server: the plain command, its GPUs, its probes and its volumes."""
    limits: Json = {resource(s): str(gpus)}
    offloads = any(part.startswith("offload:cpu") for part in s.needs.parts)
    held = {"requests": {"memory": f"{int(s.needs.host_room * gpus / GIB)}Gi"}} if offloads else {}
    mounts = [{"name": "shm", "mountPath": SHM}, {"name": "cache", "mountPath": CACHE}]
    whole: Json = {
        "name": name,
        "image": image(s),
        "command": [argv[0]],
        "args": list(argv[1:]),
        "env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": SECRET, "key": KEY, "optional": True}}}],
        "ports": [{"name": "http", "containerPort": s.port}],
        "resources": {"limits": limits, **held},
        **probes(s),
        "volumeMounts": mounts,
    }
    if file:
        whole["workingDir"] = CONFIG
        mounts.append({"name": "config", "mountPath": CONFIG})
    return whole


def probes(s: ServerPlan) -> Json:
    """Return the probes: a server answers once its model is loaded, and is started anew where it no longer does."""
    asked = {"httpGet": {"path": s.known.health, "port": "http"}, "periodSeconds": PERIOD}
    return {
        "startupProbe": {**asked, "failureThreshold": PATIENCE},
        "readinessProbe": {**asked, "failureThreshold": 3},
        "livenessProbe": {**asked, "failureThreshold": 6, "timeoutSeconds": 5},
    }


def volumes(s: ServerPlan, file: Mapping[str, Any]) -> list[Json]:
    """Return the volumes of a pod: shared memory, checkpoints, the options file."""
    mounts: list[Json] = [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": SHARED_MEMORY}},
        {"name": "cache", "emptyDir": {}},
    ]
    return [*mounts, {"name": "config", "configMap": {"name": s.name}}] if file else mounts


def config_map(s: ServerPlan, file: Mapping[str, Any]) -> list[Json]:
    """Return the options file as a ConfigMap, nothing without one."""
    if not file:
        return []
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(s), "data": {FILE: Inline(file)}}]


def labels(s: ServerPlan) -> dict[str, str]:
    """Return the labels that tell a plan's servers from others."""
    return {"app.kubernetes.io/name": s.name}


def metadata(s: ServerPlan, **more: Any) -> Json:
    """Return a manifest's name and labels."""
    return {"name": s.name, "labels": labels(s), **more}


def service(s: ServerPlan, selector: Mapping[str, str]) -> Json:
    """Return the Service before the replicas."""
    ports = [{"name": "http", "port": s.port, "targetPort": "http"}]
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(s),
        "spec": {"selector": dict(selector), "ports": ports},
    }  # fmt: skip


def wanted(s: ServerPlan) -> tuple[str, ...]:
    """Return what the cluster has to have."""
    return (
        f"the pods go to nodes with {s.needs.gpu} GPUs; where a cluster has others, add a nodeSelector",
        f"the Secret {SECRET} (key {KEY}) holds the hub's token, for checkpoints that need one",
        f"{show_count(s.needs.replicas, 'replica')} of {show_count(s.needs.gpus, 'GPU')}, spares included",
    )
