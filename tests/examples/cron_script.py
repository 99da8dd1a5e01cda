import asyncio
import signal
import sys

from alerts_engine import AlertsEngine, AlertsEngineError, RunStatus


async def tick() -> RunStatus:
    """One run; ``kill`` lets the sends in flight finish, and the next tick goes on from there."""
    async with AlertsEngine() as engine:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, engine.request_stop)
        report = await engine.run()
    for line in (*report.warnings, report.error):
        print(line or "", end="\n" if line else "", file=sys.stderr)
    return report.status


if __name__ == "__main__":
    try:
        sys.exit(1 if asyncio.run(tick()) is RunStatus.FAILED else 0)
    except AlertsEngineError as error:
        sys.exit(str(error))
