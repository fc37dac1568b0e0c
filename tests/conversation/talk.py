"""Says the script to a program and gives what it answered, masked."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import yaml
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPError
from mcp.types import PromptReference, ResourceTemplateReference

from .bars import bars, edited
from .masking import Mask, schema, sha256, without_references
from .program import IDLE_S, Answer, Program, ask, environment, owned_for_a_while, serving

SCRIPT = Path(__file__).with_name("script.yaml")
TOKEN = "a-token-of-the-recorded-conversation"
ALLOWED = ("--allow-host", "trusted.example", "--allow-origin", "https://page.example")
KEPT_HEADERS = ("content-type", "allow", "www-authenticate", "cache-control", "location")
BESIDE_EACH_OTHER = 2  # commands
LARGE_CHARACTERS = 1_000  # a reply that came before is not written out again
ENDED = frozenset({"completed", "failed", "cancelled"})

Step = dict[str, Any]
Replies = dict[str, Any]


def read_script() -> dict[str, Any]:
    """The script."""
    return yaml.safe_load(SCRIPT.read_text(encoding="utf-8"))


def texts(value: Any) -> Iterator[str]:
    """Every text that stands in a part of the script."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from texts(each)


def make_workspace(folder: Path, files: dict[str, Any]) -> None:
    """The files that the script needs."""
    for name, told in files.items():
        text = told.get("text")
        if text is None:
            text = edited(
                bars(told["bars"], told["seed"], drift=told.get("drift", 0.0)),
                told.get("lines", {}),
            )
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def talk(program: Program, folder: Path) -> dict[str, Replies]:
    """The whole conversation.

    Args:
        program: which version is spoken to.
        folder: an empty one, for the workspaces.
    """
    script = read_script()
    workspaces = {name: folder / name for name in ("stdio", "http", "files")}
    for workspace in workspaces.values():
        make_workspace(workspace, script["files"])

    def open_proxy() -> dict[str, Replies]:
        said = Said(program, workspaces["stdio"], script)
        with owned_for_a_while(said.workspace):
            told = asyncio.run(over_mcp(said, script["mcp"]))
            return {"mcp": told, "command_line": by_command(said, script["command_line"])}

    def server() -> dict[str, Replies]:
        said = Said(program, workspaces["http"], script)
        return {"http": over_http(said, script["http"])}

    def nobody() -> dict[str, Replies]:
        said = Said(program, workspaces["files"], script)
        return {"files_only": by_command(said, script["files_only"])}

    with ThreadPoolExecutor() as threads:
        sides = [threads.submit(side) for side in (open_proxy, server, nobody)]
        return {name: told for side in sides for name, told in side.result().items()}


class Said:
    """One side of the conversation.

    Args:
        program: which version is spoken to.
        workspace: its folder.
        script: the script.
    """

    def __init__(self, program: Program, workspace: Path, script: dict[str, Any]) -> None:
        self.program = program
        self.workspace = workspace
        steps = [script[part] for part in ("mcp", "command_line", "files_only", "http")]
        hidden = {str(workspace): "<workspace>", TOKEN: "<token>"}
        self.mask = Mask(texts(steps), hidden)
        self.mask.given = {
            told["text"].encode() for told in script["files"].values() if "text" in told
        }
        self.replies: Replies = {}

    def add(self, step: Any, told: Any, *, raw: Any = None) -> None:
        """Keeps what was answered to a step."""
        options = step if isinstance(step, dict) else {}
        if most := options.get("within"):
            size = len(json.dumps(raw, separators=(",", ":"), ensure_ascii=False).encode())
            told = {**told, "within the bytes": size <= most}
        for name in options.get("mask", ()):
            told = {**told, "reply": raced(told["reply"], name)}
        key = name_of(step)
        count = sum(each == key or each.startswith(f"{key} (") for each in self.replies)
        same = [each for each, reply in self.replies.items() if reply == told]
        if same and len(json.dumps(told)) > LARGE_CHARACTERS:
            told = {"the same as": same[0]}
        self.replies[key if not count else f"{key} ({count + 1})"] = told

    def local(self, step: Step) -> bool:
        """Does a step that only concerns files; says whether it was one."""
        if "files" in step:
            self.add(step, folder_content(self.workspace, step["files"], self.mask))
        elif "damage" in step:
            path = self.workspace / step["damage"]
            content = bytearray(path.read_bytes())
            content[-1] ^= 0xFF
            path.write_bytes(content)
        elif "copy" in step:
            source, to = self.workspace / step["copy"], self.workspace / step["to"]
            shutil.copytree(source, to, ignore=shutil.ignore_patterns(*step["without"]))
        elif "alter" in step:
            path = self.workspace / step["alter"]
            document = json.loads(path.read_bytes()) | step["set"]
            path.write_text(json.dumps(document), encoding="utf-8")
        elif "write" in step:
            (self.workspace / step["write"]).write_text(step["text"], encoding="utf-8")
        else:
            return False
        return True


