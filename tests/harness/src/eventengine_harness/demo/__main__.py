"""`python -m eventengine_harness.demo [--cluster local|current]`: tell the story, print the summary.

Exit status 0: everything was shown. 1: something was not, and it is named. 2: the stage can't be used.
"""

from __future__ import annotations

import argparse
import sys
import time

from eventengine_harness.exceptions import DeadlineError, HarnessError
from eventengine_harness.interrupts import end_in_order

from .installing import check_is_free, remove
from .runs import Run, remove_from_kafka
from .stages import Stage, StageError, current_stage, local_stage
from .story import Story


def say(line: str) -> None:
    """Print at once, also into a pipe."""
    print(line, flush=True)


def clear(stage: Stage, run: Run) -> None:
    """Remove from a cluster and a Kafka of the user's what the demo made there."""
    say("\nRemoving what the demo made: namespaces, release, topics, consumer groups")
    remove(stage.access, say)
    if stage.kafka_address_outside is not None:
        remove_from_kafka(stage.kafka_address_outside, run, say)


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(
        prog="make demo",
        description="The main job on a real Kubernetes and a real Kafka: install, pin, scale on lag, prove it.",
        epilog="CLUSTER=current: KAFKA_BOOTSTRAP, IMAGE_REGISTRY and IMAGE_TAG say where Kafka and the images are, "
        "KAFKA_BOOTSTRAP_OUTSIDE how this machine reaches Kafka where it does so by another address than pods.",
    )
    parser.add_argument(
        "--cluster",
        choices=("local", "current"),
        default="local",
        help="make a cluster on this machine, or use that of the kubeconfig (default local)",
    )
    options = parser.parse_args()
    end_in_order()
    started = time.monotonic()
    try:
        with local_stage(say) if options.cluster == "local" else current_stage() as stage:
            if options.cluster == "current":
                check_is_free(stage.access)
            say(f"The stage is set after {time.monotonic() - started:.0f} s\n")
            run = Run()
            try:
                summary = Story(stage, say, run).tell()
            finally:
                # A cluster of the demo's own goes as a whole.
                if options.cluster == "current":
                    clear(stage, run)
    except (DeadlineError, TimeoutError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except (StageError, HarnessError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("demo: interrupted; everything it started has been ended", file=sys.stderr)
        return 130
    say("")
    for line in summary.lines():
        say(line)
    for fault in summary.faults():
        say(f"  NOT SHOWN: {fault}")
    return 1 if summary.faults() else 0


if __name__ == "__main__":
    sys.exit(main())
