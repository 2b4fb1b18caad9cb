"""What is left out of KEDA's sources, and that a KEDA which looks otherwise is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest
from eventengine_harness.exceptions import HarnessError
from eventengine_harness.keda_sources import TRIGGERS, copy_trimmed, without_other_triggers

BEFORE = "func buildScaler() {\n\tswitch triggerType {\n"
AFTER = '\tdefault:\n\t\treturn nil, fmt.Errorf("no scaler found for type: %s", triggerType)\n\t}\n}\n'


def cases(*triggers: str) -> str:
    return "".join(f'\tcase "{name}":\n\t\treturn scalers.New(config)\n' for name in sorted(triggers))


def test_cases_of_other_triggers_are_left_out_and_nothing_else() -> None:
    source = BEFORE + cases(*TRIGGERS, "aws-sqs-queue", "external-mock", "kafka") + AFTER

    assert without_other_triggers(source) == BEFORE + cases(*TRIGGERS) + AFTER


def test_a_kept_trigger_that_is_not_where_it_was_is_an_error() -> None:
    with pytest.raises(HarnessError, match="external-push"):
        without_other_triggers(BEFORE + cases(*(TRIGGERS - {"external-push"})) + AFTER)


def test_stand_ins_take_the_place_of_files_that_are_left_out(tmp_path: Path) -> None:
    module, stand_ins, destination = (tmp_path / name for name in ("module", "stand-ins", "copy"))
    files = {
        "go.mod": "module keda",
        "cmd/operator/main.go": "package main",
        "cmd/operator/main_test.go": "package main",
        "tests/e2e.go": "package tests",
        "pkg/scalers/external_scaler.go": "package scalers",
        "pkg/scalers/kafka_scaler.go": "package scalers",
        "pkg/scalers/scaler.go": "package scalers",
        "pkg/scalers/azure/storage.go": "package azure",
        "pkg/scaling/scalers_builder.go": BEFORE + cases(*TRIGGERS, "kafka") + AFTER,
        "pkg/scaling/resolver/hashicorpvault_handler.go": "package resolver",
        "pkg/scaling/resolver/scale_resolvers.go": "package resolver",
    }
    for name, text in files.items():
        (module / name).parent.mkdir(parents=True, exist_ok=True)
        (module / name).write_text(text)
        (module / name).chmod(0o444)
    (stand_ins / "pkg/scalers/azure").mkdir(parents=True)
    (stand_ins / "pkg/scalers/azure/left_out.go").write_text("package azure // left out")

    copy_trimmed(module, stand_ins, destination)

    left = {str(path.relative_to(destination)) for path in destination.rglob("*") if path.is_file()}
    assert left == {
        "go.mod",
        "cmd/operator/main.go",
        "pkg/scalers/azure/left_out.go",
        "pkg/scalers/external_scaler.go",
        "pkg/scalers/scaler.go",
        "pkg/scaling/scalers_builder.go",
        "pkg/scaling/resolver/scale_resolvers.go",
    }
    assert '"kafka"' not in (destination / "pkg/scaling/scalers_builder.go").read_text()
