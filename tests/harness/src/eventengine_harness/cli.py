"""The command line: `python -m eventengine_harness ...`.

`up` brings a thing up and returns, leaving it in the background; `down` ends it.
A second `up` while it runs is an error that says so. When `up` itself is
interrupted, everything started so far is removed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from eventengine_harness import brokers, builds, clusters, control_planes, images, nodes
from eventengine_harness.brokers import LoopbackKafka
from eventengine_harness.clusters import Cluster
from eventengine_harness.control_planes import LOOPBACK, LoopbackControlPlane
from eventengine_harness.exceptions import HarnessError
from eventengine_harness.interrupts import end_in_order
from eventengine_harness.ledgers import Instance, instances, sweep_abandoned
from eventengine_harness.running import say

BUILDS: dict[str, Callable[[], object]] = {
    "kubernetes": builds.kubernetes,
    "helm": builds.helm,
    "helm3": lambda: builds.helm(3),
    "kwok": builds.kwok,
    "karpenter": builds.karpenter,
    "cert-manager": builds.cert_manager,
    "definitions": builds.definitions,
    "keda": builds.keda,
    "metrics-decoder": builds.metrics_decoder,
    "pause": builds.pause,
    "kafka": builds.kafka,
    "images": lambda: {part: images.image(part) for part in images.PARTS},
    "all": lambda: {
        **builds.everything(),
        **{part: images.image(part) for part in images.PARTS},
    },
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    end_in_order()
    options = _parser().parse_args(arguments)
    try:
        options.act(options)
    except HarnessError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; everything started so far was removed")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m eventengine_harness",
        description="Build and run the real components that tests and demo use.",
    )
    things = parser.add_subparsers(required=True, metavar="THING")

    build = things.add_parser("build", help="build a component into the user's cache")
    build.add_argument("targets", nargs="+", choices=sorted(BUILDS), metavar="TARGET", help=", ".join(BUILDS))
    build.set_defaults(act=_build)

    cluster = things.add_parser("cluster", help="a real one-node cluster; needs root")
    actions = cluster.add_subparsers(required=True, metavar="ACTION")
    up = actions.add_parser("up", help="start it in the background")
    up.add_argument("--kafka", action="store_true", help="with Kafka at 10.99.0.1:9092")
    up.set_defaults(act=_cluster_up)
    _add_down_and_status(actions, clusters.INSTANCE)
    kubectl = actions.add_parser("kubectl", help="run kubectl against the cluster in the background")
    kubectl.add_argument("arguments", nargs=argparse.REMAINDER)
    kubectl.set_defaults(act=_cluster_kubectl)
    load = actions.add_parser("load-image", help="import image archives into the node")
    load.add_argument("archives", nargs="+", type=Path)
    load.set_defaults(act=_cluster_load_image)

    plane = things.add_parser("control-plane", help="a control plane on loopback, without a node")
    actions = plane.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("up", help="start it in the background").set_defaults(act=_control_plane_up)
    _add_down_and_status(actions, control_planes.LOOPBACK_INSTANCE)

    kafka = things.add_parser("kafka", help="an Apache Kafka broker on loopback")
    actions = kafka.add_subparsers(required=True, metavar="ACTION")
    up = actions.add_parser("up", help="start it in the background")
    up.add_argument(
        "--host",
        default=LOOPBACK,
        help="the address of this machine to listen on and advertise, without any protection (default loopback)",
    )
    up.set_defaults(act=_kafka_up)
    _add_down_and_status(actions, brokers.LOOPBACK_INSTANCE)

    status = things.add_parser("status", help="what runs on this machine")
    status.set_defaults(act=_status, instance=None)
    sweep = things.add_parser("sweep", help="remove what killed runs left behind")
    sweep.set_defaults(act=lambda _options: sweep_abandoned())
    return parser


def _add_down_and_status(actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str) -> None:
    down = actions.add_parser("down", help="end it and remove everything it made")
    down.set_defaults(act=_down, instance=name)
    status = actions.add_parser("status", help="whether it is up, and which of its processes live")
    status.set_defaults(act=_status, instance=name)


def _build(options: argparse.Namespace) -> None:
    for target in options.targets:
        built = BUILDS[target]()
        for path in built.values() if isinstance(built, dict) else [built]:
            print(path)


def _cluster_up(options: argparse.Namespace) -> None:
    started = time.monotonic()
    cluster = Cluster(kafka=options.kafka)
    cluster.up()
    kubeconfig, programs = cluster.kubeconfig, cluster.access.kubectl_program.parent
    servers = cluster.broker.bootstrap_servers if options.kafka else None
    cluster.detach()
    say(f"the cluster is up after {time.monotonic() - started:.1f} s")
    if servers:
        say(f"Kafka listens at {servers}")
    print(f"export KUBECONFIG={kubeconfig} PATH={programs}:$PATH")


def _cluster_kubectl(options: argparse.Namespace) -> None:
    access = clusters.background().access
    words = options.arguments[1:] if options.arguments[:1] == ["--"] else options.arguments
    command = [str(access.kubectl_program), *words]
    sys.exit(subprocess.run(command, check=False, env={**os.environ, **access.environment}).returncode)


def _cluster_load_image(options: argparse.Namespace) -> None:
    background = clusters.background()
    for archive in options.archives:
        nodes.import_image(background.sandbox, background.containerd_socket, archive.resolve())


def _control_plane_up(_options: argparse.Namespace) -> None:
    started = time.monotonic()
    plane = LoopbackControlPlane(control_planes.LOOPBACK_INSTANCE)
    plane.up()
    kubeconfig = plane.kubeconfig
    plane.detach()
    say(f"the control plane is up after {time.monotonic() - started:.1f} s")
    print(f"export KUBECONFIG={kubeconfig}")


def _kafka_up(options: argparse.Namespace) -> None:
    started = time.monotonic()
    kafka = LoopbackKafka(brokers.LOOPBACK_INSTANCE, host=options.host)
    kafka.up()
    servers = kafka.broker.bootstrap_servers
    kafka.detach()
    say(f"Kafka is up after {time.monotonic() - started:.1f} s")
    print(servers)


def _down(options: argparse.Namespace) -> None:
    started = time.monotonic()
    instance = Instance.take_over(options.instance)
    if instance is None:
        say(f"{options.instance} is not up")
        return
    instance.end()
    say(f"{options.instance} is down after {time.monotonic() - started:.1f} s")


def _status(options: argparse.Namespace) -> None:
    found = [ledger for ledger in instances() if options.instance in {None, ledger.name}]
    for ledger in found:
        state = "in the background" if ledger.detached else f"owned by process {ledger.owner_pid}"
        print(f"{ledger.name}: {state}, files in {ledger.folder}")
        for entry, process in zip(ledger.processes, ledger.identities(), strict=False):
            print(f"  {entry['name']:<24} pid {process.pid:<8} {'alive' if process.is_alive() else 'ended'}")
    if not found:
        print(f"{options.instance or 'nothing'} is {'not ' if options.instance else ''}up")
