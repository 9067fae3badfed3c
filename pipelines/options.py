"""What a job is told on its command line: `--set K=V`, each K from a list that the job gives."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cluster.errors import RequestInvalid


def chosen(pairs: Sequence[str], names: Collection[str], *, needed: Collection[str] = ()) -> dict[str, str]:
    """The values by name; of a name given twice, the last.

    Args:
        pairs: texts of the form K=V, V not empty.
        names: what K may be.
        needed: names that must be among them.

    Raises:
        RequestInvalid: a text of another form, an unknown name, or one that is needed and missing.
    """
    options: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in names or not value:
            raise RequestInvalid(f"--set {pair}: not K=V with K one of {', '.join(names)}")
        options[name] = value
    for name in needed:
        if name not in options:
            raise RequestInvalid(f"--set {name}=VALUE is missing")
    return options
