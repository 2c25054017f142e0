"""Docker Compose: the replicas that one server has GPUs for, one service and port each.

Source: Compose Specification, services, configs (inline content from 2.23.1) and deploy.resources.reservations.devices
(2026-11).
"""

from collections.abc import Mapping
from typing import Any

from kvplan.planning.exporting import pod
from kvplan.planning.exporting.nodes import within
from kvplan.planning.exporting.values import Exported, Inline, ServerPlan
from kvplan.planning.launch import FILE
from kvplan.units import show_count

#: what a container needs to reach AMD's GPUs
AMD = {"devices": ["/dev/kfd", "/dev/dri"], "group_add": ["video"], "security_opt": ["seccomp=unconfined"]}


def export(s: ServerPlan) -> Exported:
    """Return compose.yaml for one server; raise Incompatible for a replica that spans servers."""
    within(s, "Docker Compose", "leaderworkerset")
    launch = s.launch()
    here = min(s.needs.replicas, max(s.needs.gpus_per_node // s.needs.gpus, 1))
    services = {f"{s.name}-{n}": service(s, n, launch.argv, launch.file) for n in range(here)}
    document: dict[str, Any] = {"name": s.name, "services": services}
    if launch.file:
        document["configs"] = {"options": {"content": Inline(launch.file)}}
    others = -(-s.needs.replicas // here)
    spread = f": copy it to {show_count(others, 'server')}" if others > 1 else ""
    note = f"the file starts {here} of {show_count(s.needs.replicas, 'replica')}, as many as one server holds"
    return Exported(
        target=s.engine, release=s.release, form="compose", commands=(launch.argv,), documents=(document,), files={},
        missing=launch.missing, notes=(*s.notes, f"{note}{spread}"),
    )  # fmt: skip


def service(s: ServerPlan, n: int, argv: tuple[str, ...], file: Mapping[str, Any]) -> dict[str, Any]:
    """Return the n-th replica of a server: its own GPUs and its own port."""
    ids = [str(n * s.needs.gpus + k) for k in range(s.needs.gpus)]
    asked = f"import urllib.request as r; r.urlopen('http://localhost:{s.port}{s.known.health}', timeout=5)"
    whole: dict[str, Any] = {
        "image": pod.image(s), "entrypoint": [argv[0]], "command": list(argv[1:]),
        "ports": [f"{s.port + n}:{s.port}"], "shm_size": "16gb", "restart": "unless-stopped",
        "environment": {"HF_TOKEN": "${HF_TOKEN:-}"}, "volumes": [f"${{HOME}}/.cache/huggingface:{pod.CACHE}"],
        "healthcheck": {
            "test": ["CMD", "python3", "-c", asked], "interval": f"{pod.PERIOD}s", "retries": 6,
            "start_period": f"{pod.PERIOD * pod.PATIENCE}s",
        },
    }  # fmt: skip
    if s.needs.vendor == "amd":
        whole |= AMD
        whole["environment"]["HIP_VISIBLE_DEVICES"] = ",".join(ids)
    else:
        device = {"driver": s.needs.vendor, "device_ids": ids, "capabilities": ["gpu"]}
        whole["deploy"] = {"resources": {"reservations": {"devices": [device]}}}
    if file:
        whole |= {"working_dir": pod.CONFIG, "configs": [{"source": "options", "target": f"{pod.CONFIG}/{FILE}"}]}
    return whole
