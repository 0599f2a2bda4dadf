"""Files through the whole gateway: a skill's to the model and the user, a user's images to the model and the team."""

import base64
import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from openai import AsyncOpenAI, BadRequestError

from openclaw_runtime.agent.attachments import MAX_SHOWN_BYTES, MAX_TURN_BYTES
from openclaw_runtime.bus.messages import Message
from openclaw_runtime.config import RuntimeConfig
from openclaw_runtime.errors import BusError, MemoryStoreError
from openclaw_runtime.gateway.skills import RuntimeSkills
from openclaw_runtime.memory.attachments import KEPT_SECONDS, MAX_KEPT, AttachmentStore
from openclaw_runtime.memory.records import RecordStore
from openclaw_runtime.memory.types import Filters, KeptAttachment
from openclaw_runtime.sandbox.attachments import Attachment
from openclaw_runtime.skills.types import Trigger
from tests.fakes.images import png
from tests.fakes.llm.gateways import FakeSkills, House, Model
from tests.integration.runtime.test_gateway import house, http, model, say, stream
from tests.integration.runtime.test_memory import records_url
from tests.integration.runtime.test_summaries import Clock

__all__ = ["house", "model", "records_url"]

PNG = png(640, 480)
PLOT = Attachment.of('plot \u00e4".png', "image/png", PNG)
PAGE = Attachment.of("report.html", "text/html", b"<script>alert(1)</script>")
DATA_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def giving(*attachments: Attachment) -> FakeSkills:
    skills = FakeSkills("git-ai-helper")
    skills.attachments = attachments
    return skills


def seeing(house: House, name: str = "a", *, vision: bool = True, **sections: Any) -> RuntimeConfig:
    config = house.config(name, **sections)
    return config.model_copy(update={"claw": config.claw.model_copy(update={"vision": vision})})


def images(request: dict[str, Any]) -> list[str]:
    """Where the images of a request to the model are, as URLs."""
    parts = [part for each in request["messages"] if isinstance(each["content"], list) for part in each["content"]]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


async def test_an_image_is_shown_to_the_model_and_every_file_is_given_to_the_user(house: House, model: Model) -> None:
    async with house.gateway(seeing(house), giving(PLOT, PAGE)) as (_, client), http(client) as raw:
        _, chunks = await stream(client, "Please commit my work")
        listed = chunks[-2].choices[0].delta.attachments
        assert [(each["name"], each["media_type"], each["size"], each["sha256"]) for each in listed] == [
            (each.name, each.media_type, len(each.data), each.sha256) for each in (PLOT, PAGE)
        ]
        asked = model.requests[-1]
        assert images(asked) == [DATA_URL]
        assert "report.html (text/html, 25 bytes)" in str(asked["messages"])
        plot = await raw.get(listed[0]["url"])
        assert (plot.content, plot.headers["content-type"]) == (PNG, "image/png")
        assert plot.headers["content-disposition"] == "attachment; filename*=UTF-8''plot%20%C3%A4%22.png"
        page = await raw.get(listed[1]["url"])
        assert page.content == PAGE.data
        assert page.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in page.headers["content-security-policy"]
        assert page.headers["content-disposition"].startswith("attachment;")
        (_, answer) = (await raw.get("/api/v1/sessions/s1")).json()["messages"]
        assert [each["id"] for each in answer["metadata"]["skills"][0]["attachments"]] == [
            each["id"] for each in listed
        ]
        assert (await raw.get(listed[0]["url"], headers={"Authorization": "Bearer wrong"})).status_code == 401
        for path, status in (("nothing", 404), ("..%2F..%2Fetc", 404), ("a%00b", 400), ("x" * 5000, 400)):
            assert (await raw.get(f"/api/v1/attachments/{path}")).status_code == status


async def test_a_model_that_cannot_see_is_told(house: House, model: Model) -> None:
    async with house.gateway(seeing(house, vision=False), giving(PLOT)) as (_, client):
        await say(client, "Please commit my work")
        assert images(model.requests[-1]) == []
        assert "was not sent: this model cannot read images" in str(model.requests[-1]["messages"])


