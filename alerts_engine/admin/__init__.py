"""HTTP: the admin API, the dashboard, and what binds any list of routes to aiohttp.web and to FastAPI (SPEC P-3)."""