def name_of(step: Any) -> str:
    """What stands before a reply in the recording."""
    if not isinstance(step, dict):
        return step if isinstance(step, str) else " ".join(step)
    left = {name: value for name, value in step.items() if name not in {"mask", "keep", "within"}}
    kind = next(iter(left))
    words = f"{left.pop(kind)}" if isinstance(left[kind], str) else json.dumps(left.pop(kind))
    return " ".join([kind, words, *([json.dumps(left)] if left else [])])


def raced(value: Any, name: str) -> Any:
    """A reply without the value of a field that is a race."""
    if isinstance(value, dict):
        return {key: "<any>" if key == name else raced(each, name) for key, each in value.items()}
    return [raced(each, name) for each in value] if isinstance(value, list) else value


def folder_content(workspace: Path, name: str, mask: Mask) -> dict[str, Any]:
    """What lies in a folder: JSON as it is, of all else size and hash; of KTRDR's file, tensors."""
    found: dict[str, Any] = {}
    for path in sorted((workspace / name).rglob("*")):
        if path.is_symlink():
            found[path.relative_to(workspace).as_posix()] = {"link to": str(path.readlink())}
        elif path.is_file():
            found[path.relative_to(workspace).as_posix()] = file_content(path, mask)
    return found


def file_content(path: Path, mask: Mask) -> Any:
    """What a file holds."""
    content = path.read_bytes()
    if path.suffix == ".json":
        told = mask.reply(json.loads(content), keep={"description"})
        return without_hashes_of_masked(told)
    if path.suffix == ".yaml" and content not in mask.given:
        return {"yaml": mask.reply(yaml.safe_load(content))}
    if path.suffix == ".pt":
        return {"tensors": tensors(path)}
    return {"bytes": len(content), "sha256": sha256(content)}


def without_hashes_of_masked(told: Any) -> Any:
    """A bundle's document without the hashes of files that hold times."""
    if isinstance(told, dict):
        return {
            name: "<hash>" if is_hash_of_masked(name, each) else without_hashes_of_masked(each)
            for name, each in told.items()
        }
    return [without_hashes_of_masked(each) for each in told] if isinstance(told, list) else told


def is_hash_of_masked(name: str, value: Any) -> bool:
    """Whether a value is the hash of something that holds a time."""
    return isinstance(value, str) and (name.endswith(".json") or name == "content_sha256")


def tensors(path: Path) -> dict[str, Any]:
    """The names, shapes and hashes of a state dict."""
    import torch

    state = torch.load(path, weights_only=True)
    return {
        name: [str(each.dtype), list(each.shape), sha256(each.contiguous().numpy().tobytes())]
        for name, each in state.items()
    }


# ---- MCP over stdio


async def over_mcp(said: Said, steps: list[Step]) -> Replies:
    """What a client of MCP is told."""
    line = said.program.command(said.workspace)
    server = StdioServerParameters(
        command=line[0],
        args=line[1:],
        env=environment() | {"KTRDR_LAB_IDLE_S": IDLE_S},
        cwd=said.workspace,
    )
    async with Client(server) as client:
        for step in steps:
            if not said.local(step):
                await mcp_step(said, client, step)
    return said.replies


