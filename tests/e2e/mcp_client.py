"""Drives a running Chaperone with the official Python MCP client, in every revision both sides know.

Takes everything from the environment, as scripts/e2e-mcp explains, and prints one JSON object. Exits 0
only when every check held. Names no patient: the patient comes from grants, as for any agent.
"""

import asyncio
import json
import os
import sys
import time
import uuid
from contextlib import asynccontextmanager

import httpx2
import jwt
from mcp import Client
from mcp.client.auth.extensions.client_credentials import PrivateKeyJWTOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# "legacy" is the handshake (2025-11-25 with this server), the others need none.
MODES = {"legacy": "2025-11-25", "2026-07-28": "2026-07-28", "auto": "2026-07-28"}
WINDOW = {"from": "2099-03-01T00:00:00Z", "until": "2099-03-08T00:00:00Z"}
INTENT = "schedule-appointment"

# What agents were answered, for a search for traces of patients.
ANSWERS = os.environ.get("CHAPERONE_ANSWERS")

checks = []


def keep(what, answer):
    if ANSWERS:
        with open(ANSWERS, "a", encoding="utf-8") as file:
            file.write(f"{what}: {answer}\n")


async def keep_response(response):
    await response.aread()
    keep(f"{response.request.method} {response.request.url}", f"{response.status_code} {dict(response.headers)} {response.text}")


def check(what, held, seen=None):
    checks.append({"check": what, "held": bool(held)} | ({} if held else {"seen": repr(seen)[:500]}))


class Agent:
    """An agent with its key, in front of one Chaperone."""

    def __init__(self, base, name, key_file, key_id):
        self.base, self.name, self.key_id = base.rstrip("/"), name, key_id
        with open(key_file, encoding="ascii") as file:
            self.key = file.read()

    def assertion(self, audience):
        now = int(time.time())
        claims = {
            "iss": self.name,
            "sub": self.name,
            "aud": audience,
            "iat": now,
            "exp": now + 120,
            "jti": str(uuid.uuid4()),
        }
        algorithm = os.environ.get("CHAPERONE_KEY_ALGORITHM", "EdDSA")
        return jwt.encode(claims, self.key, algorithm=algorithm, headers={"kid": self.key_id})

    async def ask_token(self, http, scope, grant=None):
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self.assertion(f"{self.base}/oauth/token"),
            "scope": scope,
        }
        if grant:
            form["authorization_details"] = json.dumps([{"type": "chaperone_context", "grant": grant}])
        return await http.post(f"{self.base}/oauth/token", data=form)

    async def token(self, http, scope, grant=None):
        answer = await self.ask_token(http, scope, grant)
        if answer.status_code != 200:
            raise SystemExit(f"no token for {scope}: {answer.status_code} {answer.text}")
        return answer.json()["access_token"]


class Grants:
    """Context grants: given in the environment, or made by a dispatcher on the allow-list."""

    def __init__(self, base, agent):
        self.base, self.agent = base, agent
        self.given = [g for g in os.environ.get("CHAPERONE_GRANTS", "").split(",") if g]
        name = os.environ.get("CHAPERONE_DISPATCHER")
        key_id = os.environ.get("CHAPERONE_KEY_ID", "k1")
        self.dispatcher = name and Agent(base, name, os.environ["CHAPERONE_DISPATCHER_KEY"], key_id)

    async def one(self, http):
        if self.given:
            return self.given.pop(0)
        if not self.dispatcher:
            raise SystemExit("no grant is left: set CHAPERONE_GRANTS or CHAPERONE_DISPATCHER")
        system, value = os.environ["CHAPERONE_PATIENT"].split("|", 1)
        token = await self.dispatcher.token(http, "dispatch")
        answer = await http.post(
            f"{self.base}/v1/grants",
            headers={"Authorization": f"Bearer {token}"},
            json={"agent": self.agent, "intent": INTENT, "patient": {"system": system, "value": value}},
        )
        if answer.status_code != 201:
            raise SystemExit(f"no grant: {answer.status_code} {answer.text}")
        return answer.json()["grant"]


