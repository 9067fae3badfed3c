"""What may be asked, for people and programs that build questions."""

from __future__ import annotations

from typing import Any

from cluster.contract.event import KINDS, MODULES, SEVERITIES
from models.measures import MEASURES
from models.query.fields import DIMENSIONS, FIELDS
from models.query.filters import OPERATORS
from models.query.kinds import KIND_NAMES
from models.query.times import GRANULARITIES


def catalog() -> dict[str, Any]:
    """Measures with unit and meaning, dimensions, filter fields and operators, modules, kinds, granularities."""
    return {
        "measures": [{"name": one.name, "unit": one.unit, "meaning": one.meaning} for one in MEASURES.values()],
        "dimensions": [
            {"name": name, "tier": "rollup_1m" if FIELDS[name].in_rollups else "events"} for name in DIMENSIONS
        ]
        + [{"name": "attributes.NAME", "tier": "events"}],
        "fields": [{"name": one.name, "type": one.type} for one in FIELDS.values()],
        "operators": list(OPERATORS),
        "modules": list(MODULES),
        "kinds": {module: list(kinds) for module, kinds in KINDS.items()},
        "severities": list(SEVERITIES),
        "granularities": ["auto", *GRANULARITIES],
        "queries": list(KIND_NAMES),
    }
