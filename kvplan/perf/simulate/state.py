"""What a simulation holds: lists in plain Python, arrays under numba, grown as requests pile up.

Lanes are what runs steps of its own: a replica, or each of its data-parallel ranks and pipeline stages.
"""

from typing import Any, NamedTuple

Array = Any

#: an end that never comes [s]
NEVER = 1e300
#: no request, no item
NONE = -1
#: more admissions than there can be between those of two requests that run
TURNS = 1 << 24
#: more requests than are ever routed
SPAN = 1 << 40
#: states of a request
FREE, WAITING, READING, WRITING = 0, 1, 2, 3
#: routers
ROUND_ROBIN, LEAST_LOADED, PREFIX_AWARE, RANDOM = 0, 1, 2, 3
#: places in `count`: next arrival, free slots, requests routed, records, requests a closed loop may send, admissions,
#: preemptions, steps, leaps, requests inside, active lanes of either kind, prefix tokens found and asked, free items,
#: requests sent away, turns of the round robin, prefix tokens that came from a tier
NEXT, SLOTS, TURN, RECORDS, TICKETS, ADMITTED, PREEMPTED, STEPS, LEAPS, INSIDE = range(10)
ACTIVE, FOUND, ASKED, ITEMS, REFUSED, ROUND, FETCHED, COUNTS = 10, 12, 13, 14, 15, 16, 17, 18


class Ruleset(NamedTuple):
    """What does not change during a simulation."""

    lanes: int  #: lanes of all replicas
    readers: int  #: the first of them only prefill; 0: every lane does both
    chunk: int  #: tokens that one step takes [token]
    most: int  #: sequences that a lane runs at once
    mixed: int  #: 1: prompts share steps with decoding; 0: decoding pauses for them
    leaping: int  #: 1: equal steps are taken together
    closed: int  #: 1: a request comes when another has left
    router: int  #: ROUND_ROBIN, LEAST_LOADED, PREFIX_AWARE or RANDOM
    room: int  #: blocks of a lane [block]
    unit: int  #: tokens after which a sequence takes more blocks [token]
    weight: int  #: blocks that it then takes [block]
    fixed: int  #: blocks of a sequence whatever its length [block]
    share: float  #: of a prompt's tokens that are kept once it is read
    cap: int  #: the most of a prompt's tokens that are kept [token]
    hold_unit: int  #: tokens of a block while a prompt is read [token]
    hold_weight: int  #: blocks that they take [block]
    reserving: int  #: 1: a request is admitted when the blocks of its last token are free, and holds them all along
    sharing: int  #: 1: a prefix cache keeps blocks of prompts
    width: int  #: items of the longest chain of prefix blocks
    priorities: int  #: 1: requests have priorities
    overhead: float  #: of a request before its first step [s]
    occupied: float  #: of a request in its first step, in which nothing else happens [s]
    poll: float  #: steps of its lane that a request among others waits for the scheduler
    interval: int  #: steps from one look for new requests to the next
    looks: int  #: ends of steps that are remembered for that
    transfer: float  #: time that a token of a prompt's cache takes from prefill to decode [s/token]
    tiers: int  #: tiers beside the memory that keep prefixes
    reload: float  #: a preempted token's way back to a lane that only decodes; 0: it is computed again [s/token]
    cell: int  #: tokens between two entries of `attention` [token]
    sizes: int  #: entries of `grid`
    bin: float  #: length of a bin of the time series [s]
    bins: int  #: bins of the time series


class Tables(NamedTuple):
    """Times of steps: by the number that decode, tokens of prompts in the step, and length of a prompt."""

    base: Array  #: [sequences] a decode step's time less what its contexts take [s]
    slope: Array  #: [sequences] time that a cached token of any sequence takes [s/token]
    more: Array  #: [sequences * sizes + j] what `grid[j]` tokens of prompts add to a step [s]
    grid: Array  #: [j] tokens of prompts [token]
    cells: Array  #: [tokens] j of the last entry of the grid below
    attention: Array  #: [length / cell] time of the attention of a whole prompt [s]
    fetch: Array  #: [tier] time in which a token of a prefix comes from it [s/token]
    own: Array  #: [tier] 1: every lane has its own, 0: all lanes share one