async def mcp_step(said: Said, client: Client, step: Step) -> None:
    """One call."""
    if "until" in step:
        while (await status(client, step["task"])) != step["until"]:
            pass
        return None
    try:
        raw = await MCP_CALLS[next(iter(step))](client, step)
    except MCPError as error:
        data = said.mask.reply(error.error.data)
        return said.add(step, {"mcp error": error.error.code, "data": data})
    if step.get("list") == "tools":
        size = [{**each} for each in raw["tools"]]
        return said.add(step, {"tools": schema(raw["tools"])}, raw=size)
    if "list" in step or "prompt" in step:
        return said.add(step, schema(said.mask.reply(raw)))
    if "read" in step:
        return said.add(step, resource(said, raw))
    if "complete" in step:
        return said.add(step, said.mask.reply(raw))
    said.add(step, tool_result(said, step, raw), raw=raw.get("structuredContent"))
    return None


async def status(client: Client, task_id: str) -> str:
    """A task's state."""
    told = await client.call_tool("get_training_status", {"task_id": task_id, "wait_s": 0.1})
    word = told.structured_content["status"]
    assert word not in ENDED, told.structured_content
    return word


def plain(result: Any) -> dict[str, Any]:
    """A result of the protocol as it was sent, without what the SDK adds to each."""
    told = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    for name in ("_meta", "ttlMs", "cacheScope", "resultType"):
        told.pop(name, None)
    return told


async def listing(client: Client, step: Step) -> dict[str, Any]:
    """What there is of a kind."""
    kind = step["list"]
    if kind == "server":
        told = client.server_capabilities.model_dump(mode="json", exclude_none=True)
        has_instructions = bool(client.instructions)
        return {
            "name": client.server_info.name,
            "protocol": client.protocol_version,
            "capabilities": told,
            "has instructions": has_instructions,
        }
    calls: dict[str, Callable[[], Any]] = {
        "tools": client.list_tools,
        "templates": client.list_resource_templates,
        "resources": client.list_resources,
        "prompts": client.list_prompts,
    }
    return plain(await calls[kind]())


async def called(client: Client, step: Step) -> dict[str, Any]:
    """A tool's result."""
    return plain(await client.call_tool(step["call"], step.get("with", {})))


async def prompted(client: Client, step: Step) -> dict[str, Any]:
    """A prompt."""
    return plain(await client.get_prompt(step["prompt"], step.get("with", {})))


async def read(client: Client, step: Step) -> dict[str, Any]:
    """A resource."""
    return plain(await client.read_resource(step["read"]))


async def completed(client: Client, step: Step) -> dict[str, Any]:
    """Names that begin with a text."""
    of = step["of"]
    reference = (
        ResourceTemplateReference(type="ref/resource", uri=of)
        if "://" in of
        else PromptReference(type="ref/prompt", name=of)
    )
    argument = {"name": step["complete"], "value": step["value"]}
    return plain(await client.complete(reference, argument))


MCP_CALLS: dict[str, Callable[[Client, Step], Any]] = {
    "list": listing,
    "call": called,
    "prompt": prompted,
    "read": read,
    "complete": completed,
}


def tool_result(said: Said, step: Step, raw: dict[str, Any]) -> dict[str, Any]:
    """A tool's result: its structure, and whether its text says the same."""
    structure = raw.get("structuredContent")
    [content] = raw["content"]
    failed = raw["isError"]
    told: dict[str, Any] = {"is error": failed}
    if structure is None:
        return told | {"text": "<text>"}
    if failed:
        error = structure["error"]
        told["text is message and hint"] = content["text"] == f"{error['message']} {error['hint']}"
    else:
        told["text is the same"] = json.loads(content["text"]) == structure
    return told | {"reply": said.mask.reply(structure, keep=step.get("keep", ()))}


def resource(said: Said, raw: dict[str, Any]) -> dict[str, Any]:
    """A resource's content."""
    [content] = raw["contents"]
    told = {"uri": said.mask.place(content["uri"]), "type": content["mimeType"]}
    if content["mimeType"] == "application/json":
        return told | {"document": said.mask.reply(json.loads(content["text"]))}
    return told | {"lines": len(content["text"].splitlines())}


