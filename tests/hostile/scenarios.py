"""The table of scenarios: what happens over time or on the way to the API, as people see it.

Each row is lived through by the test that it names, once for each kind of it. What stands as `code` was seen,
letter for letter, on /metrics, on the landing page, in the log or from `check`; the other words are what the
test asserts. /-/healthy and /-/ready are 200 throughout.
"""

from dataclasses import dataclass

TIMES, NETWORK = "test_hostile_times.py", "test_hostile_network.py"


@dataclass(frozen=True)
class Scenario:
    """What happens, what is to be seen meanwhile and after it; `test` is file and function."""

    name: str
    during: str
    after: str
    test: str


def scenario(test: str) -> Scenario:
    """Return the row that a test function lives through."""
    return next(row for row in SCENARIOS if row.test.endswith(f"::{test}"))


SCENARIOS: tuple[Scenario, ...] = (
    # The API refuses.
    Scenario(
        "Credentials are refused: the key (401), billing (402) or permissions (403)",
        "`cohere_up 0`, models until stale. One line: `poll failed`, with the status and the "
        "API's message; none at later polls. *check* exits with 1 and says `what to do: `. Polling backs "
        "off exponentially from the second refusal on, up to 15 minutes.",
        "A changed key file ends the backoff within a second: `the API key has changed; polling at "
        "once`, `poll succeeded again`.",
        f"{TIMES}::test_a_refused_key_is_asked_with_less_and_less_often_until_it_is_renewed",
    ),
    Scenario(
        "Fine-tuning API not found (404, 410: “was removed”)",
        "`cohere_up 0`, reason `gone`; message `fine-tuning was removed on September 15, 2025`; *check*"
        " says `check --cohere.base-url and its path prefix`. Backs off "
        "exponentially, up to 10 minutes.",
        "At the next poll, 10 minutes later at most: `cohere_up 1`, `poll succeeded again`.",
        f"{TIMES}::test_an_api_that_is_gone_is_looked_for_every_ten_minutes",
    ),
    Scenario(
        "The monthly quota is used up (429)",
        "`cohere_up 0`, reason `rate_limited`; `limited to 1000 API calls / month`; *check* says `Wait "
        "until the quota renews`. Not retried within a poll; backs off exponentially, "
        "up to an hour.",
        "At the next poll, an hour later at most: `cohere_up 1`, `poll succeeded again`.",
        f"{TIMES}::test_a_spent_month_is_asked_about_every_hour",
    ),
    Scenario(
        "429 with any form of `Retry-After`",
        "`cohere_up 0`, reason `rate_limited`. Seconds and dates are honoured, up to an hour, the "
        "longest of several; past dates, garbage, fractions, negative numbers and empty values are "
        "ignored. The landing page shows the backoff: `backing off, the next one in`.",
        "At the poll after that: `cohere_up 1`, `poll succeeded again`.",
        f"{TIMES}::test_every_form_of_retry_after_is_kept_to_or_passed_over",
    ),
    Scenario(
        "429 for step metrics alone",
        "`cohere_up 1`: statuses stay fresh at each interval. `step metrics cannot be read; last good "
        "values stay`, once; step metrics are not requested before that time. *check* exits with "
        "0 and says `step metrics of 1 model could not be read: HTTP 429: slow down`.",
        "`step metrics can be read again`.",
        f"{TIMES}::test_a_rest_for_step_metrics_leaves_the_list_alone",
    ),
    # The API fails for a while, or in part.
    Scenario(
        "5xx for a second (transient)",
        "`cohere_up 1`: the request is retried, up to twice. Not logged; "
        "`cohere_exporter_api_retries_total` counts.",
        "`cohere_up 1`.",
        f"{TIMES}::test_a_failure_of_a_second_is_tried_again_and_not_worth_a_line",
    ),
    Scenario(
        "5xx for a minute",
        '`cohere_up 0`, `cohere_exporter_poll_failures_total{reason="server_error"} 1`; models stay. '
        "`poll failed`, `HTTP 503: unavailable`. *check* exits with 1 and says `Nothing to do "
        "here`.",
        "At the next poll: `cohere_up 1`, `poll succeeded again`, `failed_polls=1`.",
        f"{TIMES}::test_a_failure_of_a_minute_costs_a_poll_and_no_model",
    ),
    Scenario(
        "5xx for longer than `--poll.stale-after`",
        "`cohere_up 0`. Models are served until `cohere_exporter_stale_after_seconds 300` have passed, "
        "to the second; then all model metrics are absent: `data is stale: metrics of models are absent "
        "until a poll succeeds`. Landing page: `the data is stale`.",
        "At the next poll: `cohere_up 1`, `poll succeeded again`, every model.",
        f"{TIMES}::test_a_failure_without_end_ends_as_a_gap",
    ),
    Scenario(
        "A permanent 500 for one model's step metrics",
        "`cohere_up 1`; the model keeps its last good values, the others are unaffected. One line: `step "
        "metrics cannot be read; last good values stay`, `HTTP 500: nil`. Retries back off, to "
        "every ninth poll. *check* exits with 0 and says `step metrics of 1 model could not be "
        "read: HTTP 500: nil`.",
        "Within nine polls: `step metrics can be read again`.",
        f"{TIMES}::test_a_failure_on_one_model_costs_that_model_alone",
    ),
    # Clocks.
    Scenario(
        "The wall clock jumps between polls, by a year, forward or back",
        "`cohere_up 1`, or what it was: polls, backoff and staleness use the monotonic clock. "
        "Timestamps follow at the next poll; nothing is negative. The landing page says `every 1 min`.",
        "`cohere_up 1`.",
        f"{TIMES}::test_a_wall_clock_that_jumps_moves_no_poll_and_no_cut_off",
    ),
    Scenario(
        "The wall clock jumps during a poll",
        "`cohere_up 1`; the poll's duration is right; the next poll follows after the interval.",
        "`cohere_up 1`.",
        f"{TIMES}::test_a_wall_clock_that_jumps_during_a_poll_makes_it_no_longer",
    ),
    Scenario(
        "The machine sleeps for hours",
        "After waking, stale models are dropped (landing page: `the data is stale`) and a poll starts at "
        "once: `cohere_up 1`. Missed polls are not made up for.",
        "`cohere_up 1`; the next poll an interval later.",
        f"{TIMES}::test_a_machine_that_slept_for_hours_polls_once_and_at_once",
    ),
    # The key file.
    Scenario(
        "The key file vanishes, is empty, holds junk or is a directory",
        "`cohere_up 1`: the last good key stays in use. Logged once per change: `the API "
        "key file cannot be reloaded; the last good key stays in use`, with `No such file or directory`, "
        "` is empty`, `cannot be an API key: a key is one line of printable ASCII without blanks` or `Is a "
        "directory`; `cohere_exporter_reload_successful` 0 for `api_key`. Starting, or *check*, exits "
        "with 2 and one line `--cohere.api-key-file: `. The content is never shown.",
        "`the API key file can be used again`, `cohere_up 1`.",
        f"{TIMES}::test_a_key_file_that_cannot_be_used_leaves_the_last_good_key_in_use",
    ),
    Scenario(
        "The key is rotated during a poll: between two pages, before step metrics, before a retry",
        "`cohere_up 1`: the next request uses the new key. Not logged.",
        "`cohere_up 1`.",
        f"{TIMES}::test_a_key_that_is_renewed_during_a_poll_is_used_from_the_next_request_on",
    ),
    Scenario(
        "The old key is revoked before the new one is in place, at the list or between two pages",
        "`cohere_up 0`, reason `unauthorized`, `HTTP 401: invalid api token`; models stay. *check* exits"
        " with 1 and says `Check the key`.",
        "Within a second of the new file: `the API key has changed; polling at once`, `cohere_up 1`.",
        f"{TIMES}::test_a_key_that_is_revoked_before_it_is_renewed_costs_one_poll",
    ),
    # Redirects.
    Scenario(
        "A redirect (300 to 308), to another host, to itself or nowhere",
        "Never followed: no other host gets a request or the key. `HTTP 301: a redirect, which "
        "is not followed; give the final address as --cohere.base-url`; the target is "
        "not shown.",
        "`cohere_up 1`.",
        f"{NETWORK}::test_a_redirect_is_never_followed",
    ),
    # TLS.
    Scenario(
        "The API's certificate cannot be trusted, or expires while the exporter runs",
        "`cohere_up 0`, reason `connection`; models stay. The log and *check* say what is wrong"
        " in one line, such as `its certificate has expired`, `its certificate is not valid yet`, `its "
        "certificate is for another name`, `its certificate is signed by a CA that is not trusted here`; "
        "*check* adds what to do: `Renew the API's certificate`, `Use a name from the certificate`, `Give "
        "the CA that signed it`.",
        "With the certificate renewed, at the next poll: `cohere_up 1`.",
        f"{NETWORK}::test_a_certificate_that_cannot_be_trusted_is_told_for_what_it_is",
    ),
    Scenario(
        "The TLS handshake fails",
        "`cohere_up 0`, reason `connection`: `it does not speak TLS`, `it speaks no TLS of version 1.2 or "
        "later`, `it asks for a client certificate`, `it broke off the TLS handshake`.",
        "`cohere_up 1`, `poll succeeded again`.",
        f"{NETWORK}::test_a_handshake_that_fails_is_told_in_words",
    ),
    Scenario(
        "The TLS handshake hangs",
        "`cohere_up 0`, reason `timeout`: `no complete response within` the timeout; models stay.",
        "`cohere_up 1`, `poll succeeded again`.",
        f"{NETWORK}::test_a_handshake_that_hangs_ends_by_the_deadline",
    ),
    Scenario(
        "http:// where the API speaks TLS",
        "`cohere_up 0`, reason `connection`: `it closed the connection without a response`. *check* exits "
        "with 1 and asks `is it https instead of http`.",
        "`cohere_up 1`, `poll succeeded again`.",
        f"{NETWORK}::test_http_where_tls_is_spoken_is_told_in_words",
    ),
    # Names and addresses.
    Scenario(
        "The API moves to another address (DNS); the old one refuses, resets or hangs",
        "`cohere_up 1`, nothing logged: the poll continues at the new address. Names are "
        "resolved for each new connection.",
        "`cohere_up 1`.",
        f"{NETWORK}::test_an_api_that_moves_is_found_at_its_new_address",
    ),
    Scenario(
        "The API's address drops all packets until DNS points to another",
        "`cohere_up 0`, reason `timeout`: `no complete response within` the timeout; models stay.",
        "At the first poll after the DNS change: `cohere_up 1`, `poll succeeded again`.",
        f"{NETWORK}::test_an_address_that_becomes_a_black_hole_costs_what_its_name_takes_to_move",
    ),
    Scenario(
        "The API's name cannot be resolved, or all its addresses are unreachable",
        "`cohere_up 0`, reason `connection`: `Name or service not known`, `Temporary failure in name "
        "resolution`, `Connection refused`; models stay. *check* exits with 1 and says `DNS, proxy and "
        "firewall`.",
        "`cohere_up 1`, `poll succeeded again`.",
        f"{NETWORK}::test_a_name_that_cannot_be_looked_up_fails_the_poll_and_no_more",
    ),
    Scenario(
        "The DNS resolver hangs",
        "`cohere_up 0`, reason `timeout`: `no complete response within` the timeout. Scrapes go on; "
        "the number of waiting threads is bounded.",
        "`cohere_up 1`, `poll succeeded again`.",
        f"{NETWORK}::test_a_resolver_that_hangs_holds_up_neither_deadline_nor_pages",
    ),
    Scenario(
        "The first of several addresses is dead: it refuses or drops",
        "`cohere_up 1`, nothing logged: the next address is tried after a quarter of a second.",
        "`cohere_up 1`.",
        f"{NETWORK}::test_an_address_that_is_dead_is_passed_over",
    ),
    Scenario(
        "The API has only an IPv6 address",
        "`cohere_up 1`.",
        "`cohere_up 1`.",
        f"{NETWORK}::test_an_api_on_ipv6_alone_is_reached",
    ),
    # Proxies.
    Scenario(
        "The proxy is dead, refuses (403, 407), answers nonsense, or leaves",
        "`cohere_up 0`, reason `connection`; models stay: `cannot connect to the proxy 127.0.0.1:`, `the "
        "proxy refuses: HTTP 403`, `the proxy asks for a user name and password (HTTP 407)`, `it does "
        "not speak HTTP`, `it closed the connection without a response`. Its password and its "
        "message are not shown.",
        "`cohere_up 1`.",
        f"{NETWORK}::test_a_proxy_that_fails_is_told_with_its_address_and_without_its_password",
    ),
    Scenario(
        "Behind the proxy, the API's TLS handshake fails or hangs, repeatedly",
        "`cohere_up 0`: `through the proxy 127.0.0.1:`, `its certificate is for another name`, `it "
        "broke off the TLS handshake`, or `no complete response within` the timeout; even with one "
        "connection allowed, none is leaked.",
        "`cohere_up 1`.",
        f"{NETWORK}::test_a_handshake_that_fails_behind_a_proxy_leaves_room_for_the_next",
    ),
    # Connections that are kept.
    Scenario(
        "The API closes each connection after its response, announced or not",
        "`cohere_up 1`, nothing logged.",
        "`cohere_up 1`.",
        f"{NETWORK}::test_connections_that_end_after_each_answer_cost_nothing",
    ),
    Scenario(
        "An idle connection breaks just as the next request is sent",
        "`cohere_up 1`, nothing logged: the request is retried on a new one.",
        "`cohere_up 1`.",
        f"{NETWORK}::test_a_kept_connection_that_dies_under_a_request_is_replaced",
    ),
    Scenario(
        "Timeouts before and within the response, repeatedly",
        "`cohere_up 0`, reason `timeout`; even with one connection allowed, none is leaked.",
        "`cohere_up 1`, `poll succeeded again`.",
        f"{NETWORK}::test_deadlines_that_pass_in_every_phase_leak_no_connection",
    ),
)
