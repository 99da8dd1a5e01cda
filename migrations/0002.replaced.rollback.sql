DROP TABLE IF EXISTS alerts_engine_replaced;
