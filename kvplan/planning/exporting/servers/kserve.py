"""A KServe InferenceService whose predictor is the plan's server.

Source: https://github.com/kserve/kserve config/crd/full/serving.kserve.io_inferenceservices.yaml, v1beta1: predictor
with containers; a container called kserve-container is the one that serves (2026-11).
"""

from kvplan.planning.exporting import pod
from kvplan.planning.exporting.nodes import within
from kvplan.planning.exporting.values import Exported, ServerPlan

#: plain Deployments instead of Knative, and no autoscaling: the plan says how many replicas there are
ANNOTATIONS = {"serving.kserve.io/deploymentMode": "RawDeployment", "serving.kserve.io/autoscalerClass": "none"}


def export(s: ServerPlan) -> Exported:
    """Return the manifest; raise Incompatible for a replica that spans servers."""
    within(s, "an InferenceService of one pod", "leaderworkerset")
    launch = s.launch()
    predictor = {
        "minReplicas": s.needs.replicas, "maxReplicas": s.needs.replicas,
        "containers": [pod.container(s, launch.argv, s.needs.gpus, launch.file, name="kserve-container")],
        "volumes": pod.volumes(s, launch.file),
    }  # fmt: skip
    service = {
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
        "metadata": pod.metadata(s, annotations=dict(ANNOTATIONS)), "spec": {"predictor": predictor},
    }  # fmt: skip
    return Exported(
        target=s.engine, release=s.release, form="kserve", commands=(launch.argv,), files={},
        documents=(*pod.config_map(s, launch.file), service), missing=launch.missing, notes=(*s.notes, *pod.wanted(s)),
    )  # fmt: skip