async def test_a_command_and_a_whole_answer_have_them_too(house: House) -> None:
    skills = giving(PAGE)
    skills.triggers = (Trigger("command", "smartCommit", "go"),)
    async with house.gateway(house.config("a"), skills) as (_, client), http(client) as raw:
        body = {"messages": [{"role": "user", "content": "go"}]}
        message = (await raw.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]
        assert [each["name"] for each in message["attachments"]] == ["report.html"]
        plain = {"messages": [{"role": "user", "content": "hello"}]}
        assert "attachments" not in (await raw.post("/v1/chat/completions", json=plain)).json()["choices"][0]["message"]


async def test_files_of_a_team_are_served_where_its_memory_is_shared(house: House, records_url: str) -> None:
    house.memory = {"records": {"url": records_url}}
    coordinator, member = house.config("coordinator", team=("code-expert",)), house.config("code-expert")
    async with (
        house.gateway(member, giving(PAGE)) as (there, expert),
        house.gateway(coordinator, FakeSkills()) as (_, client),
        http(client) as raw,
        http(expert) as other,
    ):
        body = {"messages": [{"role": "user", "content": "Please commit my work"}]}
        message = (await raw.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]
        (listed,) = message["attachments"]
        assert (await raw.get(listed["url"])).content == PAGE.data
        assert (await other.get(listed["url"])).content == PAGE.data
        payload = {"task": "Please commit my work"}
        task = Message(id="1", sender="coordinator", to="code-expert", type="request", payload=payload, timestamp=0)
        told = await there.state.loop.handle_message(task)
        assert [each["name"] for each in told["attachments"][0]] == ["report.html"]
        assert "attachments" not in told["skills"][0]


