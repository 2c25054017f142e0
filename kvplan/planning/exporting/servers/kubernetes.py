"""A Kubernetes Deployment of a plan's replicas, and a Service before them.

Source: Kubernetes API reference v1.34, apps/v1 Deployment, core/v1 Service (2026-11).
"""

from kvplan.planning.exporting import pod
from kvplan.planning.exporting.nodes import within
from kvplan.planning.exporting.values import Exported, ServerPlan


def export(s: ServerPlan) -> Exported:
    """Return the manifests; raise Incompatible for a replica that spans servers."""
    within(s, "a Deployment", "leaderworkerset")
    launch = s.launch()
    template = {
        "metadata": {"labels": pod.labels(s)},
        "spec": {
            "containers": [pod.container(s, launch.argv, s.needs.gpus, launch.file)],
            "volumes": pod.volumes(s, launch.file),
        },
    }
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": pod.metadata(s),
        "spec": {
            "replicas": s.needs.replicas,
            "selector": {"matchLabels": pod.labels(s)},
            # a new pod finds no GPU before an old one has left
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": template,
        },
    }  # fmt: skip
    return Exported(
        target=s.engine, release=s.release, form="kubernetes", commands=(launch.argv,), files={},
        documents=(*pod.config_map(s, launch.file), deployment, pod.service(s, pod.labels(s))),
        missing=launch.missing, notes=(*s.notes, *pod.wanted(s)),
    )  # fmt: skip