# ---- command line


def by_command(said: Said, steps: list[list[str]]) -> Replies:
    """What the command line says with --json."""
    said.replies = {}
    with ThreadPoolExecutor(BESIDE_EACH_OTHER) as threads:
        for step in steps:
            lines = step["together"] if isinstance(step, dict) else [step]
            ended = threads.map(
                lambda line: said.program.run(said.workspace, *line, "--json"), lines
            )
            for line, process in zip(lines, ended, strict=True):
                said.add(line, command_result(said, line, process))
    return said.replies


def command_result(said: Said, line: list[str], ended: CompletedProcess[str]) -> dict[str, Any]:
    """How one command ended."""
    told: dict[str, Any] = {"exit code": ended.returncode}
    try:
        reply = json.loads(ended.stdout)
    except ValueError:
        return told | {"output": bool(ended.stdout), "on standard error": bool(ended.stderr)}
    if line[0] == "doctor":  # says what this machine has
        reply["checks"] = sorted({each["name"] for each in reply["checks"]})
    return told | {"reply": said.mask.reply(reply)}


# ---- HTTP


def over_http(said: Said, steps: list[Any]) -> Replies:
    """What a client of HTTP is told by `serve`."""
    token = said.workspace.parent / "token"
    token.write_text(TOKEN, encoding="utf-8")
    with serving(said.program, said.workspace, "--token-file", str(token), *ALLOWED) as owner:
        for step in steps:
            http_step(said, owner | {"token": TOKEN}, step)
    return said.replies


def http_step(said: Said, owner: dict[str, Any], step: Any) -> None:
    """One request, or another step of this side."""
    if isinstance(step, dict):
        if said.local(step):
            return None
        if "command" in step:
            ended = said.program.run(said.workspace, *step["command"], "--json")
            return said.add(step, command_result(said, step["command"], ended))
        if "until" in step:
            path = f"/training/{step['task']}?wait_s=0.1"
            while (word := json.loads(ask(owner, "GET", path).body)["status"]) != step["until"]:
                assert word not in ENDED
            return None
    request = {"http": step} if isinstance(step, str) else step
    method, _, path = request["http"].partition(" ")
    headers = {**request.get("headers", {})}
    answer = ask(owner, method, path, headers, body_of(request))
    said.add(step, http_result(said, request, answer))
    return None


def body_of(request: Step) -> bytes | None:
    """The bytes that a request sends."""
    if "raw" in request:
        return request["raw"].encode()
    if "nested" in request:
        return b"[" * request["nested"] + b"]" * request["nested"]
    if "bytes" in request:
        return b" " * request["bytes"]
    return json.dumps(request["body"]).encode() if "body" in request else None


def http_result(said: Said, request: Step, answer: Answer) -> dict[str, Any]:
    """What was answered."""
    headers = {name: answer.headers[name] for name in KEPT_HEADERS if name in answer.headers}
    told: dict[str, Any] = {"status": answer.status, "headers": headers}
    kind = headers.get("content-type", "")
    if kind.startswith("application/json"):
        reply = json.loads(answer.body)
        if "openapi" in reply:
            return told | openapi(reply)
        return told | {"reply": said.mask.reply(reply, keep=request.get("keep", ()))}
    if kind.startswith("text/event-stream"):
        return told | {"events": events(said, answer.body.decode())}
    return told | {"has a body": bool(answer.body)}


def openapi(document: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document; what it refers to in place, so that names of schemas stand apart."""
    return {
        "openapi": document["openapi"],
        "paths": schema(without_references(document["paths"], document), "paths"),
        "names of schemas": sorted(document.get("components", {}).get("schemas", {})),
        "security": document.get("security"),
        "security schemes": document.get("components", {}).get("securitySchemes"),
    }


def events(said: Said, text: str) -> list[Any]:
    """The first and the last of the events of a task that has ended: there is one."""
    told = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        if "data" in lines:
            lines["data"] = said.mask.reply(json.loads(lines["data"]))
        told.append(lines)
    return told
