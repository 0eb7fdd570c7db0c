"""The double of yagna, call by call. Statuses and words are those that yagna 0.17.6 gave to the same calls."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from golem_rest import (
    ACTIVITY,
    LATER,
    MARKET,
    NOWHERE,
    PAYMENT,
    RestRequestor,
    run,
    states,
    transfer,
    world,
)

import provider_images.mnist
from oracle.devnet.golem.double import (
    RECEIVER_CANCELLED,
    Corrupt,
    FakeRuntime,
    Hang,
    HostCommands,
    Ignore,
    Moment,
    ProviderDouble,
    RunResult,
    YagnaDouble,
)
from provider_images.mnist.draw import draw_digit
from provider_images.runtime.job import Job, JobInput, JobModel, JobResult

pytestmark = pytest.mark.integration

MNIST = Path(provider_images.mnist.__file__).parent
NOBODY = "00000000-0000-4000-8000-000000000000"
RUNTIME = ("/usr/bin/python3", "-m", "provider_images.runtime")


# Identities ------------------------------------------------------------------------------------------------------


async def test_a_key_is_an_identity_and_without_one_nothing_is_told(tmp_path: Path) -> None:
    async with world(tmp_path) as (yagna, requestor):
        me = await requestor().get("/me")
        assert me == {"identity": await requestor("requestor-key").me(), "name": "requestor", "role": "manager"}
        assert await requestor("other-key").me() != me["identity"]
        assert await requestor("wrong")("GET", "/me") == (401, "Invalid application key")
        async with aiohttp.ClientSession() as session:
            async with session.get(yagna.api_url + "/me") as answer:
                assert (answer.status, await answer.text()) == (401, "Missing application key")
            async with session.get(yagna.api_url + "/me?authToken=other-key") as answer:
                assert answer.status == 200
            async with session.get(yagna.api_url + "/version/get") as answer:
                assert (await answer.json())["current"]["version"] == "0.17.6"
        assert await requestor()("GET", "/nowhere") == (404, None)


async def test_what_one_identity_has_another_does_not_see(tmp_path: Path) -> None:
    async with world(tmp_path, ProviderDouble("one")) as (yagna, requestor):
        mine, theirs = requestor(), requestor("other-key")
        allocation, demand = await mine.allocate("1"), await mine.subscribe()
        agreement = await mine.agree(demand)
        activity = await mine.ready(agreement)
        await mine.terminate(agreement)
        (invoice,) = await yagna.until(lambda: yagna.payments.invoices)
        assert (await theirs("GET", f"{PAYMENT}/allocations/{allocation}"))[0] == 404
        assert (await theirs("GET", f"{MARKET}/demands/{demand}/events?timeout=0"))[0] == 404
        assert (await theirs("DELETE", f"{MARKET}/demands/{demand}"))[0] == 404
        assert (await theirs("GET", f"{MARKET}/agreements/{agreement}"))[0] == 404
        assert (await theirs("GET", f"{ACTIVITY}/activity/{activity}/state"))[0] == 500
        assert (await theirs("GET", f"{PAYMENT}/invoices/{invoice.id}"))[0] == 404
        for path in ("allocations", "invoices", "debitNotes", "invoiceEvents?timeout=0"):
            assert await mine.get(f"{PAYMENT}/{path}")
            assert await theirs.get(f"{PAYMENT}/{path}") == []
        assert len(await mine.get(f"{MARKET}/demands")) == len(await mine.get(f"{MARKET}/agreements")) == 1
        assert await theirs.get(f"{MARKET}/demands") == await theirs.get(f"{MARKET}/agreements") == []


# Market ----------------------------------------------------------------------------------------------------------


async def test_a_negotiation_takes_its_steps_in_order_and_each_once(tmp_path: Path) -> None:
    async with world(tmp_path, ProviderDouble("one")) as (_, requestor):
        ask = requestor()
        demand = await ask.subscribe()
        first = await ask.initial(demand)
        assert first["properties"]["golem.node.id.name"] == "one"
        assert await ask.events(demand, 0) == []
        ours = await ask.counter(demand, first["proposalId"])
        path = f"{MARKET}/demands/{demand}/proposals"
        assert (await ask("POST", f"{path}/{first['proposalId']}", ask.answer()))[0] == 410
        assert await ask("POST", f"{path}/{ours}", ask.answer()) == (
            400,
            {"message": f"Can't react to own Proposal [{ours}]."},
        )
        agreements, body = f"{MARKET}/agreements", {"validTo": LATER}
        assert (await ask("POST", agreements, {**body, "proposalId": first["proposalId"]}))[0] == 400
        assert (await ask("POST", agreements, {**body, "proposalId": ours}))[0] == 400
        assert (await ask("POST", agreements, {**body, "proposalId": f"R-{NOWHERE}"}))[0] == 400
        ((draft,), again) = [event["proposal"] for event in await ask.events(demand)], await ask.events(demand, 0)
        assert (draft["state"], draft["prevProposalId"], again) == ("Draft", ours, [])
        wrong = {"properties": {"golem.node.debug.subnet": "elsewhere"}, "constraints": "(unheard.of=1)"}
        status, said = await ask("POST", f"{path}/{draft['proposalId']}", wrong)
        assert (status, 'Mismatched constraints - Offer: ["unheard.of"]' in said["message"]) == (400, True)
        assert (await ask("POST", f"{path}/R-{NOWHERE}", ask.answer()))[0] == 404
        assert (await ask("POST", f"{path}/R-{NOWHERE}/reject", {"message": "no"}))[0] == 500
        agreement = await ask.post(agreements, {**body, "proposalId": draft["proposalId"]})
        assert (await ask("POST", agreements, {**body, "proposalId": draft["proposalId"]}))[0] == 409
        view = await ask.get(f"{agreements}/{agreement}")
        assert view["state"] == "Proposal"
        assert view["demand"]["properties"]["golem.com.payment.chosen-platform"] == ask.platform
        assert view["offer"]["properties"] == draft["properties"]


async def test_an_agreement_goes_its_way_and_no_other(tmp_path: Path) -> None:
    provider = ProviderDouble("one")
    async with world(tmp_path, provider, patience=0.02) as (yagna, requestor):
        ask = requestor()
        provider.plan(Moment.AGREEMENT, Ignore())
        demand = await ask.subscribe()
        draft = await ask.draft(demand)
        agreement = await ask.post(f"{MARKET}/agreements", {"proposalId": draft["proposalId"], "validTo": LATER})
        path = f"{MARKET}/agreements/{agreement}"
        assert (await ask("POST", f"{path}/wait?timeout=15"))[0] == 400
        assert (await ask("POST", f"{path}/terminate", {"message": "early"}))[0] == 409
        assert (await ask("POST", f"{ACTIVITY}/activity", agreement))[0] == 404
        await ask.post(f"{path}/confirm", status=204)
        assert await ask("POST", f"{path}/confirm") == (
            410,
            {"message": "Can't update Agreement state from Pending to Pending."},
        )
        began = time.monotonic()
        assert (await ask("POST", f"{path}/wait?timeout=15"))[0] == 408
        assert time.monotonic() - began < 2
        assert (await ask("POST", f"{ACTIVITY}/activity", agreement))[0] == 400
        yagna.market.approve(yagna.market.agreements[agreement])
        await ask.post(f"{path}/wait?timeout=15", status=204)
        assert (await ask.get(path))["approvedDate"]
        await ask.terminate(agreement)
        assert (await ask("POST", f"{path}/terminate", {"message": "again"}))[0] == 410
        assert (await ask("POST", f"{path}/wait?timeout=15"))[0] == 400
        assert (await ask("POST", f"{path}/terminate", {}))[0] == 400
        kinds = [event["eventType"] for event in await ask.get(f"{MARKET}/agreementEvents?timeout=0")]
        assert kinds == ["AgreementApprovedEvent", "AgreementTerminatedEvent"]
        assert (await ask("GET", f"{MARKET}/agreements/{NOWHERE}"))[0] == 404


async def test_a_provider_with_an_agreement_takes_no_other_until_it_ends(tmp_path: Path) -> None:
    async with world(tmp_path, ProviderDouble("one")) as (_, requestor):
        first, second = requestor(), requestor("other-key")
        mine, theirs = await first.subscribe(), await second.subscribe()
        agreement = await first.agree(mine)
        await second.counter(theirs, (await second.initial(theirs))["proposalId"])
        (refused,) = await second.events(theirs)
        assert refused["eventType"] == "ProposalRejectedEvent"
        assert "No capacity" in refused["reason"]["message"]
        await first.terminate(agreement)
        # Who was turned away hears again, and who terminated gets the offer anew.
        (again,) = await second.events(theirs)
        assert again["proposal"]["state"] == "Draft"
        assert (await first.initial(mine))["issuerId"] == again["proposal"]["issuerId"]


async def test_of_two_who_have_a_draft_the_first_to_sign_gets_the_provider(tmp_path: Path) -> None:
    async with world(tmp_path, ProviderDouble("one")) as (_, requestor):
        first, second = requestor(), requestor("other-key")
        drafts = [await ask.draft(await ask.subscribe()) for ask in (first, second)]
        agreements = [await ask.propose(draft) for ask, draft in zip((first, second), drafts, strict=True)]
        assert (await first("POST", f"{MARKET}/agreements/{agreements[0]}/wait?timeout=5"))[0] == 204
        refused = await second("POST", f"{MARKET}/agreements/{agreements[1]}/wait?timeout=5")
        assert refused == (410, {"message": "Rejected"})


async def test_nobody_deals_with_themselves(tmp_path: Path) -> None:
    async with world(tmp_path, ProviderDouble("one"), keys={"key": "one"}) as (_, requestor):
        ask = requestor("key")
        assert await ask.events(await ask.subscribe(), 0.1) == []


@pytest.mark.parametrize(
    "change",
    [
        {"golem.com.payment.chosen-platform": "ngnt"},
        {"golem.srv.comp.expiration": 200},
        {"golem.com.pricing.model.linear.coeffs": [0.0, 0.0, 0.0]},
    ],
)
async def test_terms_that_no_provider_takes_are_rejected(tmp_path: Path, change: dict[str, Any]) -> None:
    if "golem.srv.comp.expiration" in change:
        # From now on, not from when the tests were collected.
        change = {name: int((time.time() + seconds) * 1000) for name, seconds in change.items()}
    async with world(tmp_path, ProviderDouble("one")) as (_, requestor):
        ask = requestor()
        demand = await ask.subscribe()
        ours = await ask.counter(demand, (await ask.initial(demand))["proposalId"], **change)
        (event,) = await ask.events(demand)
        assert (event["eventType"], event["proposalId"]) == ("ProposalRejectedEvent", ours)


async def test_a_poll_ends_with_an_event_its_time_or_the_demand(tmp_path: Path) -> None:
    async with world(tmp_path) as (yagna, requestor):
        ask = requestor()
        demand, other = await ask.subscribe(), await ask.subscribe()
        began = time.monotonic()
        assert await ask.events(demand, 0.2) == []
        assert 0.2 <= time.monotonic() - began < 2
        async with asyncio.TaskGroup() as polls:
            found = polls.create_task(ask.events(demand, 20))
            gone = polls.create_task(ask("GET", f"{MARKET}/demands/{other}/events?timeout=20&maxEvents=10"))
            await asyncio.sleep(0.05)
            await ask.get(f"{MARKET}/demands/{other}", method="DELETE", status=204)
            yagna.add(ProviderDouble("late"))
        assert [event["proposal"]["state"] for event in found.result()] == ["Initial"]
        missing = f"Subscription [{other}] not found. Could be unsubscribed."
        assert gone.result() == (404, {"message": missing})
        yagna.expire_demands()
        assert (await ask("GET", f"{MARKET}/demands/{demand}/events?timeout=0&maxEvents=1"))[0] == 404
        assert (await ask("DELETE", f"{MARKET}/demands/{demand}"))[0] == 404
        for most in (0, 101):
            message = f"Invalid maxEvents '{most}', should be between 1 and 100."
            found_now = await ask("GET", f"{MARKET}/demands/{demand}/events?maxEvents={most}")
            assert found_now == (400, {"message": message})


async def test_an_event_is_not_lost_with_the_caller_that_left(tmp_path: Path) -> None:
    async with world(tmp_path) as (yagna, requestor):
        ask = requestor()
        demand = await ask.subscribe()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask.events(demand, 20), 0.1)
        await asyncio.sleep(0.1)
        yagna.add(ProviderDouble("late"))
        assert await ask.initial(demand)


async def test_offers_and_demands_that_do_not_match_never_meet(tmp_path: Path) -> None:
    small = ProviderDouble("small", properties={"golem.inf.mem.gib": 0.5})
    async with world(tmp_path, small, ProviderDouble("large")) as (_, requestor):
        ask = requestor()
        body = ask.demand()
        body["constraints"] = f"(&{body['constraints']}(golem.inf.mem.gib>=2))"
        demand = await ask.post(f"{MARKET}/demands", body, 201)
        assert (await ask.initial(demand))["properties"]["golem.node.id.name"] == "large"
        assert (await ask("POST", f"{MARKET}/demands", {**body, "constraints": "((a=1)"}))[0] == 400
        assert (await ask("POST", f"{MARKET}/demands", {"properties": {}}))[0] == 400


# Activities ------------------------------------------------------------------------------------------------------


async def test_commands_run_in_order_and_a_batch_ends_with_the_first_that_fails(tmp_path: Path) -> None:
    async def handler(words: Any, directory: Path) -> RunResult:
        return RunResult(int(words[1]), f"out of {words[0]}", "err", cpu_seconds=2.5)

    async with world(tmp_path, ProviderDouble("one", handler=handler), patience=0.02) as (_, requestor):
        ask = requestor()
        agreement = await ask.agree()
        body = await ask.post(f"{ACTIVITY}/activity", {"agreementId": agreement})
        activity = body["activityId"]
        path = f"{ACTIVITY}/activity/{activity}"
        assert await ask.get(f"{path}/state") == {"state": ["Initialized", None]}
        early = await ask.results(activity, await ask.execute(activity, run("/bin/true", "0")))
        assert (early[0]["result"], early[0]["isBatchFinished"]) == ("Error", True)
        assert "deploy() command is expected" in early[0]["message"]
        await ask.results(activity, await ask.execute(activity, {"deploy": {}}, {"start": {"args": []}}))
        assert await ask.get(f"{path}/state") == {"state": ["Ready", None]}
        batch = await ask.execute(activity, run("a", "0"), run("b", "3"), run("c", "0"))
        done = await ask.results(activity, batch)
        assert states(done) == ["Ok", "Error"]
        assert [(item["index"], item["isBatchFinished"]) for item in done] == [(0, False), (1, True)]
        assert (done[0]["stdout"], done[0]["message"]) == ("out of a", None)
        assert (done[1]["message"], done[1]["stderr"]) == ("ExeScript command exited with code 3", "err")
        assert len(await ask.get(f"{path}/exec/{batch}?timeout=1&commandIndex=0")) == 1
        assert (await ask("GET", f"{path}/exec/{batch}?timeout=0.05&commandIndex=2"))[0] == 408
        usage = (await ask.get(f"{path}/usage"))["currentUsage"]
        assert (usage[0] > 0, usage[1]) == (True, 5.0)
        quiet = {"run": {"entry_point": "d", "args": ["0"], "capture": {"stdout": {"atEnd": {"head": 3}}}}}
        (item,) = await ask.results(activity, await ask.execute(activity, quiet))
        assert (item["stdout"], item["stderr"]) == ("out", None)
        for text, status in (("no json", 400), ("{}", 400), ('[{"bogus":{}}]', 400)):
            assert (await ask("POST", f"{path}/exec", {"text": text}))[0] == status
        assert await ask.get(path, method="DELETE") is None
        assert await ask.get(f"{path}/state") == {"state": ["Terminated", None]}
        assert await ask("POST", f"{path}/exec", {"text": "[]"}) == (500, {"message": RECEIVER_CANCELLED})
        assert (await ask("GET", f"{ACTIVITY}/activity/{'0' * 32}/state"))[0] == 500


async def test_commands_run_one_at_a_time(tmp_path: Path) -> None:
    provider, hang = ProviderDouble("one", handler=HostCommands()), Hang()
    provider.plan(Moment.RUN, hang)
    async with world(tmp_path, provider) as (_, requestor):
        ask = requestor()
        activity = await ask.ready(await ask.agree())
        slow = await ask.execute(activity, run("/bin/true"))
        (refused,) = await ask.results(activity, await ask.execute(activity, run("/bin/true")))
        assert (refused["result"], refused["message"]) == ("Error", "Busy: Ready, Ready")
        hang.release()
        assert states(await ask.results(activity, slow)) == ["Ok"]
        # ``terminate`` ends what runs, and the activity may be deployed anew.
        provider.plan(Moment.RUN, Hang())
        await ask.execute(activity, run("/bin/true"))
        script = ({"terminate": {}}, {"deploy": {}}, {"start": {"args": []}}, run("/bin/true"))
        assert states(await ask.results(activity, await ask.execute(activity, *script))) == ["Ok"] * 4


async def test_a_batch_that_fails_midway_is_told_when_the_poll_ends(tmp_path: Path) -> None:
    provider = ProviderDouble("one")
    async with world(tmp_path, provider, patience=0.5) as (_, requestor):
        ask = requestor()
        activity = await ask.ready(await ask.agree())
        began = time.monotonic()
        batch = await ask.execute(activity, run("nothing"), run("nothing"))
        assert states(await ask.results(activity, batch, 1)) == ["Error"]
        assert 0.4 < time.monotonic() - began < 0.95
        began = time.monotonic()
        assert states(await ask.results(activity, await ask.execute(activity, run("nothing")), 5)) == ["Error"]
        assert time.monotonic() - began < 0.4


async def test_files_travel_through_the_stub_of_gftp(tmp_path: Path) -> None:
    provider = ProviderDouble("one")
    provider.plan(Moment.DOWNLOAD, Corrupt(lambda data: data[::-1]), nth=2)
    async with world(tmp_path, provider) as (yagna, requestor), gftp(yagna) as call:
        ask = requestor()
        sent, got = tmp_path / "sent", tmp_path / "got"
        sent.write_bytes(b"some bytes")
        activity = await ask.ready(await ask.agree())

        async def move(source: str, target: str) -> dict[str, Any]:
            (result,) = await ask.results(activity, await ask.execute(activity, transfer(source, target)))
            return result

        assert (await call("version"))["result"].split()[0] == "0.7.3"
        (link,) = (await call("publish", files=[str(sent)]))["result"]
        assert link["url"].startswith(f"gftp://{await ask.me()}/")
        assert (await call("publish", files=[str(sent)]))["result"] == [link]
        target = (await call("receive", output_file=str(got)))["result"]["url"]
        assert (await move(link["url"], "container:/golem/work/a"))["result"] == "Ok"
        assert (await move("container:/golem/work/a", target))["result"] == "Ok"
        assert got.read_bytes() == b"some bytes"
        assert (await move("container:/golem/work/a", target))["result"] == "Ok"
        assert got.read_bytes() == b"setyb emos"
        for source, place, message in (
            (link["url"], "container:/etc/passwd", "path not found in container: /etc/passwd"),
            (link["url"], "container:/golem/work/../x", "path not found in container"),
            ("container:/golem/work/missing", target, "No such file"),
            (f"gftp://{NOWHERE}/unheard", "container:/golem/work/b", "not published"),
            ("ftp://host/file", "container:/golem/work/b", "unsupported scheme"),
        ):
            result = await move(source, place)
            assert (result["result"], message in result["message"]) == ("Error", True), result
        assert (await call("close", urls=[link["url"], link["url"]]))["result"] == ["ok", "error"]
        assert "not published" in (await move(link["url"], "container:/golem/work/a"))["message"]
        assert (await call("publish", files=["/no/such/file"]))["error"]["message"]
        assert (await call("nonsense"))["error"]["code"] == -32601
        assert (await call("shutdown"))["result"] == "ok"


@asynccontextmanager
async def gftp(yagna: YagnaDouble) -> AsyncIterator[Callable[..., Any]]:
    process = await asyncio.create_subprocess_shell(
        "gftp server", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=yagna.environment
    )

    async def call(method: str, **params: Any) -> Any:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(
            json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n"
        )
        return json.loads(await process.stdout.readline())

    try:
        yield call
        assert await asyncio.wait_for(process.wait(), 5) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_commands_of_our_images_are_answered_without_a_model(tmp_path: Path) -> None:
    runtime = FakeRuntime()
    async with world(tmp_path, ProviderDouble("one", handler=runtime)) as (yagna, requestor):
        ask = requestor()
        activity = await ask.ready(await ask.agree())
        missing = JobInput("id-x", "bafkpicture", "missing.png", 1)
        job = packed(yagna.activities.all()[0].directory, {f"{i}.png": b"picture %d" % i for i in range(3)}, missing)
        done = await ask.results(
            activity,
            await ask.execute(
                activity,
                run(*RUNTIME, "start"),
                run(*RUNTIME, "run", "/golem/work/task.tar", "/golem/work/result.json"),
                run(*RUNTIME, "run", "/golem/work/absent.tar", "/golem/work/result.json"),
            ),
        )
        assert states(done) == ["Ok", "Ok", "Error"]
        assert set(json.loads(done[0]["stdout"])) == {"engine", "avx", "cpus", "load_seconds", "images_per_second"}
        result = JobResult.from_json((yagna.activities.all()[0].directory / "result.json").read_text(), job)
        assert [[label[0] for label in item.labels] for item in result.items] == [[1, 0, 2]] * 3 + [[]]
        assert runtime.jobs == ["job-1"]


def packed(folder: Path, pictures: dict[str, bytes], *more: JobInput) -> Job:
    """Put a task with these pictures into an activity's folder."""
    model = JobModel("bafkmanifest", json.loads((MNIST / "manifest.json").read_text()), str(MNIST / "weights.npz"))
    inputs = tuple(JobInput(f"id-{name}", "bafkpicture", name, len(data)) for name, data in pictures.items())
    job = Job("job-1", model, (*inputs, *more), 1000, 10)
    with tarfile.open(folder / "task.tar", "w") as archive:
        for name, data in {**pictures, "job.json": job.to_json().encode()}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return job


