"""The same as `bare.py` in FastAPI, with pydantic models of what the event must have. Run by
uvicorn, in the environment of requirements/bench.txt."""

from fastapi import FastAPI, Response
from pydantic import BaseModel, Field


class Tenant(BaseModel):
    id: str
    name: str
    key: str


class PlanConfig(BaseModel):
    tier: str


class Detail(BaseModel):
    tenant: Tenant
    plan: PlanConfig = Field(alias="planConfig")


class Event(BaseModel):
    id: str
    source: str
    type: str = Field(alias="detail-type")
    detail: Detail


class Success(BaseModel):
    success: bool


app = FastAPI()


@app.post("/events")
async def post_event(event: Event, response: Response) -> Success:
    response.headers["Location"] = f"/runs/{event.id}"
    return Success(success=True)
