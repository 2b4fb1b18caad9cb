"""The calls of KEDA's external scaler, answered from memory.

Owns the one translation from what can't be answered to a gRPC status, and the
bounds of a stream. A call does no I/O and waits for nothing, so that it ends
long before any deadline; a stream looks once a second, says what changed, and
ends after a while, when the adapter drains, or when its answer stays unknown.
Never a number for what is not known: KEDA acts on numbers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

import grpc
import grpc.aio

from eventengine_adapter.apis.metric_values import MetricView
from eventengine_adapter.apis.statuses import ApiError
from eventengine_adapter.monitoring import Monitoring

from . import answers
from . import externalscaler_pb2 as messages
from .triggers import Trigger, TriggerError, read_trigger

_log = logging.getLogger(__name__)

SERVICE: Final = "externalscaler.ExternalScaler"
STREAMS_MAX: Final = 256
STREAM_PERIOD_SECONDS: Final = 1.0
STREAM_LIFE_SECONDS_MAX: Final = 600.0
"""KEDA opens the next one at once, perhaps at another replica."""

STREAM_UNKNOWN_SECONDS_MAX: Final = 30.0
"""A stream that ends in an error comes back after up to a minute. A short gap is waited out instead."""

_MESSAGE_LENGTH_MAX: Final = 1024
_GROUP: Final = "externalscaler"
_CODES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    503: grpc.StatusCode.UNAVAILABLE,
}

Found = TypeVar("Found")
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no answer."""

    code: grpc.StatusCode
    message: str