async def test_the_real_runtime_can_run_on_this_machine_instead(tmp_path: Path) -> None:
    async with world(tmp_path, ProviderDouble("one", handler=HostCommands())) as (yagna, requestor):
        ask = requestor()
        activity = await ask.ready(await ask.agree())
        folder, picture = yagna.activities.all()[0].directory, io.BytesIO()
        draw_digit(7, 7).save(picture, "PNG")
        job = packed(folder, {"seven.png": picture.getvalue()})
        task = run(*RUNTIME, "run", "/golem/work/task.tar", "/golem/work/result.json")
        done = await ask.results(activity, await ask.execute(activity, run(*RUNTIME, "start"), task), 25)
        assert states(done) == ["Ok", "Ok"], done
        assert json.loads(done[0]["stdout"])["images_per_second"] > 0
        result = JobResult.from_json((folder / "result.json").read_text(), job)
        assert result.items[0].labels[0][0] == 7


async def test_a_command_can_run_on_this_machine_instead(tmp_path: Path) -> None:
    async with world(tmp_path, ProviderDouble("one", handler=HostCommands())) as (yagna, requestor):
        ask = requestor()
        activity = await ask.ready(await ask.agree())
        code = "import sys; open('/golem/work/x', 'w').write('y'); print('said'); sys.exit(int(sys.argv[1]))"
        scripts = [run("/usr/bin/python3", "-c", code, "0"), run("/usr/bin/python3", "-c", code, "4")]
        done = await ask.results(activity, await ask.execute(activity, *scripts))
        assert [(item["stdout"], item["result"]) for item in done] == [("said\n", "Ok"), ("said\n", "Error")]
        assert (yagna.activities.all()[0].directory / "x").read_text() == "y"


