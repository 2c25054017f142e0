"""A plan as commands and manifests: what starts its servers, and what measures the load it promises."""

from dataclasses import replace
from typing import TYPE_CHECKING

from kvplan import catalog
from kvplan.api import values
from kvplan.catalog.checkpoints.models import BASE
from kvplan.catalog.plans.handed import LONGEST
from kvplan.errors import Incompatible, SpecError, UnknownName, WrongUse, shown
from kvplan.planning.exporting import COMMAND, Exported, LoadPlan, ServerPlan, client, forms, server, tools
from kvplan.planning.launch import Needs, adapted, usable
from kvplan.planning.promise import Promise
from kvplan.specs.hardware import Engine

if TYPE_CHECKING:
    from kvplan.planning.recommend import Recommendation

#: stands for the plan's own engine in a form of Kubernetes, whichever its replicas need
K8S, SPELLED_OUT = "k8s", "kubernetes"
#: requests that are sent where nobody says: twenty of them are above P95
REQUESTS, MOST_REQUESTS, MOST_LOADS = 400, 1_000_000, 20
PORT, URL = 8000, "http://localhost:8000"


def export(
    target: str,
    plan: "str | Recommendation",
    *,
    as_form: str | None = None,
    port: int | None = None,
    image: str | None = None,
    gpus_per_node: int | None = None,
    url: str | None = None,
    requests: int | None = None,
    loads: int | None = None,
    checkpoint: str | None = None,
) -> Exported:
    """Return a plan as a target has it: an engine's command or manifests, or the command of a tool that measures it.

    `target` is an engine (vllm, sglang, trtllm, a release as in vllm@0.21, or k8s for the plan's own, kubernetes too),
    or a tool (guidellm, aiperf). `plan` is a file that `kvplan recommend` saved, or what `recommend` returned.
    `as_form` is of engines: command, compose, kubernetes, leaderworkerset or kserve; `gpus_per_node` counts the GPUs of
    your servers where they have fewer than the usual ones, `port` is where it listens (8000), and `image` the
    container's, which a command has none of. `url` is where the replica answers that a tool measures with so many
    `requests`, at so many `loads` up to the promised one, in equal steps. `checkpoint` is served in place of the one
    whose config the plan was made with: the name or path of another of the same shape. Raises KvplanError for what is
    not known, and for a form that cannot hold a replica.
    """
    values.given(known_form, as_form)
    target = K8S if target == SPELLED_OUT else target
    needs, promise, edited = needs_and_promise(plan)
    own = values.given(checkpoint_name, checkpoint, "checkpoint")
    if own:
        needs, promise = replace(needs, model=own), replace(promise, model=own)
    if target in tools():
        refuse(target, as_form=as_form, port=port, image=image, gpus_per_node=gpus_per_node)
        return with_notes(client(target, load_plan(promise, url, requests, loads)), *missing_notes(own), edited)
    if target != K8S and target.partition("@")[0] not in catalog.names("engines"):
        raise UnknownName("target", target, targets(), location="target")
    refuse(target, url=url, requests=requests, loads=loads)
    nodes = values.given(values.count, gpus_per_node, "gpus_per_node", 1, values.MOST_GPUS) or needs.gpus_per_node
    needs = replace(needs, gpus_per_node=nodes)
    form = form_of(target, as_form, needs)
    if image is not None and form == COMMAND:
        raise WrongUse("image: is of a container, and a plain command has none; add as_form=compose, or leave it out")
    plan_of = server_plan(needs.engine if target == K8S else target, needs, PORT if port is None else port, image)
    about = missing_notes(own) if own else base_model_notes(needs.model)
    exported = replace(with_own_weights(plan_of) if own else plan_of, notes=(*plan_of.notes, *about))
    return with_notes(server(form, exported), edited)


def load_plan(promise: Promise, url: str | None, requests: int | None, loads: int | None) -> LoadPlan:
    """Return the load that a tool is to send, in steps up to the promised one."""
    return LoadPlan(
        promise=promise,
        url=values.given(server_address, url) or URL,
        requests=values.given(values.count, requests, "requests", 1, MOST_REQUESTS) or REQUESTS,
        loads=values.given(values.count, loads, "loads", 1, MOST_LOADS) or 1,
    )


def targets() -> list[str]:
    """Return what a plan can be exported for: engines, k8s for the plan's own, and tools that measure."""
    return [*startable_engines(), K8S, *tools()]


def startable_engines() -> list[str]:
    """Return the engines whose options are known."""
    return [name for name in catalog.names("engines") if catalog.engine(name).launch is not None]


def with_notes(exported: Exported, *notes: str) -> Exported:
    """Return what was exported with more notes, those that say something."""
    return replace(exported, notes=(*exported.notes, *filter(None, notes)))


