"""Results of samples as HTTP sees them: where they are kept, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from api.instants import format_instant
from devices.quantity import QUANTITIES
from devices.registry import Registry
from devices.sample_result import SampleResult
from storage.instant import microseconds
from storage.laboratory import Added, KeptResult


class ResultShelf(Protocol):
    """What `storage.laboratory.LaboratoryStore` answers; may raise `DatabaseUnavailable`."""

    async def add(
        self,
        results: Sequence[SampleResult],
        series_ids: Mapping[str, int],
        by: str,
        now: datetime,
        *,
        dry_run: bool = False,
    ) -> Added:
        """Keep *results*, all or none, and return what that did."""
        ...

    async def list(
        self,
        since_us: int,
        until_us: int,
        limit: int,
        series_ids: Sequence[int] | None = None,
        before: int | None = None,
        *,
        versions: bool = False,
    ) -> list[KeptResult]:
        """Return up to *limit* results sampled in [since, until), the newest sample first."""
        ...


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ResultsAddedShape(_Shape):
    """What a post of results did, or would do where it was a dry run."""

    new: int
    corrected: int = Field(description="new versions of results that were known")
    unchanged: int = Field(description="known already, in this or an earlier version")
    reviewed: int = Field(description="of the new and corrected: readings now")
    dry_run: bool


class ResultShape(_Shape):
    """A version of a result; *value* is null where it is below *detection_limit*."""

    id: int
    series: str
    quantity: str
    site: str
    sampled_at: str
    value: float | None
    detection_limit: float | None
    unit: str
    given: str = Field(description="the value as it was written, with its unit")
    method: str
    laboratory: str
    sampler: str
    reviewer: str
    report: str
    note: str
    is_evidence: bool = Field(description="whether somebody reviewed it")
    version: int
    is_newest: bool
    recorded_at: str
    recorded_by: str


def result_shape(kept: KeptResult, registry: Registry) -> ResultShape:
    """Return *kept* as it is shown; its series is one of *registry*, retired ones included."""
    result = kept.result
    series = registry.series[result.series]
    return ResultShape(
        id=kept.id,
        series=series.code,
        quantity=series.quantity,
        site=series.site,
        sampled_at=format_instant(result.sampled_at_us),
        value=result.value,
        detection_limit=result.detection_limit,
        unit=QUANTITIES[series.quantity].unit,
        given=result.given,
        method=result.method,
        laboratory=result.laboratory,
        sampler=result.sampler,
        reviewer=result.reviewer,
        report=result.report,
        note=result.note,
        is_evidence=bool(result.reviewer),
        version=kept.version,
        is_newest=kept.is_newest,
        recorded_at=format_instant(microseconds(kept.recorded_at)),
        recorded_by=kept.recorded_by,
    )
