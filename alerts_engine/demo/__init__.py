"""The demo: the engine at work on real history (SPEC F-1, F-2). Sample data, not advice."""