def needs_and_promise(plan: "str | Recommendation") -> tuple[Needs, Promise, str]:
    """Return what a plan asks of a server, the load it promises, and what was edited in it.

    Raises SpecError for an answer without a plan.
    """
    if isinstance(plan, str):
        return catalog.handed_over(plan)
    if plan.needs is None or plan.promise is None:
        raise SpecError(f"plan: {plan.lacking}")
    return plan.needs, plan.promise, ""


def checkpoint_name(value: object, name: str) -> str:
    """Return a name that can stand in a command: no option, nothing unprintable."""
    word = values.word(value, name).strip()
    if not word or word.startswith("-") or not word.isprintable() or len(word) > LONGEST:
        raise SpecError(f"{name}: write the name or path of a checkpoint, as in meta-llama/Llama-3.1-8B-Instruct")
    return word


def server_address(url: str) -> str:
    """Return the address of a server; raise SpecError for what is none."""
    word = values.word(url, "url").strip()
    if catalog.located(word) is None:
        raise SpecError(f"url: {shown(url)} is no address; write one like {URL}")
    return word


def missing_notes(checkpoint: str | None) -> tuple[str, ...]:
    """Return what to know where the checkpoint is a path at which this machine has nothing."""
    if checkpoint is None or not catalog.lost(checkpoint):
        return ()
    return (f"checkpoint: there is no {checkpoint} on this machine; the server must find it where it runs",)


def with_own_weights(plan: ServerPlan) -> ServerPlan:
    """Return a server of the caller's own checkpoint, whose weights are as they are where no option makes them so."""
    form = plan.needs.weights
    return plan if form in plan.known.weights else replace(plan, needs=replace(plan.needs, weights=None))


def base_model_notes(checkpoint: str) -> tuple[str, ...]:
    """Return what to know where the checkpoint is a base model, nothing for any other."""
    other = catalog.tuned(checkpoint)
    if not other and not checkpoint.lower().endswith(BASE):
        return ()
    way = (
        f"checkpoint={other} serves the tuned one of this shape" if other else "checkpoint= serves another of its shape"
    )
    return (f"the checkpoint {checkpoint} is a base model, not tuned to follow instructions; {way}",)


def refuse(target: str, **given: object) -> None:
    """Raise WrongUse for a value that says nothing to this target."""
    if odd := next((name for name, value in given.items() if value is not None), None):
        other = "an engine's server" if target in tools() else "a tool that measures"
        raise WrongUse(f"{odd}: is for {other}, not for {target}; leave it out")


def form_of(target: str, form: str | None, needs: Needs) -> str:
    """Return the form that was asked for, else the usual one of a target; raise UnknownName."""
    if target == K8S and form is None:
        return "leaderworkerset" if needs.nodes > 1 else "kubernetes"
    return known_form(form) if form else COMMAND


def known_form(form: str) -> str:
    """Return a form in which servers are exported; raise UnknownName for another word."""
    if values.word(form, "as_form") not in forms():
        raise UnknownName("form", form, forms(), location="as_form")
    return form


def server_plan(word: str, needs: Needs, port: int, image: str | None) -> ServerPlan:
    """Return what a server of an engine is exported from; raise SpecError for one whose options are not known.

    The plan's own engine is of the release that it was made for, where its options are known.
    """
    planned = f"{needs.engine}@{needs.release}"
    engine = catalog.described(planned if planned in catalog.described_releases(word) else word)
    if engine.launch is None:
        raise SpecError(
            f"target: kvplan knows no options of {engine.title}; write one of {', '.join(startable_engines())}"
        )
    if why := engine.bars(catalog.gpu(needs.gpu)):
        raise Incompatible(f"target: {why}, and the plan is on {needs.gpu}; export it for {needs.engine}")
    own = engine.name == needs.engine and engine.release == needs.release
    told = needs if own else adapted(needs, engine, engine.limits(catalog.gpu(needs.gpu)))
    return ServerPlan(
        engine=engine.name, title=engine.title, release=engine.release, known=usable(engine.launch, engine, told),
        needs=told,
        port=values.count(port, "port", 1, 65535), image=image or engine.launch.images.get(needs.vendor, ""),
        notes=() if own else (other_engine_note(engine, needs),),
    )  # fmt: skip


def other_engine_note(engine: Engine, needs: Needs) -> str:
    """Return what is not known of a plan on another engine or release."""
    return (
        f"the plan was made for {needs.engine}@{needs.release}: whether it fits under {engine.title} {engine.release}, "
        f"and how fast that is, was not asked; recommend plans for it with engine={engine.spelled}"
    )
