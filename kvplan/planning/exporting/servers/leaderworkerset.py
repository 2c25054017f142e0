"""A LeaderWorkerSet: replicas of which each is a group of pods, one a server, and a Service before their leaders.

Source: https://github.com/kubernetes-sigs/lws@060ab4d docs/examples/vllm/GPU/lws.yaml, docs/examples/sglang/lws.yaml
(2026-08): the group's size, a pod's place in it and its leader are environment variables.
"""

from typing import Any

from kvplan.planning.exporting import pod
from kvplan.planning.exporting.nodes import across
from kvplan.planning.exporting.values import Exported, ServerPlan

#: label of the set's pods, and of leaders
SET, ROLE = "leaderworkerset.sigs.k8s.io/name", {"role": "leader"}
#: what a pod is told of its group
GROUP = {"nodes": "$(LWS_GROUP_SIZE)", "rank": "$(LWS_WORKER_INDEX)", "leader": "$(LWS_LEADER_ADDRESS)"}


def export(s: ServerPlan) -> Exported:
    """Return the manifests; raise Incompatible where the engine has no command for a replica over several servers."""
    nodes = s.needs.nodes
    gpus = across(s) if nodes > 1 else s.needs.gpus
    placed: dict[str, Any] = dict(GROUP) if nodes > 1 else {}
    launch = s.launch(**placed)

    def template(argv: tuple[str, ...], leads: bool) -> pod.Json:
        server = pod.container(s, argv, gpus, launch.file)
        if not leads:  # only the leader answers
            server = {k: v for k, v in server.items() if not k.endswith("Probe") and k != "ports"}
        spec = {"containers": [server], "volumes": pod.volumes(s, launch.file)}
        return {"metadata": {"labels": {**pod.labels(s), **ROLE} if leads else pod.labels(s)}, "spec": spec}

    group: pod.Json = {
        "size": nodes, "restartPolicy": "RecreateGroupOnPodRestart", "leaderTemplate": template(launch.argv, True),
        "workerTemplate": template(s.launch(**placed, follows=True).argv if nodes > 1 else launch.argv, False),
    }  # fmt: skip
    manifest = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "metadata": pod.metadata(s),
        "spec": {"replicas": s.needs.replicas, "leaderWorkerTemplate": group},
    }  # fmt: skip
    return Exported(
        target=s.engine, release=s.release, form="leaderworkerset", commands=(launch.argv,), files={},
        documents=(*pod.config_map(s, launch.file), manifest, pod.service(s, {SET: s.name, **ROLE})),
        missing=launch.missing, notes=(*s.notes, *pod.wanted(s)),
    )  # fmt: skip
