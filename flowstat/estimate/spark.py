"""Connections to Spark: to a standalone master, or in this process."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl

from flowstat.errors import TraceError
from flowstat.read.words import shown

if TYPE_CHECKING:
    from ibis.backends import BaseBackend
    from pyspark.sql import SparkSession

__all__ = ["SECONDS", "spark_backend"]

SECONDS = 10
"""How long a server that does not answer is waited for."""


def spark_backend(parts: SplitResult, stack: ExitStack) -> BaseBackend:
    """Return a Spark session's backend; a session that was there before is used, and left as it was."""
    import ibis
    from pyspark.sql import SparkSession

    with warnings.catch_warnings():
        # Of pandas' newest versions, which Spark does not support yet: no rows go by pandas here.
        warnings.filterwarnings("ignore", ".*pandas", FutureWarning)
        import ibis.backends.pyspark

    local = re.fullmatch(r"local(\[[\w*,]+\])?", parts.netloc) is not None
    master = parts.netloc if local else f"spark://{parts.netloc}"
    running = SparkSession.getActiveSession()
    if running is not None:
        there = running.sparkContext.master
        if there != master:
            raise TraceError(
                f"this process has a Spark session on {there} already: stop it (spark.stop()) before {master} is used"
            )
        # Ibis sets these.
        for key in ("spark.sql.session.timeZone", "spark.sql.mapKeyDedupPolicy"):
            stack.callback(running.conf.set, key, running.conf.get(key) or "")
        return ibis.pyspark.connect(running)
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        raise TraceError("Spark needs Java, and there is none: install a JRE, or set JAVA_HOME")
    options = dict(parse_qsl(parts.query))
    if not local:
        here = _reach(parts.netloc)
        # The workers call back: by an address that they can reach.
        options.setdefault("spark.driver.host", here)
        if here.startswith("127."):
            options.setdefault("spark.driver.bindAddress", here)
    session = _session(master, options)
    stack.callback(session.stop)
    return ibis.pyspark.connect(session)


def _session(master: str, options: dict[str, str]) -> SparkSession:
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master(master).appName("flowstat")
    # Spark shows how far it is on any standard error, unless told not to.
    progress = str(sys.stderr.isatty()).lower()
    for key, value in {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": progress, **options}.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def _reach(masters: str) -> str:
    """Return the address of this machine as a Spark master sees it; Spark itself would try for a minute."""
    reason: object = "no host and port, such as spark://host:7077"
    for master in masters.split(","):
        host, _, port = master.rpartition(":")
        if not host or not port.isdigit():
            continue
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS) as probe:
                here: str = probe.getsockname()[0]
                return here
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
    raise TraceError(f"no Spark master at {shown(masters, 80)}: {reason}")
