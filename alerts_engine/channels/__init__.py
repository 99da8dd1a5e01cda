"""What a channel is, and who carries it: adapters over one shared aiohttp session, behind the protocol in ``base``."""

from alerts_engine.channels.base import ChannelAdapter
from alerts_engine.channels.http import create_session
from alerts_engine.channels.registry import ChannelSpec, build_adapters, build_askers, channels, digest_channels

__all__ = [
    "ChannelAdapter",
    "ChannelSpec",
    "build_adapters",
    "build_askers",
    "channels",
    "create_session",
    "digest_channels",
]
