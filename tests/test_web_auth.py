"""Basic authentication: who comes in, what it costs, and what a flood of guesses does to the others."""

import asyncio
import base64
import threading
from collections.abc import Iterator

import pytest
from bcrypt import checkpw, gensalt, hashpw
from pydantic import ValidationError

from exporter.web.auth import BasicAuth, TooManyLogins
from exporter.web.config_schema import WebConfig
from tests.certificates import HASH, PASSWORD
from tests.conftest import settle, until

pytestmark = pytest.mark.anyio

ALICE = "alice"
DEARER = HASH.replace("$04$", "$06$")  # nobody knows the password of this one


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Bcrypt:
    """Stands for bcrypt: counts, and holds checks back for as long as a test wants."""

    def __init__(self) -> None:
        self.costs: list[int] = []
        self.at_once = self.most_at_once = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, password: bytes, hashed: bytes, /) -> bool:
        assert len(password) <= 72
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        assert self.may_go_on.wait(20)
        self.costs.append(int(hashed[4:6]))
        self.at_once -= 1
        return hashed == HASH.encode() and password == PASSWORD.encode()

    @property
    def rounds(self) -> int:
        return sum(2**cost for cost in self.costs)


@pytest.fixture
def bcrypt() -> Iterator[Bcrypt]:
    bcrypt = Bcrypt()
    yield bcrypt
    bcrypt.may_go_on.set()


# Who comes in


@pytest.mark.parametrize(
    ("header", "admitted"),
    [
        (basic(ALICE, PASSWORD), True),
        (basic(ALICE, PASSWORD).replace("Basic", "bAsIc"), True),
        (basic(ALICE, PASSWORD + "x"), False),
        (basic(ALICE, ""), False),
        (basic("Alice", PASSWORD), False),
        (basic("", PASSWORD), False),
        ("", False),
        ("Basic", False),
        ("Basic !", False),
        ("Basic " + base64.b64encode(b"no colon").decode(), False),
        ("Basic ä", False),
        (basic(ALICE, PASSWORD).replace("Basic", "Bearer"), False),
        (basic(ALICE, "a\0b"), False),
        ("Basic " + base64.b64encode(b"alice:\xff\xfe").decode(), False),
    ],
)
async def test_only_a_user_with_the_password_comes_in(header: str, admitted: bool) -> None:
    logins = BasicAuth({ALICE: HASH})  # with bcrypt itself
    assert await logins.admit(header) is admitted
    assert await logins.admit(header) is admitted


@pytest.mark.parametrize("version", ["2a", "2b", "2y"])
async def test_every_version_of_bcrypt_that_is_in_use_is_known(version: str) -> None:
    assert await BasicAuth({ALICE: HASH.replace("2b", version)}).admit(basic(ALICE, PASSWORD))


@pytest.mark.parametrize("last_of_salt", [*"./AOZaeuz09"])
def test_every_hash_that_the_file_may_hold_can_be_checked(last_of_salt: str) -> None:
    hashed = HASH[:28] + last_of_salt + HASH[29:]
    try:
        WebConfig(basic_auth_users={ALICE: hashed})
    except ValidationError:
        assert last_of_salt not in ".Oeu"
    else:
        assert checkpw(PASSWORD.encode(), hashed.encode()) is (hashed == HASH)


async def test_a_long_password_counts_up_to_its_72nd_byte_as_in_the_toolkit() -> None:
    hashed = hashpw(b"x" * 72, gensalt(4)).decode()
    logins = BasicAuth({ALICE: hashed})
    assert await logins.admit(basic(ALICE, "x" * 100))
    assert not await logins.admit(basic(ALICE, "x" * 71))


async def test_a_name_and_a_password_may_hold_anything_that_utf_8_has(bcrypt: Bcrypt) -> None:
    assert await BasicAuth({"zoë": HASH}, bcrypt).admit(basic("zoë", PASSWORD))
    assert not await BasicAuth({ALICE: HASH}, bcrypt).admit(basic(ALICE, "a:b:c"))


async def test_nobody_comes_in_by_the_hash_that_stands_for_nobody() -> None:
    logins = BasicAuth({ALICE: HASH}, lambda password, hashed: True)
    assert not await logins.admit(basic("nobody", "anything"))
    assert await logins.admit(basic(ALICE, "anything"))


# What it costs


async def test_a_check_is_made_once_for_each_result(bcrypt: Bcrypt) -> None:
    logins = BasicAuth({ALICE: HASH}, bcrypt)
    for _ in range(3):
        assert await logins.admit(basic(ALICE, PASSWORD))
        assert not await logins.admit(basic(ALICE, "wrong"))
        assert not await logins.admit(basic("nobody", PASSWORD))
    assert len(bcrypt.costs) == 3


async def test_scrapes_at_once_share_one_check(bcrypt: Bcrypt) -> None:
    logins = BasicAuth({ALICE: HASH}, bcrypt)
    assert all(await asyncio.gather(*[logins.admit(basic(ALICE, PASSWORD)) for _ in range(8)]))
    assert len(bcrypt.costs) == 1


