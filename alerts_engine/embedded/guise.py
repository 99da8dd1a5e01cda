"""Under whose name the server's programs run: PostgreSQL refuses root.

Both ways leave every folder closed: the programs may read and write what root may, under another name. No account is
added, and no folder on the way is opened for others.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alerts_engine.errors import EmbeddedServerError

if TYPE_CHECKING:
    from pathlib import Path

_NOBODY = 65534
_IN_A_NAMESPACE = ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--")
_AS_NOBODY = (
    "setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--no-new-privs",
    "--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override", "--",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Guise:
    """How a program is called, and whose files the kernel takes it to make."""

    prefix: tuple[str, ...]
    owner: int

    def own(self, data: Path) -> None:
        """Hand over what was made under another guise: PostgreSQL wants its data to be its own."""
        if data.stat().st_uid == self.owner:
            return
        for where, folders, files in os.walk(data):
            for name in (".", *folders, *files):
                os.chown(os.path.join(where, name), self.owner, -1, follow_symlinks=False)  # noqa: PTH118


def find_guise() -> Guise:
    """The way that works here. An ordinary user needs none. Raises :class:`EmbeddedServerError`."""
    if os.geteuid() != 0:
        return Guise((), os.geteuid())
    for guise in (Guise(_IN_A_NAMESPACE, 0), Guise(_AS_NOBODY, _NOBODY)):
        if _works(guise):
            return guise
    raise EmbeddedServerError(
        "PostgreSQL refuses to run as root, and neither a user namespace (unshare) nor setpriv gives it another name "
        "here: run as an ordinary user, or set DATABASE_URL"
    )


def _works(guise: Guise) -> bool:
    try:
        trial = subprocess.run([*guise.prefix, "true"], check=False, capture_output=True)  # noqa: S603 - constants
    except OSError:
        return False
    return trial.returncode == 0
