"""How an engine's server is started: which of its options say what a plan has, as data of its release."""

from dataclasses import dataclass, field

from kvplan.specs.source import Source


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """Templates of options, '' where there is none; "; " stands between two.

    One that begins with no dash is a line of the engine's options file. Fields in braces are a plan's: {model},
    {tensor}, {pipeline}, {data}, {ranks} (tensor x data), {expert}, {tokens}, {sequences}, {chunk}, {share}, {draft},
    {drafted}, {verified} (drafted, and the model's own), {host} [GiB], {host_rank} [GB] and {host_bytes} [B] of host
    memory, of a replica and of a rank; {host_name}, {port}; {nodes}, {rank} and {leader} of a replica on several nodes.
    `techniques`, `weights` and `drafts` say how a part of a technique, a weight format, or speculative decoding is
    asked for; one that is missing cannot be.
    """

    command: str  #: starts the server of a model
    tensor: str  #: of one attention rank
    data: str = ""  #: of several attention ranks, in place of `tensor`
    pipeline: str = ""  #: several stages of layers
    expert: str = ""  #: whole experts on several GPUs
    length: str = ""  #: the longest request [token]
    sequences: str = ""  #: the most sequences in a step
    chunk: str = ""  #: the most tokens in a step
    share: str = ""  #: share of the GPU's memory, where the plan counts with one
    prefixes: str = ""  #: prefix caching on
    no_prefixes: str = ""  #: prefix caching off
    always: str = ""  #: what the plan counts with on every server
    file: str = ""  #: names the options file
    address: str = ""  #: where the server listens
    health: str = ""  #: path that answers once the server can
    nodes: str = ""  #: each node of a replica that spans several; '' where kvplan knows no plain command
    follower: str = ""  #: besides, on all nodes but the first
    images: dict[str, str] = field(default_factory=dict)  #: vendor of the GPU -> container image of the release
    techniques: dict[str, str] = field(default_factory=dict)  #: part of a technique -> option
    weights: dict[str, str] = field(default_factory=dict)  #: weight format -> option, from a 16-bit checkpoint
    drafts: dict[str, str] = field(default_factory=dict)  #: mtp, eagle3 or model -> option
    source: Source  #: who says so
