"""The four phases: one coroutine each, which tells the phase's story; its statements are in ``sql/``."""