class ExternalScaler:
    """Answers KEDA. `view` gives what answers are made from, `draining` whether the adapter was told to stop."""

    def __init__(
        self,
        view: Callable[[], MetricView],
        monitoring: Monitoring,
        draining: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        stream_period_seconds: float = STREAM_PERIOD_SECONDS,
    ) -> None:
        self._view = view
        self._monitoring = monitoring
        self._draining = draining
        self._clock = clock
        self._stream_period_seconds = stream_period_seconds
        self.streams_open = 0
        """Streams at this moment; never more than `STREAMS_MAX`."""

    def handler(self) -> grpc.GenericRpcHandler:
        """The service as gRPC takes it."""
        reference = messages.ScaledObjectRef.FromString
        active = messages.IsActiveResponse.SerializeToString
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "IsActive": grpc.unary_unary_rpc_method_handler(self.is_active, reference, active),
            "StreamIsActive": grpc.unary_stream_rpc_method_handler(self.stream_is_active, reference, active),
            "GetMetricSpec": grpc.unary_unary_rpc_method_handler(
                self.get_metric_spec, reference, messages.GetMetricSpecResponse.SerializeToString
            ),
            "GetMetrics": grpc.unary_unary_rpc_method_handler(
                self.get_metrics,
                messages.GetMetricsRequest.FromString,
                messages.GetMetricsResponse.SerializeToString,
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def is_active(
        self, request: messages.ScaledObjectRef, context: Context
    ) -> messages.IsActiveResponse:
        """Whether there is anything to do."""

        def answer() -> bool:
            return self._activity(request)

        return messages.IsActiveResponse(result=await self._answer("is-active", answer, context))

    async def get_metric_spec(
        self, request: messages.ScaledObjectRef, context: Context
    ) -> messages.GetMetricSpecResponse:
        """The name and the target that the autoscaler gets. They are the trigger's; no sample is needed."""

        def answer() -> messages.MetricSpec:
            trigger = read_trigger(request.scalerMetadata)
            return messages.MetricSpec(
                metricName=trigger.metric.name,
                targetSize=_whole(trigger.target_millis),
                targetSizeFloat=trigger.target_millis / 1000,
            )

        return messages.GetMetricSpecResponse(
            metricSpecs=[await self._answer("get-metric-spec", answer, context)]
        )

    async def get_metrics(
        self, request: messages.GetMetricsRequest, context: Context
    ) -> messages.GetMetricsResponse:
        """The value of the trigger's metric."""

        def answer() -> messages.MetricValue:
            reference = request.scaledObjectRef
            trigger = read_trigger(reference.scalerMetadata)
            if request.metricName != trigger.metric.name:
                raise TriggerError(f"the trigger is about metric {trigger.metric.name} and no other")
            millis = self._served(
                trigger, lambda view: answers.value_millis(view, trigger, reference.namespace)
            )
            return messages.MetricValue(
                metricName=trigger.metric.name,
                metricValue=_whole(millis),
                metricValueFloat=millis / 1000,
            )

        return messages.GetMetricsResponse(metricValues=[await self._answer("get-metrics", answer, context)])

    async def stream_is_active(
        self, request: messages.ScaledObjectRef, context: Context
    ) -> AsyncIterator[messages.IsActiveResponse]:
        """Whether there is anything to do: now, and whenever that changes."""
        if self.streams_open >= STREAMS_MAX:
            await self._refuse(
                Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{STREAMS_MAX} streams are open"), context
            )
        self.streams_open += 1
        try:
            async for active in self._changes(request, context):
                yield messages.IsActiveResponse(result=active)
        finally:
            self.streams_open -= 1

    async def _changes(self, request: messages.ScaledObjectRef, context: Context) -> AsyncIterator[bool]:
        opened_at = known_at = self._clock()
        said: bool | None = None
        while not self._draining() and self._clock() - opened_at < STREAM_LIFE_SECONDS_MAX:
            active = self._attempt("stream-is-active", lambda: self._activity(request))
            now = self._clock()
            if not isinstance(active, Refusal):
                known_at = now
                if active != said:
                    said = active
                    yield active
            elif (
                active.code is not grpc.StatusCode.UNAVAILABLE or now - known_at > STREAM_UNKNOWN_SECONDS_MAX
            ):
                await self._refuse(active, context)
            await asyncio.sleep(self._stream_period_seconds)

    def _activity(self, request: messages.ScaledObjectRef) -> bool:
        trigger = read_trigger(request.scalerMetadata)
        return self._served(trigger, lambda view: answers.is_active(view, trigger, request.namespace))

    def _served(self, trigger: Trigger, answer: Callable[[MetricView], Found]) -> Found:
        view = self._view()
        found = answer(view)
        self._monitoring.note_served(
            _GROUP, trigger.metric.name, view.served_ages_seconds(), view.served_last_known_good
        )
        return found

    async def _answer(self, kind: str, answer: Callable[[], Found], context: Context) -> Found:
        found = self._attempt(kind, answer)
        if isinstance(found, Refusal):
            await self._refuse(found, context)
        return found

    async def _refuse(self, refusal: Refusal, context: Context) -> NoReturn:
        await context.abort(refusal.code, refusal.message[:_MESSAGE_LENGTH_MAX])
        raise AssertionError("a call goes on after its end")

    def _attempt(self, kind: str, answer: Callable[[], Found]) -> Found | Refusal:
        """What `answer` gives, or why it gives nothing; measured either way."""
        started = time.perf_counter()
        code = grpc.StatusCode.OK
        try:
            return answer()
        except TriggerError as error:
            code = grpc.StatusCode.INVALID_ARGUMENT
            return Refusal(code, str(error))
        except ApiError as error:
            code = _CODES.get(error.code, grpc.StatusCode.INTERNAL)
            return Refusal(code, error.message)
        except Exception:  # noqa: BLE001 - a fault of ours must reach KEDA as an error, not as silence
            code = grpc.StatusCode.INTERNAL
            _log.exception("a call of KEDA (%s) failed", kind)
            return Refusal(code, "the adapter failed to answer; its log says why")
        finally:
            self._monitoring.request_seconds.labels(f"keda-{kind}", code.name).observe(
                time.perf_counter() - started
            )


def _whole(millis: int) -> int:
    """The number for a KEDA that reads whole ones only, rounded up: little is not nothing."""
    return -(-millis // 1000)
