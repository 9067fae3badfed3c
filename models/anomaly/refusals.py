"""What detectors refuse, each with a stable code and a remedy."""

from __future__ import annotations

from cluster.errors import RequestInvalid


class SeriesInvalid(RequestInvalid):
    """Values, features, step or start of a series do not fit each other, a limit, or the detector."""

    code = "series_invalid"


class NotEnoughData(RequestInvalid):
    """Too few complete rows to fit or calibrate; the message says how many there are and how many it takes."""

    code = "not_enough_data"


class NotTrained(RequestInvalid):
    """No model of that kind was promoted for the tenant."""

    code = "not_trained"


class DetectorUnknown(RequestInvalid):
    """No detector of that kind."""

    code = "detector_unknown"


class ModelUnreadable(RequestInvalid):
    """Arrays and configuration of a stored detector do not fit each other."""

    code = "model_unreadable"


class SpansInvalid(RequestInvalid):
    """Columns of spans are absent, of another type, or beyond a limit."""

    code = "spans_invalid"
