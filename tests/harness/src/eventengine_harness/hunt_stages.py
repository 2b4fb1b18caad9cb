"""One treasure hunt on a broker: topics, configuration, load, audit, and the comparison with the model.

Owns the proof that tests share: what engines have committed equals, record by
record, what the sequential model answers to the same input.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventengine_contract.snapshots import Snapshot

from eventengine_harness.brokers import Broker
from eventengine_harness.engines import Command, EngineProcesses, RunningEngine, lag_events
from eventengine_harness.hunts import expected_outputs
from eventengine_harness.records import end_offsets, read_topic

PARTITIONS = 8
LOAD_DEADLINE_SECONDS = 90.0
DRAINED_DEADLINE_SECONDS = 60.0


@dataclass
class HuntStage:
    """The topics of one hunt, named after it, and what runs on them."""

    broker: Broker
    processes: EngineProcesses
    name: str

    @property
    def events_topic(self) -> str:
        """The source."""
        return f"{self.name}-events"

    @property
    def outputs_topic(self) -> str:
        """The sink."""
        return f"{self.name}-standings"

    @property
    def dead_letter_topic(self) -> str:
        """Where refused events go."""
        return f"{self.name}-dead-letter"

    @property
    def result(self) -> Path:
        """The last load's result."""
        return self.processes.folder / f"{self.name}-result.json"

    def create_topics(self) -> None:
        """Create the source; the engine creates the others."""
        self.broker.create_topic(self.events_topic, PARTITIONS)

    def config(self, **sections: Any) -> dict[str, Any]:
        """An engine.yaml with short timeouts, so that a dead engine is soon replaced; sections override."""
        servers = [self.broker.bootstrap_servers]
        group = {"session.timeout.ms": "3000", "heartbeat.interval.ms": "500"}
        return {
            "name": self.name,
            "sources": [
                {
                    "name": "moves",
                    "type": "kafka",
                    "kafka": {"bootstrapServers": servers, "topic": self.events_topic, "properties": group},
                }
            ],
            "sinks": [
                {
                    "name": "standings",
                    "type": "kafka",
                    "kafka": {"bootstrapServers": servers, "topic": self.outputs_topic},
                }
            ],
            "transactions": {"commitInterval": "50ms", "timeout": "3s"},
            **sections,
        }

    def run_engine(self, **sections: Any) -> RunningEngine:
        """Start an engine and wait until it is ready."""
        engine = self.start_engine(**sections)
        engine.wait_until_ready()
        return engine

    def start_engine(self, **sections: Any) -> RunningEngine:
        """Start an engine."""
        return self.processes.run(self.config(**sections))

    def start_load(self, *arguments: str) -> Command:
        """Start a load in the background; its result goes to `result`."""
        target = ("--bootstrap", self.broker.bootstrap_servers, "--topic", self.events_topic)
        return self.processes.start(
            "load", *target, "--key", "district-team", "--result", self.result, *arguments
        )

    def finish_load(self, load: Command) -> dict[str, Any]:
        """Wait for the end of a load, which must have been acknowledged; returns its result."""
        status = load.wait(LOAD_DEADLINE_SECONDS)
        if status != 0:
            raise AssertionError(f"the load ended with {status}: {load.log}")
        result: dict[str, Any] = json.loads(self.result.read_text())
        return result

    def load(self, *arguments: str) -> dict[str, Any]:
        """Run a load to its end; returns its result."""
        return self.finish_load(self.start_load(*arguments))

    def audit(self, *arguments: str, wait: str = "60s") -> dict[str, Any]:
        """Audit the outputs against the last load; returns the report, whatever it says."""
        report = self.processes.folder / f"{self.name}-report.json"
        report.unlink(missing_ok=True)
        status, output = self.processes.call(
            *("audit", "--bootstrap", self.broker.bootstrap_servers, "--topic", self.outputs_topic),
            *("--expect", str(self.result), "--report", str(report), "--wait", wait, *arguments),
            deadline_seconds=LOAD_DEADLINE_SECONDS,
        )
        if not report.exists():
            raise AssertionError(f"the audit gave no verdict (status {status}): {output}")
        verdict: dict[str, Any] = json.loads(report.read_text())
        if verdict["exact"] != (status == 0):
            raise AssertionError(f"status {status} beside the verdict: {output}")
        return verdict

    def outputs(self) -> dict[tuple[int, int], Mapping[str, Any]]:
        """What was committed, by the (partition, offset) of the event that each output answers."""
        found: dict[tuple[int, int], Mapping[str, Any]] = {}
        for record in read_topic(self.broker.bootstrap_servers, self.outputs_topic):
            output = json.loads(record.value)
            version = (output["version"]["partition"], output["version"]["offset"])
            if version in found:
                raise AssertionError(f"two outputs answer the event at {version}")
            found[version] = output
        return found

    def expected_outputs(self) -> dict[tuple[int, int], Mapping[str, Any]]:
        """What the model answers to the committed input, one event after the other."""
        records = read_topic(self.broker.bootstrap_servers, self.events_topic)
        return dict(expected_outputs((record.partition, record.offset, record.value) for record in records))

    def check_outputs(self) -> int:
        """Prove that the outputs are the model's; returns how many there are."""
        outputs, expected = self.outputs(), self.expected_outputs()
        if outputs.keys() != expected.keys():
            missing, extra = expected.keys() - outputs.keys(), outputs.keys() - expected.keys()
            raise AssertionError(
                f"{len(missing)} events unanswered, such as {sorted(missing)[:5]}; "
                f"{len(extra)} outputs without an event, such as {sorted(extra)[:5]}"
            )
        for version in sorted(outputs):
            if outputs[version] != expected[version]:
                raise AssertionError(
                    f"event {version}: the engine said {outputs[version]}, the model {expected[version]}"
                )
        return len(outputs)

    def wait_until_drained(self, engine: RunningEngine) -> Snapshot:
        """Wait until an engine owns every partition, and all of them read lag 0."""
        ends = end_offsets(self.broker.bootstrap_servers, self.events_topic)

        def drained(sample: Snapshot) -> bool:
            positions = {
                partition.partition: partition.position
                for source in sample.sources
                for partition in source.partitions
                if partition.state == "running"
            }
            return positions == ends and lag_events(sample) == 0

        return engine.wait_for_sample(drained, f"positions {ends}, lag 0", DRAINED_DEADLINE_SECONDS)