@pytest.mark.parametrize(
    ("users", "costs"),
    [
        ({ALICE: HASH}, {(4,)}),
        ({ALICE: HASH, "bob": DEARER}, {(6,), (4, 4, 5)}),
    ],
)
async def test_every_attempt_costs_the_same_rounds_whoever_tries(
    users: dict[str, str], costs: set[tuple[int, ...]]
) -> None:
    seen, rounds = set(), set()
    for user, password in (
        (ALICE, PASSWORD),
        (ALICE, "wrong"),
        ("bob", "wrong"),
        ("nobody", "wrong"),
        ("", ""),
    ):
        bcrypt = Bcrypt()
        await BasicAuth(users, bcrypt).admit(basic(user, password))
        seen.add(tuple(bcrypt.costs))
        rounds.add(bcrypt.rounds)
    assert seen == costs
    assert len(rounds) == 1


async def test_no_password_is_kept(bcrypt: Bcrypt) -> None:
    kept = []
    for _ in range(2):
        logins = BasicAuth({ALICE: HASH}, bcrypt)
        await logins.admit(basic(ALICE, PASSWORD))
        assert logins.remembers(basic(ALICE, PASSWORD))
        for secret in (PASSWORD, base64.b64encode(PASSWORD.encode()).decode()):
            assert secret not in repr(vars(logins))
        kept.append({key for held in vars(logins).values() if isinstance(held, dict) for key in held})
    # And what is kept is worth nothing to another process.
    assert kept[0] & kept[1] == {ALICE.encode()}


async def test_user_and_password_are_told_apart(bcrypt: Bcrypt) -> None:
    logins = BasicAuth({ALICE: HASH}, bcrypt)
    await logins.admit(basic("ab", "c"))
    assert (logins.remembers(basic("ab", "c")), logins.remembers(basic("a", "bc"))) == (False, None)


# A flood of guesses


async def test_guesses_push_out_only_guesses(bcrypt: Bcrypt) -> None:
    logins = BasicAuth({ALICE: HASH}, bcrypt)
    assert await logins.admit(basic(ALICE, PASSWORD))
    for guess in range(300):
        await logins.admit(basic(ALICE, str(guess)))
    checks = len(bcrypt.costs)
    assert await logins.admit(basic(ALICE, PASSWORD))
    assert len(bcrypt.costs) == checks
    assert sum(logins.remembers(basic(ALICE, str(guess))) is False for guess in range(300)) == 100


async def test_one_check_runs_at_a_time_and_a_known_user_does_not_wait(bcrypt: Bcrypt) -> None:
    logins = BasicAuth({ALICE: HASH}, bcrypt)
    assert await logins.admit(basic(ALICE, PASSWORD))
    bcrypt.may_go_on.clear()
    guesses = [asyncio.create_task(logins.admit(basic(ALICE, str(i)))) for i in range(5)]
    await until(lambda: bcrypt.at_once == 1)
    assert logins.remembers(basic(ALICE, PASSWORD))
    assert logins.remembers(basic(ALICE, "1")) is None
    assert logins.remembers("Bearer x") is False
    bcrypt.may_go_on.set()
    assert not any(await asyncio.gather(*guesses))
    assert bcrypt.most_at_once == 1


async def test_name_servers_that_hang_keep_nobody_out(bcrypt: Bcrypt) -> None:
    resolver, loop = threading.Event(), asyncio.get_running_loop()
    # asyncio looks names up in threads of its own, of which there are no more than 32.
    lookups = [loop.run_in_executor(None, resolver.wait) for _ in range(40)]
    try:
        async with asyncio.timeout(60):
            assert await BasicAuth({ALICE: HASH}, bcrypt).admit(basic(ALICE, PASSWORD))
        assert not any(lookup.done() for lookup in lookups)
    finally:
        resolver.set()
        await asyncio.gather(*lookups)


async def test_all_together_wait_with_so_many(bcrypt: Bcrypt) -> None:
    logins = BasicAuth({ALICE: HASH}, bcrypt)
    bcrypt.may_go_on.clear()
    guesses = [asyncio.create_task(logins.admit(basic(ALICE, str(i)))) for i in range(100)]
    await settle()
    assert sum(guess.done() for guess in guesses) == 36
    bcrypt.may_go_on.set()
    await asyncio.wait(guesses)
    assert all(isinstance(guess.exception(), TooManyLogins) for guess in guesses if guess.exception())


async def test_one_who_gives_up_leaves_his_place(bcrypt: Bcrypt) -> None:
    logins = BasicAuth({ALICE: HASH}, bcrypt)
    bcrypt.may_go_on.clear()
    waiting = [asyncio.create_task(logins.admit(basic(ALICE, str(i)))) for i in range(64)]
    await settle()
    with pytest.raises(TooManyLogins):
        await logins.admit(basic(ALICE, PASSWORD))
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    bcrypt.may_go_on.set()
    assert await logins.admit(basic(ALICE, PASSWORD))
    assert not any(await asyncio.gather(*(logins.admit(basic(ALICE, str(i))) for i in range(64))))
