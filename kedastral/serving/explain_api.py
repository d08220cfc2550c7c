# SPDX-License-Identifier: Apache-2.0
"""``GET /explain``: why KEDA is told what it is told, and what it would be told under other settings."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

import attrs
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.datastructures import MultiDict

from kedastral.core.explanation.explain import explain
from kedastral.core.explanation.what_if import OtherSettings, what_if
from kedastral.core.failures import Failure
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.serving.answers import LongAnswers, answer_error, find_unknown, mark_stale
from kedastral.serving.view import SnapshotView
from kedastral.settings.declarations import LeadSettings, PlanSettings, ServiceLevel
from kedastral.settings.schema import Setting, settings_of
from kedastral.wire import JsonValue, write_explanation

_DECLARED = {
    setting.name: setting for kind in (LeadSettings, PlanSettings, ServiceLevel) for setting in settings_of(kind)
}
TRIED: Mapping[str, Setting] = {
    "leadTime": _DECLARED["lead_time"],
    "targetPerPod": _DECLARED["target_per_pod"],
    "serviceLevel": _DECLARED["service_level"],
    "headroom": _DECLARED["headroom"],
    "min": _DECLARED["min_replicas"],
    "max": _DECLARED["max_replicas"],
}
"""The settings that may be tried, by parameter."""


def add_explain(app: QuartTrio, view: SnapshotView, failing: Callable[[], Mapping[str, Failure]] = dict) -> None:
    """Add the route to ``app``; ``failing`` says why the newest attempts to forecast failed, by workload."""
    answers = LongAnswers()

    @app.get("/explain", provide_automatic_options=False)
    async def show_explanation() -> Response:
        workload = request.args.get("workload", "").strip()
        other, problems = read_settings_to_try(request.args)
        snapshot = view.reader.get(workload) if workload else None
        if not workload:
            problems.insert(0, "the query parameter workload is required")
        elif snapshot is not None and not problems and not other.is_empty:
            problems += other.find_problems(snapshot)
        if problems:
            return answer_error(400, "; ".join(problems))
        if snapshot is None:
            return answer_error(404, "snapshot not found")
        now, policy = view.clock.now(), view.policy_of(workload)
        ignored = find_unknown(request.args, ("workload", *TRIED))
        explained = partial(_explain, snapshot, other, now, policy, failing().get(workload))
        response = await answers.answer_json(lambda: explained() | ({"ignored": ignored} if ignored else {}))
        return mark_stale(response, stale=policy.is_stale(snapshot, now))


def _explain(
    snapshot: Snapshot, other: OtherSettings, now: datetime, policy: StalePolicy, failure: Failure | None
) -> dict[str, JsonValue]:
    document: dict[str, JsonValue] = write_explanation(explain(snapshot, now, policy, failure))
    if not other.is_empty:
        document["whatIf"] = write_explanation(explain(what_if(snapshot, other), now, policy, failure))
    return document


@attrs.frozen
class _Reader:
    """Reads query parameters as settings; ``problems`` has a line for each that cannot be read."""

    given: "MultiDict[str, str]"
    problems: list[str] = attrs.field(factory=list)

    def read_number(self, name: str) -> float | None:
        """The number of a parameter, None if it is empty, missing or invalid."""
        text = self.given.get(name, "").strip()
        try:
            return float(TRIED[name].parse(text)) if text else None
        except ValueError as error:
            self.problems.append(f"{name} must be {error}, got {text[:100]!r}")
            return None

    def read_count(self, name: str) -> int | None:
        """Like `read_number`, for a setting that is a whole number."""
        number = self.read_number(name)
        return None if number is None else int(number)


def read_settings_to_try(given: "MultiDict[str, str]") -> tuple[OtherSettings, list[str]]:
    """The settings of a query, and a line for each that cannot be read; an empty one counts as not given."""
    reader = _Reader(given)
    other = OtherSettings(
        lead_time=reader.read_number("leadTime"),
        target_per_pod=reader.read_number("targetPerPod"),
        service_level=reader.read_number("serviceLevel"),
        headroom=reader.read_number("headroom"),
        min=reader.read_count("min"),
        max=reader.read_count("max"),
    )
    return other, reader.problems
