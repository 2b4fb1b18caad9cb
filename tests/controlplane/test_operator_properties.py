"""What holds for every spec, after Acto: tried with specs by chance on a real API server.

- A right spec is brought about, and then there is nothing left to write.
- From one spec to another and back is as if one had never left.
- A damaged spec is refused or reported, never a fault of the operator's, and the next right one is as if there had
  been no damaged one.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from eventengine_operator.clients.errors import RefusedError
from eventengine_operator.clients.kubernetes_api import ENGINES
from eventengine_operator.resources.objects import condition_of
from hypothesis import given

from .chaos import SECONDS_MAX, tried
from .operators import OperatorPlane
from .specs import damaged_specs, right_specs
from .worlds import World, client_of

pytestmark = pytest.mark.timeout(SECONDS_MAX)
Object = dict[str, Any]
Result = TypeVar("Result")


class Trial:
    """A world for many examples, each with EventEngines of its own names."""

    def __init__(self, plane: OperatorPlane, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._numbers = itertools.count()
        kubeconfig = plane.install_rights("eventengine-properties")
        self.world = World(self.run(client_of(kubeconfig)), self.run(client_of(plane.access.kubeconfig)))
        plane.access.kubectl("create", "namespace", self.world.namespace)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(work)

    def name(self) -> str:
        """One as long as each other, for what is made may be compared by name."""
        return f"engine-{next(self._numbers):05}"

    async def bring_about(self, name: str, spec: Object) -> Object:
        """Declare, operate until nothing is left to write; returns what there is."""
        await self.world.declare(name, spec)
        await self.world.operate(name)
        return await self.world.children(name)

    async def takes(self, name: str, spec: Object) -> bool:
        """Declare; whether the API server let it in."""
        try:
            await self.world.declare(name, spec)
        except RefusedError:
            return False
        return True

    async def remove(self, *names: str) -> None:
        for name in names:
            await self.world.remove(name)


@pytest.fixture(scope="module")
def trial(operator_plane: OperatorPlane) -> Iterator[Trial]:
    with asyncio.Runner() as runner:
        made = Trial(operator_plane, runner)
        yield made
        made.run(made.world.close())
        operator_plane.access.delete("namespace", made.world.namespace, wait=False)


@given(spec=right_specs())
@tried(short=3, long=300)
def test_right_spec_is_brought_about_and_left_alone(trial: Trial, spec: Object) -> None:
    async def example() -> None:
        name = trial.name()
        await trial.bring_about(name, spec)
        engine = await trial.world.user.get(ENGINES, trial.world.namespace, name)
        assert engine is not None
        assert condition_of(engine, "SpecValid").get("status") == "True", engine["status"]
        assert engine["status"]["observedGeneration"] == engine["metadata"]["generation"]
        assert await trial.world.child_writes(name) == 0, "the second time there is nothing to write"
        await trial.remove(name)

    trial.run(example())


@given(here=right_specs(), there=right_specs())
@tried(short=2, long=200)
def test_there_and_back_is_as_if_one_had_never_left(trial: Trial, here: Object, there: Object) -> None:
    async def example() -> None:
        fresh, returned = trial.name(), trial.name()
        expected = await trial.bring_about(fresh, here)
        for spec in (here, there):
            await trial.bring_about(returned, spec)
        found = await trial.bring_about(returned, here)
        assert comparable(found, here) == comparable(expected, here)
        await trial.remove(fresh, returned)

    trial.run(example())


@given(damaged=damaged_specs(), good=right_specs())
@tried(short=3, long=400)
def test_damaged_spec_is_refused_or_reported_and_a_good_one_recovers(
    trial: Trial, damaged: Object, good: Object
) -> None:
    async def example() -> None:
        fresh, hurt = trial.name(), trial.name()
        expected = await trial.bring_about(fresh, good)
        if await trial.takes(hurt, damaged):
            await trial.world.operate(hurt)
            engine = await trial.world.user.get(ENGINES, trial.world.namespace, hurt)
            assert engine is not None
            assert condition_of(engine, "SpecValid").get("status") in ("True", "False"), "it is told"
            assert engine["status"]["observedGeneration"] == engine["metadata"]["generation"]
        recovered = await trial.bring_about(hurt, good)
        assert comparable(recovered, good) == comparable(expected, good)
        await trial.remove(fresh, hurt)

    trial.run(example())


def comparable(children: Object, spec: Object) -> Object:
    """Without the Deployment's replicas where nobody declares them: they stay what they were."""
    if "replicas" in spec:
        return children
    return {
        kind: {**child, "spec": {key: value for key, value in child["spec"].items() if key != "replicas"}}
        if kind.startswith("Deployment")
        else child
        for kind, child in children.items()
    }
