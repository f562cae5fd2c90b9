"""Which classes are defects, by their names."""

from __future__ import annotations

from lrp_edge.errors import LrpEdgeError

OK_NAMES = frozenset({"ok", "good", "free", "normal", "no_defect", "mt_free"})


def defect_names(classes: tuple[str, ...], ok_class: str | None = None) -> tuple[str, ...]:
    """Say which classes are defects: all but the OK class, which is given or known by its name.

    Parameters
    ----------
    classes : tuple of str
        Class names.
    ok_class : str, optional
        The OK class; by default any of ``ok, good, free, normal, no_defect, MT_Free``, case ignored.

    Raises
    ------
    LrpEdgeError
        If the OK class is not among the names, or none of them is known to mean OK.
    """
    if ok_class is not None and ok_class not in classes:
        raise LrpEdgeError(f"OK class {ok_class!r} is not among the classes {', '.join(classes)}")
    ok = {ok_class} if ok_class else {name for name in classes if name.lower() in OK_NAMES}
    if not ok:
        raise LrpEdgeError(f"none of the classes {', '.join(classes)} is known to mean OK: name it with --ok-class")
    return tuple(name for name in classes if name not in ok)
