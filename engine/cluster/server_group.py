"""The shard servers of one index: starting them, asking them, missing them and having them back.

    ready ──no answer──▶ gone ──answers again──▶ ready
              its replicas answer meanwhile; without any, its shards are missing

Ray starts an actor that died again, on another machine if need be, where it opens its shards anew.
Until then asking it fails at once, so a search loses the time of one failed question and no more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hficma.artifacts.closing import Closing
from hficma.errors import ArtifactError, HficmaError, InputError

from ..engine import ClusterState
from ..index.index import IndexRecords
from ..runtimes.options import ExecutionKeywords
from .options import ClusterOptions
from .placement import Route, choose_servers, place_on_gpus, place_shards
from .shard_server import ServerState, ServerTask, ShardServer, listed_files

START_SECONDS = 300.0
"""Seconds that all servers may take to open their shards."""
WATCH_SECONDS = 0.5
"""Seconds between two questions to a server that is gone."""
THREADS = 4
"""Questions that a server answers at once: an exact search does not hold up the others."""

_log = logging.getLogger("hficma")


class ServersGone(Exception):
    """Some servers did not answer: what was asked must be asked of others."""


class Question(NamedTuple):
    """What to ask a server."""

    method: str
    """Of `ShardServer`."""
    arguments: tuple[Any, ...]
    """For the method; references into Ray's store stand for what they refer to."""


class ServerGroup(Closing):
    """The actors that hold an index's shards.

    Args:
        ray: the module, connected.
        index: open here, for its facts, and the sizes and checksums of its shards.
        bundle: folder of the bundle.
        options: of the cluster.
        gpu_memory: GiB of a GPU for a server's shards.
        execution: how the head runs the branches; servers do so on their own device.

    Raises:
        InputError: the cluster has not what the servers need.
        ArtifactError: a server cannot open its shards or the bundle.
    """

    def __init__(
        self,
        ray: Any,
        index: IndexRecords,
        bundle: Path,
        options: ClusterOptions,
        *,
        gpu_memory: float | None,
        execution: ExecutionKeywords,
    ) -> None:
        self._ray = ray
        self._name = str(index.path)
        self._answer_seconds = options.answer_seconds
        self._sizes = [shard.bytes for shard in index.shards]
        self._counts = [shard.count for shard in index.shards]
        machines = actor_machines(ray, options)
        count = actor_count(len(machines), options)
        self.held = place_shards(self._sizes, count, min(options.replicas, count))
        # Without a shard there is nothing to ask a server.
        self.held = [shards for shards in self.held if shards]
        on_servers = actor_execution(ray, options, count, execution)
        self._gone: set[int] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._actors: list[Any] = []
        try:
            for number, shards in enumerate(self.held):
                task = ServerTask(
                    index=index.path.resolve(),
                    facts=index.facts,
                    files=listed_files(index, shards),
                    shards=tuple(shards),
                    offsets=index.shard_offsets,
                    bundle=bundle.resolve(),
                    gpu_memory=gpu_memory,
                    execution=on_servers,
                )
                machine = machines[number % len(machines)]
                self._actors.append(_start(ray, task, options, machine))
            self._await_start()
        except BaseException:
            self._kill()
            raise
        self._route = choose_servers(self.held, self._sizes)
        self._watch = threading.Thread(target=self._watch_gone, name="shard-servers", daemon=True)
        self._watch.start()

    def close(self) -> None:
        """End the actors; no question may be under way."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._watch.join()
        self._kill()

    @property
    def route(self) -> Route:
        """Return which servers answer for which shards now."""
        return self._route

    @property
    def state(self) -> ClusterState:
        """Return how much of the index answers now."""
        total = sum(self._counts)
        missing = sum(self._counts[shard] for shard in self._route.missing)
        share = 1.0 - missing / total if total else 1.0
        return ClusterState(len(self._actors), len(self._actors) - len(self._gone), share)

    def states(self) -> list[ServerState | None]:
        """Ask every server for its state; None for those that do not answer."""
        states: list[ServerState | None] = []
        for number in range(len(self._actors)):
            try:
                states.append(self.ask({number: Question("state", ())})[number])
            except ServersGone:
                states.append(None)
        return states

    def put(self, value: Any) -> Any:
        """Put a value into Ray's store, once for all servers, and return its reference."""
        return self._ray.put(value)

    def ask(self, questions: Mapping[int, Question]) -> dict[int, Any]:
        """Ask servers at once, and wait for all of their answers.

        Args:
            questions: by server.

        Raises:
            ServersGone: some did not answer; they are not in the route any more.
            HficmaError: what a server says of an index or a bundle that it cannot read.
        """
        pending = {
            number: getattr(self._actors[number], question.method).remote(*question.arguments)
            for number, question in questions.items()
        }
        answers, gone = {}, []
        for number, reference in pending.items():
            try:
                answers[number] = self._get(reference, self._answer_seconds)
            except ServersGone as error:
                _log.warning("%s: shard server %d does not answer (%s)", self._name, number, error)
                gone.append(number)
        if gone:
            self._miss(gone)
            raise ServersGone(f"{len(gone)} servers")
        return answers

    def _get(self, reference: Any, seconds: float) -> Any:
        """Return an answer.

        Raises:
            ServersGone: the server died, or does not answer in time.
        """
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference, timeout=seconds)
        except errors.GetTimeoutError as error:
            raise ServersGone(f"nothing for {seconds:g} seconds") from error
        except errors.RayTaskError as error:
            # What the method raised, in a process that is well.
            if isinstance(error.cause, HficmaError):
                raise error.cause from None
            if _is_shortage(error.cause):
                raise ServersGone(f"{type(error.cause).__name__}: {error.cause}") from error
            raise
        # The actor's death, or its machine's, or what it would have read from the store is lost.
        except errors.RayError as error:
            raise ServersGone(type(error).__name__) from error

    def _miss(self, servers: list[int]) -> None:
        """Ask others until these answer again."""
        with self._changed:
            self._gone.update(servers)
            self._route = choose_servers(self.held, self._sizes, self._gone)
            self._changed.notify_all()

    def _watch_gone(self) -> None:
        """Ask those that are gone whether they are back, until the group is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._gone or self._closed)
                self._changed.wait_for(lambda: self._closed, timeout=WATCH_SECONDS)
                if self._closed:
                    return
                gone = sorted(self._gone)
            for number in gone:
                try:
                    self._get(self._actors[number].state.remote(), self._answer_seconds)
                except (ServersGone, HficmaError):
                    continue
                _log.info("%s: shard server %d is back", self._name, number)
                with self._changed:
                    self._gone.discard(number)
                    self._route = choose_servers(self.held, self._sizes, self._gone)

    def _await_start(self) -> None:
        """Wait until every server has opened its shards."""
        errors = self._ray.exceptions
        pending = [actor.state.remote() for actor in self._actors]
        try:
            self._ray.get(pending, timeout=START_SECONDS)
        except errors.GetTimeoutError as error:
            raise InputError(
                f"{self._name}: its {len(self._actors)} actors did not start within "
                f"{START_SECONDS:g} seconds; see what the cluster has left of processors and GPUs"
            ) from error
        except errors.ActorDiedError as error:
            raise _start_error(self._name, error) from error
        except errors.RayTaskError as error:
            if isinstance(error.cause, HficmaError):
                raise error.cause from None
            raise

    def _kill(self) -> None:
        """End the actors' processes."""
        for actor in self._actors:
            self._ray.kill(actor, no_restart=True)


