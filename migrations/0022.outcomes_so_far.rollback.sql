DELETE FROM alerts_engine_outcomes;