async def test_the_same_story_is_told_twice_in_the_same_words(tmp_path: Path) -> None:
    async def story(directory: Path, seed: int) -> tuple[list[str], list[str]]:
        async with world(directory, ProviderDouble("one"), seed=seed) as (yagna, requestor):
            ask = requestor()
            demand = await ask.subscribe()
            agreement = await ask.agree(demand)
            activity = await ask.ready(agreement)
            await ask.events(demand, 0)
            await ask.get(f"{ACTIVITY}/activity/{activity}", method="DELETE")
            return yagna.journal.forms(), [demand, agreement, activity]

    one, same, other = [await story(tmp_path / str(i), seed) for i, seed in enumerate((1, 1, 2))]
    assert one == same
    assert (one[0] == other[0], set(one[1]) & set(other[1])) == (True, set())
    assert 'POST /activity-api/v1/activity "<agreement>" -> 200 "<activity>"' in one[0]
    assert len(one[0]) == 11


async def test_a_requestor_finds_it_by_its_environment(tmp_path: Path) -> None:
    async with world(tmp_path) as (yagna, _), aiohttp.ClientSession() as session:
        found = yagna.environment
        key, subnet = found["YAGNA_APPKEY"], found["YAGNA_SUBNET"]
        ask = RestRequestor(session, found["YAGNA_API_URL"], key, subnet, yagna.platform)
        assert await ask.me() == yagna.keys[key][0]
