"""What HTTP itself costs: the benchmark's bare inserts behind the smallest FastAPI route. `python -m benchmarks.intake` runs it.

No key is checked, no id validated, no answer modelled; a connection a thread.
"""

import os
import threading
from typing import Any
from uuid import uuid4

import psycopg
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.intake_rows import write

app = FastAPI()
local = threading.local()
DATASET, MODEL = int(os.environ["BARE_DATASET"]), int(os.environ["BARE_MODEL"])


class Asked(BaseModel):
    dataset: str
    sample_ids: list[str]
    reason: str


@app.get("/readyz")
def ready() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/deletions", status_code=202, response_model=None)
def submit(asked: Asked) -> dict[str, Any]:
    if not hasattr(local, "connection"):
        local.connection = psycopg.connect(os.environ["BARE_DATABASE"])
    ticket = uuid4()
    write(local.connection, DATASET, MODEL, ticket, asked.sample_ids)
    return {"id": ticket, "state": "pending", "href": f"/deletions/{ticket}"}
