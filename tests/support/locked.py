"""An environment with exactly what requirements.txt locks: what the workflow's install step leaves behind."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
REQUIREMENTS = REPOSITORY / "requirements.txt"
UV = str(Path(sys.executable).with_name("uv"))
_ENVIRONMENTS = REPOSITORY / ".alerts-engine" / "locked"
_CACHE = REPOSITORY / ".alerts-engine" / "uv"


def uv(*arguments: str, code: int = 0) -> str:
    """Run uv, which must end with ``code``; what it says."""
    done = subprocess.run(
        [UV, *arguments],
        env={**os.environ, "UV_CACHE_DIR": str(_CACHE), "UV_NO_CONFIG": "1"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def locked_environment() -> Path:
    """Its folder; made once for each content of requirements.txt, without what the file does not name."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = _ENVIRONMENTS / digest
    if not folder.exists():
        made = _ENVIRONMENTS / f"{digest}.{os.getpid()}"
        _ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
        uv("venv", "--quiet", "--seed", "--relocatable", "--python", sys.executable, str(made))
        uv(
            "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", str(made / "bin" / "python"),
            "-r", str(REQUIREMENTS),
        )  # fmt: skip
        try:
            made.rename(folder)
        except OSError:  # another worker was faster
            shutil.rmtree(made)
    return folder