@asynccontextmanager
async def connected(base, mode, token=None, auth=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx2.AsyncClient(headers=headers, auth=auth, timeout=30) as http:
        transport = streamable_http_client(f"{base}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield Remembering(client)


class Remembering:
    """The client, with every answer of a tool kept."""

    def __init__(self, client):
        self.client = client

    def __getattr__(self, name):
        return getattr(self.client, name)

    async def call_tool(self, name, arguments):
        result = await self.client.call_tool(name, arguments)
        keep(name, [result.structured_content, *[getattr(part, "text", part) for part in result.content]])
        return result

    async def list_tools(self):
        listed = await self.client.list_tools()
        keep("tools/list", listed)
        return listed


async def names(client):
    return {tool.name for tool in (await client.list_tools()).tools}


def code(result):
    return (result.structured_content or {}).get("code")


async def patient_free(base, mode, agent, http):
    token = await agent.token(http, "intent/find-slots")
    async with connected(base, mode, token) as client:
        expected = MODES[mode]
        check(f"{mode}: revision {expected} is agreed on", client.protocol_version == expected, client.protocol_version)
        check(f"{mode}: only the envelope's tool is listed", await names(client) == {"find_slots"})
        found = await client.call_tool("find_slots", WINDOW)
        check(f"{mode}: a read answers", not found.is_error, found)
        text = json.loads(found.content[0].text)
        check(f"{mode}: the text says what the structure says", text == found.structured_content)
        outside = await client.call_tool("list_problems", {})
        check(f"{mode}: a tool outside the envelope is an error to read", outside.is_error and code(outside) == "unknown-tool", outside)
        extra = await client.call_tool("find_slots", WINDOW | {"patient": "somebody"})
        check(f"{mode}: an undeclared argument is refused", extra.is_error and code(extra) == "undeclared-argument", extra)
        # The protocol's own lists of things that this server does not have.
        try:
            await client.list_resources()
            check(f"{mode}: there are no resources", False)
        except MCPError as refused:
            check(f"{mode}: there are no resources", refused.error.code == -32601, refused.error)


async def about_a_patient(base, mode, agent, grants, http):
    grant = await grants.one(http)
    token = await agent.token(http, f"intent/{INTENT}", grant)
    again = await agent.ask_token(http, f"intent/{INTENT}", grant)
    check(f"{mode}: a grant counts once", again.status_code == 400 and again.json()["error"] == "invalid_grant", again.text)
    key = str(uuid.uuid4())
    task = {"summary": "Please call back about the visit.", "pool": "front-desk", "idempotency_key": key}
    async with connected(base, mode, token) as client:
        listed = await names(client)
        check(f"{mode}: the envelope's tools are listed", "create_task" in listed and "list_problems" not in listed, listed)
        read = await client.call_tool("list_appointments", {})
        check(f"{mode}: the patient's appointments are read", not read.is_error, read)
        proposed = await client.call_tool("create_task", task)
        proposal = (proposed.structured_content or {}).get("proposal")
        check(f"{mode}: a proposal is taken", not proposed.is_error and proposal, proposed)
        repeated = await client.call_tool("create_task", task)
        check(f"{mode}: the same key is the same proposal", (repeated.structured_content or {}).get("proposal") == proposal, repeated)
        other = await client.call_tool("create_task", task | {"summary": "Something else."})
        check(f"{mode}: the same key for something else is refused", other.is_error and code(other) == "idempotency-conflict", other)
    later = await agent.token(http, f"intent/{INTENT}", await grants.one(http))
    async with connected(base, mode, later) as client:
        status = await client.call_tool("check_proposal_status", {"proposal": proposal})
        check(f"{mode}: a later token tells the state", not status.is_error and status.structured_content.get("state"), status)


async def without_a_token(base, mode):
    for token in (None, "nonsense"):
        try:
            async with connected(base, mode, token) as client:
                await client.list_tools()
            check(f"{mode}: nothing without a token", False)
        except Exception as refused:  # the client wraps it in groups of its own
            check(f"{mode}: nothing without a token", True, refused)


class Storage:
    """Where the client keeps its token between requests."""

    tokens = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return None

    async def set_client_info(self, client_info):
        pass


class EnvelopeProvider(PrivateKeyJWTOAuthProvider):
    """The client asks for the scope that the server announces; the intent is for the agent to choose."""

    async def _perform_authorization(self):
        self.context.client_metadata.scope = "intent/find-slots"
        return await super()._perform_authorization()


async def by_the_clients_own_oauth(base, agent):
    """The client finds the token endpoint by itself, from the first refusal on."""

    async def assertion(audience):
        return agent.assertion(audience)

    provider = EnvelopeProvider(
        server_url=f"{base}/mcp",
        storage=Storage(),
        client_id=agent.name,
        assertion_provider=assertion,
        issuer=base,
    )
    try:
        async with connected(base, "auto", auth=provider) as client:
            check("the client's own OAuth leads to the tools", await names(client) == {"find_slots"})
    except Exception as failed:
        check("the client's own OAuth leads to the tools", False, failed)


async def main():
    base = os.environ["CHAPERONE_URL"].rstrip("/")
    name = os.environ["CHAPERONE_AGENT"]
    key_id = os.environ.get("CHAPERONE_KEY_ID", "k1")
    agent = Agent(base, name, os.environ["CHAPERONE_AGENT_KEY"], key_id)
    grants = Grants(base, name)
    async with httpx2.AsyncClient(timeout=30, event_hooks={"response": [keep_response]}) as http:
        for mode in MODES:
            await patient_free(base, mode, agent, http)
            await about_a_patient(base, mode, agent, grants, http)
            await without_a_token(base, mode)
        await by_the_clients_own_oauth(base, agent)
        document = (await http.get(f"{base}/openapi.json")).json()
        try:
            from openapi_spec_validator import validate

            validate(document)
            check("the OpenAPI document is valid", True)
        except Exception as invalid:
            check("the OpenAPI document is valid", False, invalid)
    failed = [c for c in checks if not c["held"]]
    print(json.dumps({"checks": len(checks), "failed": failed}, indent=2))
    sys.exit(1 if failed else 0)


asyncio.run(main())
