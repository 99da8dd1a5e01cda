"""What tests share: databases, worlds, the oracle, the count at the end of a scenario."""