async def test_a_store_that_fails_does_not_take_the_result_with_it(
    house: House, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise MemoryStoreError("the disk is full")

    async with house.gateway(house.config("a"), giving(PAGE)) as (gateway, client):
        monkeypatch.setattr(gateway.state.attachments, "keep", fail)
        assert "Committed" in await say(client, "Please commit my work")
        assert "they could not be kept" in str(model.requests[-1]["messages"])
        errors = gateway.state.metrics.registry.get_sample_value("openclaw_errors_total", {"type": "attachments"})
        assert errors == 1


async def test_a_skill_in_a_sandbox_gives_a_file_to_the_user(house: House, tmp_path: Path) -> None:
    folder = tmp_path / "skill"
    (folder / "scripts").mkdir(parents=True)
    (folder / "SKILL.md").write_text("---\nname: plotter\ndescription: plots\n---\n")
    (folder / "skill.yaml").write_text(
        "version: 1.0.0\nactions: [{name: plot, description: plots}]\ntriggers: [{type: command, pattern: plot}]\n"
    )
    code = f"async def plot(ctx, given):\n    await ctx.attach('plot.png', {PNG!r})\n    return 'see there'\n"
    (folder / "scripts/main.py").write_text(code)
    config = house.config("a", skills={"directories": [str(folder)]})
    skills = RuntimeSkills(config, environ={}, environment={}, data_dir=tmp_path, workspace=None)
    async with house.gateway(config, skills) as (_, client), http(client) as raw:  # type: ignore[arg-type]
        body = {"messages": [{"role": "user", "content": "plot"}]}
        message = (await raw.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]
        assert message["content"] == "see there"
        (listed,) = message["attachments"]
        assert (listed["name"], listed["media_type"]) == ("plot.png", "image/png")
        assert (await raw.get(listed["url"])).content == PNG
    assert hashlib.sha256(PNG).hexdigest() in (tmp_path / "audit.jsonl").read_text()


async def test_old_files_are_let_go_though_no_new_one_comes(house: House, records_url: str) -> None:
    house.memory = {"records": {"url": records_url}}
    clock = house.now = Clock()
    async with house.gateway(house.config("awake"), FakeSkills()) as (gateway, _):
        await gateway.opened()
        stores = [
            AttachmentStore(
                gateway._memory._records, namespace=namespace, agent=agent, now=clock, new_id=lambda: str(uuid4())
            )
            for namespace, agent in (("demo", "awake"), ("demo", "asleep"), ("elsewhere", "awake"))
        ]
        old = [(await store.keep("s", [PAGE]))[0].id for store in stores]
        clock.time += KEPT_SECONDS / 2
        new = [(await store.keep("s", [PAGE]))[0].id for store in stores]
        clock.time += KEPT_SECONDS / 2
        await gateway.upkeep.tick()
        # At the time when none was old: what is there still.
        clock.time -= KEPT_SECONDS / 2
        assert [await store.get(kept) is not None for store, kept in zip(stores, old, strict=True)] == [
            False,
            False,
            True,
        ]
        assert all([await store.get(kept) for store, kept in zip(stores, new, strict=True)])


# --- a user's images --------------------------------------------------------------------------------------------------


def looking(text: str, *addresses: str) -> dict[str, Any]:
    """A user's message with images."""
    shown = [{"type": "image_url", "image_url": {"url": each}} for each in addresses]
    return {"role": "user", "content": [{"type": "text", "text": text}, *shown]}


async def look(client: AsyncOpenAI, *messages: Any) -> str:
    headers = {"X-OpenClaw-Session": "s1"}
    done = await client.chat.completions.create(model="stand-in", messages=[*messages], extra_headers=headers)
    return str(done.choices[0].message.content)


async def test_a_users_image_is_shown_in_its_turn_named_afterwards_and_kept(house: House, model: Model) -> None:
    async with house.gateway(seeing(house), FakeSkills()) as (gateway, client), http(client) as raw:
        assert "You said: What is this?" in await look(client, looking("What is this?", DATA_URL))
        assert images(model.requests[-1]) == [DATA_URL]
        await say(client, "And what is in it?")
        assert images(model.requests[-1]) == []
        mention = f"shown in its turn only:\n- image-1.png (image/png, {len(PNG)} bytes)"
        assert f"What is this?\n\nImages that came with this message, {mention}" in str(
            [each["content"] for each in model.requests[-1]["messages"]]
        ).replace("\\n", "\n")
        (said, *_) = (await raw.get("/api/v1/sessions/s1")).json()["messages"]
        (kept,) = said["metadata"]["attachments"]
        assert (kept["name"], kept["media_type"], kept["size"]) == ("image-1.png", "image/png", len(PNG))
        assert (await raw.get(f"/api/v1/attachments/{kept['id']}")).content == PNG
        (record, *_) = await gateway.state.memory.recent(only=Filters(kinds=("exchange",)))
        assert base64.b64encode(PNG).decode()[:40] not in record.text


async def test_as_much_as_a_turn_shows_comes_through_and_counts_for_its_skills(house: House, model: Model) -> None:
    sizes = [MAX_SHOWN_BYTES, MAX_SHOWN_BYTES, MAX_TURN_BYTES - 2 * MAX_SHOWN_BYTES - 100]
    sent = [f"data:image/png;base64,{base64.b64encode(png(640, 480, size)).decode()}" for size in sizes]
    async with house.gateway(seeing(house), giving(PLOT)) as (_, client):
        await look(client, looking("Please commit my work", *sent))
        assert images(model.requests[-1]) == sent
        assert "not shown: a turn shows at most 4 images" in str(model.requests[-1]["messages"])
        with pytest.raises(BadRequestError, match="messages: a turn shows at most 4 images"):
            await look(client, looking("More", *sent, DATA_URL))


async def test_a_model_that_cannot_see_is_told_of_a_users_image(house: House, model: Model) -> None:
    async with house.gateway(seeing(house, vision=False), FakeSkills()) as (_, client):
        for text in ("What is this?", ""):
            await look(client, looking(text, DATA_URL))
            assert images(model.requests[-1]) == []
            note = f"File image-1.png (image/png, {len(PNG)} bytes) was not sent: this model cannot read images."
            assert note in str(model.requests[-1]["messages"][-1])


async def test_with_candidates_an_image_goes_to_one_that_sees(house: House, model: Model) -> None:
    candidate = {"provider": "local", "model": "eye", "base_url": house.model_url, "vision": True, "performance": 0.1}
    config = seeing(house, vision=False, models={"candidates": [candidate]})
    async with house.gateway(config, FakeSkills()) as (_, client):
        await say(client, "Design a bridge")
        assert model.requests[-1]["model"] == "stand-in"
        await look(client, looking("Design a bridge", DATA_URL))
        assert (model.requests[-1]["model"], images(model.requests[-1])) == ("eye", [DATA_URL])


async def test_a_message_with_an_image_is_no_command(house: House, model: Model) -> None:
    skills = FakeSkills("git-ai-helper")
    skills.triggers = (Trigger("command", "smartCommit", "go"),)
    async with house.gateway(seeing(house), skills) as (_, client):
        await look(client, looking("go", DATA_URL))
    assert (skills.calls, images(model.requests[-1])) == ([], [DATA_URL])


async def test_a_conversation_that_the_client_keeps_shows_its_images_again(house: House, model: Model) -> None:
    async with house.gateway(seeing(house), FakeSkills()) as (_, client):
        await look(
            client,
            looking("What is this?", DATA_URL),
            {"role": "assistant", "content": "A square"},
            {"role": "user", "content": "Which colour has it?"},
        )
    asked = [each for each in model.requests[-1]["messages"] if each["role"] == "user"]
    assert [images({"messages": [each]}) for each in asked] == [[DATA_URL], []]


@pytest.mark.parametrize("shared", [True, False])
async def test_an_image_goes_with_a_task_where_memory_is_shared(
    house: House, model: Model, records_url: str, shared: bool
) -> None:
    if shared:
        house.memory = {"records": {"url": records_url}}
    coordinator = seeing(house, "coordinator", team=("code-expert",))
    member, skills = seeing(house, "code-expert"), FakeSkills("git-ai-helper")
    async with house.gateway(member, skills), house.gateway(coordinator, FakeSkills()) as (_, client):
        await look(client, looking("Please commit my work", DATA_URL))
    assert len(skills.calls) == 1
    told = [each for each in model.requests if str(each["messages"][0]["content"]).startswith("You are code-expert")]
    assert [images(each) for each in told] == [[DATA_URL] if shared else []] * 2
    missing = f"could not be passed on:\n- image-1.png (image/png, {len(PNG)} bytes)"
    assert (missing in str(told[0]["messages"]).replace("\\n", "\n")) == (not shared)


async def test_a_task_gets_only_what_may_be_shown(house: House, model: Model) -> None:
    async with house.gateway(seeing(house), FakeSkills()) as (gateway, _):
        kept = await gateway.state.attachments.keep("s", [PAGE, PLOT])
        payload = {"task": "look", "images": [asdict(each) for each in kept]}
        task = Message(id="1", sender="boss", to="a", type="request", payload=payload, timestamp=0)
        await gateway.state.loop.handle_message(task)
        assert images(model.requests[-1]) == [DATA_URL]
        assert "- report.html (text/html, 25 bytes)" in str(model.requests[-1]["messages"])
        wrong = msgspec.structs.replace(task, payload={"task": "look", "images": "all"})
        with pytest.raises(BusError, match="the task's images"):
            await gateway.state.loop.handle_message(wrong)


# --- the store --------------------------------------------------------------------------------------------------------


async def test_replicas_share_what_is_kept_and_the_oldest_goes_first(records_url: str) -> None:
    clock, ids = [1_000_000.0], iter(f"id-{number}" for number in range(10_000))
    stores = [
        AttachmentStore(
            RecordStore(records_url),
            namespace="demo",
            agent=agent,
            now=lambda: clock[0],
            new_id=lambda: next(ids),
            most_bytes=100,
        )
        for agent in ("keeper", "keeper", "other")
    ]
    one, two, other = stores
    for store in stores:
        await store.start()

    async def kept(store: AttachmentStore, *sizes: int) -> list[KeptAttachment]:
        clock[0] += 1
        given = [Attachment.of(f"{number}.bin", "a/b", bytes(size)) for number, size in enumerate(sizes)]
        return list(await store.keep("s", given))

    async def there(store: AttachmentStore, *found: KeptAttachment) -> list[bool]:
        return [await store.get(each.id) is not None for each in found]

    assert await one.keep("s", ()) == ()
    first, second = await kept(one, 40), await kept(two, 40)
    stored = await two.get(first[0].id)
    assert stored is not None
    assert (stored.kept, stored.data) == (first[0], bytes(40))
    # Another agent's are no business of its gateway, unless they are a team.
    assert await other.get(first[0].id) is None
    assert await other.get(first[0].id, team=("keeper",)) == stored
    theirs = await kept(other, 90)
    third = await kept(two, 40)
    assert await there(one, *first, *second, *third) == [False, True, True]
    assert await there(other, *theirs) == [True]
    many = await kept(one, *[1] * 16)
    assert all(await there(two, *many))
    clock[0] += KEPT_SECONDS
    assert await there(one, *many) == [False] * 16
    assert MAX_KEPT >= 16
    for store in stores:
        await store._records.close()