def actor_machines(ray: Any, options: ClusterOptions) -> list[str]:
    """Return the ids of the machines on which to start actors, in turn.

    Where actors own GPUs, there are as many as actors that these have room for, one machine several
    times; else each machine is there once.

    Args:
        ray: connected.
        options: of the cluster.
    """
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    machines: list[str] = [node["NodeID"] for node in nodes]
    if options.gpus:
        gpus = [int(node["Resources"].get("GPU", 0)) for node in nodes]
        return [machines[place] for place in place_on_gpus(gpus, options.gpus)]
    return machines


def actor_count(machines: int, options: ClusterOptions) -> int:
    """Return how many actors to start.

    Args:
        machines: how many `actor_machines` names.
        options: of the cluster; where they name no number, there is one actor for each share of
            the GPUs, or for each machine.

    Raises:
        InputError: the cluster has too few GPUs.
    """
    if options.gpus and machines < (options.actors or options.replicas):
        raise InputError(
            f"{options.address}: has GPUs for {machines} actors of {options.gpus:g} each, not for "
            f"{options.actors or options.replicas}"
        )
    return options.actors or max(machines, options.replicas)


def actor_execution(
    ray: Any, options: ClusterOptions, actors: int, execution: ExecutionKeywords
) -> ExecutionKeywords:
    """Return how each actor runs the branches: as the head does, but on its own device.

    Args:
        ray: connected.
        options: of the cluster.
        actors: how many share its processors where no number of threads is named.
        execution: of the head.
    """
    share = max(1, int(ray.cluster_resources().get("CPU", 1)) // actors)
    return {
        **execution,
        "device": "cuda" if options.gpus else "cpu",
        "threads": execution.get("threads") or share,
    }


def _start(ray: Any, task: ServerTask, options: ClusterOptions, machine: str) -> Any:
    """Start a server, on a machine of its own while that lives."""
    affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    actor = ray.remote(ShardServer).options(
        # Processors are shared: else nothing could take over the shards of a machine that died.
        num_cpus=0,
        num_gpus=options.gpus,
        max_restarts=-1,
        # Not tried again by Ray, but asked of a replica at once.
        max_task_retries=0,
        max_concurrency=THREADS,
        scheduling_strategy=affinity(machine, soft=True),
    )
    return actor.remote(task)


def _is_shortage(error: object) -> bool:
    """Return whether a machine lacks memory, or its disk or network failed: another may answer."""
    if isinstance(error, (MemoryError, OSError)):
        return True
    # ONNX Runtime and torch raise RuntimeErrors of their own.
    words = ("alloc", "out of memory", "can't start new thread")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def _start_error(name: str, error: Exception) -> HficmaError:
    """Return why a server could not open its shards, as it would have been raised here."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, HficmaError):
        return cause
    lines = [line for line in str(error).splitlines() if "Error: " in line]
    reason = lines[-1].partition("Error: ")[2] if lines else type(error).__name__
    return ArtifactError(f"{name}: a shard server cannot start ({reason[:300]})")