class Lanes(NamedTuple):
    """Lanes, one entry each; lists of several a lane lie one after the other.

    `free`, `idle`, `cold` and `warm` have entries for the tiers' shelves besides (`tiers.shelf`).
    """

    now: Array  #: time up to which its steps are done [s]
    end: Array  #: end of the step or leap it is in, NEVER when idle [s]
    steps: Array  #: decode steps it has done
    planned: Array  #: decode steps of its leap
    each: Array  #: first step's time of the leap [s]
    cut: Array  #: 1: an arrival may end the leap early
    paused: Array  #: 1: the step is of prompts alone, decoding waits
    stalled: Array  #: time for which decoding has waited [s]
    writing: Array  #: sequences that decode
    context: Array  #: tokens of their contexts [token]
    running: Array  #: sequences that hold memory
    reading: Array  #: prompts being read
    free: Array  #: blocks free [block]
    idle: Array  #: blocks of cached prefixes nobody uses [block]
    load: Array  #: requests of the lane
    order: Array  #: the same x SPAN, and when it last got one: of lanes alike the one that waited longest is next
    active: Array  #: 1: the router sends requests to it
    head: Array  #: first of the queue
    tail: Array  #: last of the queue
    last: Array  #: last admitted of those running
    ticks: Array  #: steps it has done, those of prompts alone included
    past: Array  #: [lane * looks + i] when its step of number i modulo `looks` ended [s]
    link: Array  #: when the link to its tiers is free [s]
    cold: Array  #: least recently used item of its prefix cache
    warm: Array  #: most recently used
    residues: Array  #: [lane * unit + x] decoding sequences whose length less `steps` is x modulo `unit`
    prompts: Array  #: [lane * (most + 1) + j] prompts being read
    ends: Array  #: [lane * (most + 1) + j] heap of decoding sequences by their last step
    busy: Array  #: time in steps [s]
    peak: Array  #: most blocks in use [block]


class Requests(NamedTuple):
    """Requests inside, one slot each; slots are used again."""

    name: Array  #: number in the stream
    came: Array  #: arrival [s]
    ready: Array  #: when the lane may start it [s]
    admitted: Array  #: first admission [s]
    first: Array  #: first token, negative before [s]
    state: Array  #: FREE, WAITING, READING or WRITING
    asked: Array  #: prompt as it came [token]
    prompt: Array  #: tokens to read: after a preemption also those generated [token]
    done: Array  #: of these read [token]
    part: Array  #: of these in the step planned [token]
    wanted: Array  #: tokens to generate in all [token]
    left: Array  #: tokens still to generate [token]
    context: Array  #: context less the lane's steps [token]
    grown: Array  #: kept tokens less the lane's steps [token]
    turn: Array  #: its admission among others
    last: Array  #: lane's step of the last token x TURNS, and its turn: of those that end together the first leaves
    place: Array  #: place in the lane's heap of ends
    lane: Array  #: the lane it is in
    following: Array  #: next in the queue, or in the running list
    previous: Array  #: one before in the running list
    own: Array  #: blocks of its own while it reads [block]
    shared: Array  #: blocks it shares through the prefix cache [block]
    held: Array  #: items of its chain that it uses
    chain: Array  #: items of its chain
    near: Array  #: of these in memory or in a tier when it came
    hits: Array  #: prompt tokens found in the cache at its first admission [token]
    again: Array  #: preemptions
    rank: Array  #: priority, the lowest first
    moved: Array  #: 1: read elsewhere, to be decoded here
    keys: Array  #: [slot * width + i] hash of the i-th item of its chain
    tokens: Array  #: [slot * width + i] tokens up to its end [token]
    items: Array  #: [slot * width + i] the item in the cache, where it uses it


class Cache(NamedTuple):
    """Prefix caches of all lanes: a hash table of items, each lane's least recently used first."""

    table: Array  #: [hash] item or NONE
    key: Array  #: [item] hash of its content
    lane: Array  #: [item] the lane it is in
    blocks: Array  #: [item] blocks it takes [block]
    users: Array  #: [item] requests that use it
    colder: Array  #: [item] neighbour in the lane's list of those nobody uses
    warmer: Array  #: [item] neighbour
    spare: Array  #: items that are free
    seen_key: Array  #: [hash] a content that the router sent somewhere
    seen_lane: Array  #: [hash] and where


class Shared(NamedTuple):
    """What is of all lanes together."""

    count: Array  #: counters, see NEXT ...
    clock: Array  #: [0] time of the last event [s]
    lanes: Array  #: heap of lanes by their end
    place: Array  #: place in it
    loads: Array  #: heaps of active lanes by load: readers, then the others
    stand: Array  #: place in them
    slots: Array  #: slots of requests that are free
    gaps: Array  #: histogram of times between tokens
    used: Array  #: [bin] blocks in use x time [block s]
    worked: Array  #: [bin] time in steps [s]


class Stream(NamedTuple):
    """Requests that come, in the order of their arrival; of a chain of prefix blocks, items `start[i]` to the next."""

    at: Array  #: arrival [s]
    prompt: Array  #: tokens to read [token]
    output: Array  #: tokens to generate, from 1 [token]
    rank: Array  #: priority, the lowest first
    start: Array  #: [i] first item of its chain; one entry more than requests
    keys: Array  #: hash of an item's content and all before it
    tokens: Array  #: tokens of the prompt up to the item's end [token]


class Records(NamedTuple):
    """Requests that have left."""

    name: Array  #: number in the stream
    came: Array  #: arrival [s]
    admitted: Array  #: first admission [s]
    first: Array  #: first token [s]
    end: Array  #: last token [s]
    prompt: Array  #: tokens read [token]
    output: Array  #: tokens generated [token]
    hits: Array  #: of the prompt found in a prefix cache [token]
    whole: Array  #: of the prompt that it may share with others [token]
    lane: Array  #: the lane that finished it
    again: Array  #: preemptions
    rank: Array  #: priority, the lowest first
    refused: Array  #: 1: it fits no lane's memory and was sent away
