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
    """Give the row that a test function lives through."""
    return next(row for row in SCENARIOS if row.test.endswith(f"::{test}"))


SCENARIOS: tuple[Scenario, ...] = (
    # The API refuses.
    Scenario(
        "The key is refused (401), or billing (402) or rights (403) stand in the way",
        "`cohere_up 0`, models until the cut-off. One line: `poll failed`, with the status "
        "and the API's words; none at later polls. *check* ends with 1 and says `what to do: `. Pauses "
        "double from the second refusal on, up to 15 minutes.",
        "A key file that changes ends the pause within a second: `the API key has changed; polling at "
        "once`, `poll succeeded again`.",
        f"{TIMES}::test_a_refused_key_is_asked_with_less_and_less_often_until_it_is_renewed",
    ),
    Scenario(
        "Nothing is there (404, 410: “was removed”)",
        "`cohere_up 0`, reason `gone`; message `fine-tuning was removed on September 15, 2025`; *check*"
        " says `Look at --cohere.base-url and its path prefix`. Pauses double up to 10 minutes.",
        "At the next poll, 10 minutes later at most: `cohere_up 1`, `poll succeeded again`.",
        f"{TIMES}::test_an_api_that_is_gone_is_looked_for_every_ten_minutes",
    ),
    Scenario(
        "The calls of the month are spent (429)",
        "`cohere_up 0`, reason `rate_limited`; `limited to 1000 API calls / month`; *check* says `Wait "
        "until the quota renews`. Never tried again within a poll; pauses double up to an hour.",
        "At the next poll, an hour later at most: `cohere_up 1`, `poll succeeded again`.",
        f"{TIMES}::test_a_spent_month_is_asked_about_every_hour",
    ),
    Scenario(
        "429 with any form of Retry-After",
        "`cohere_up 0`, reason `rate_limited`. Seconds and dates are kept to, up to an hour, the "
        "longest of several; a date that is past, garbage, fractions, negative numbers and none are "
        "passed over. The landing page tells the pause: `after this failure the next one in`.",
        "At the poll after that: `cohere_up 1`, `poll succeeded again`.",
        f"{TIMES}::test_every_form_of_retry_after_is_kept_to_or_passed_over",
    ),
    Scenario(
        "429 for step metrics alone",
        "`cohere_up 1`: statuses stay fresh at each interval. `step metrics cannot be read; last good "
        "values stay`, once; step metrics are not asked for before the rest is over. *check* ends with "
        "0 and says `step metrics of 1 model could not be read: HTTP 429: slow down`.",
        "`step metrics can be read again`.",
        f"{TIMES}::test_a_rest_for_step_metrics_leaves_the_list_alone",
    ),
    # The API fails for a while, or in part.
    Scenario(
        "5xx for a second",
        "`cohere_up 1`: the request is sent again, up to twice. No line; "
        "`cohere_exporter_api_retries_total` counts.",
        "`cohere_up 1`.",
        f"{TIMES}::test_a_failure_of_a_second_is_tried_again_and_not_worth_a_line",
    ),
    Scenario(
        "5xx for a minute",
        '`cohere_up 0`, `cohere_exporter_poll_failures_total{reason="server_error"} 1`; models stay. '
        "`poll failed`, `HTTP 503: unavailable`. *check* ends with 1 and says `Nothing to do "
        "here`.",
        "At the next poll: `cohere_up 1`, `poll succeeded again`, `failed_polls=1`.",
        f"{TIMES}::test_a_failure_of_a_minute_costs_a_poll_and_no_model",
    ),
    Scenario(
        "5xx without end",
        "`cohere_up 0`. Models stay until `cohere_exporter_stale_after_seconds 300` are over, to the "
        "second; then every family of theirs is absent: `data is stale: metrics of models are absent "
        "until a poll succeeds`. Landing page: `what is known is stale`.",
        "At the next poll: `cohere_up 1`, `poll succeeded again`, every model.",
        f"{TIMES}::test_a_failure_without_end_ends_as_a_gap",
    ),
    Scenario(
        "A 500 that always comes for one model's step metrics",
        "`cohere_up 1`; the model keeps its last good values, the others' go on. One line: `step "
        "metrics cannot be read; last good values stay`, `HTTP 500: nil`. Asked for ever more seldom, "
        "every ninth poll at last. *check* ends with 0 and says `step metrics of 1 model could not be "
        "read: HTTP 500: nil`.",
        "Within nine polls: `step metrics can be read again`.",
        f"{TIMES}::test_a_failure_on_one_model_costs_that_model_alone",
    ),
    Scenario(
        "Every other request fails",
        "`cohere_up 1` at every poll, no line; `cohere_exporter_api_retries_total` counts.",
        "`cohere_up 1`.",
        f"{TIMES}::test_an_api_that_fails_every_other_request_is_polled_well",
    ),
    Scenario(
        "One page of twenty fails now and then",
        "Twice in a row costs nothing. Three times costs the poll: `cohere_up 0`, `HTTP 503: "
        "unavailable`; the models of all twenty pages stay.",
        "`cohere_up 1`, `poll succeeded again`.",
        f"{TIMES}::test_one_page_of_twenty_that_fails_sometimes_costs_nothing_or_one_poll",
    ),
    Scenario(
        "Answers come after the deadline",
        "`cohere_up 0`, reason `timeout`: `no complete response within` the deadline. *check* ends with 1 "
        "and says `raise --cohere.timeout`. What comes late reaches nobody.",
        "`cohere_up 1`, `poll succeeded again`, no trace of the late answer.",
        f"{TIMES}::test_answers_after_the_deadline_are_nobody_s",
    ),
    # Clocks.
    Scenario(
        "The wall clock jumps between polls, by an hour or a year, forward or back",
        "`cohere_up 1`, or what it was: polls, pauses and the cut-off go by the monotonic clock. "
        "Timestamps follow at the next poll; nothing is negative. The landing page says `every 1 min`.",
        "`cohere_up 1`.",
        f"{TIMES}::test_a_wall_clock_that_jumps_moves_no_poll_and_no_cut_off",
    ),
    Scenario(
        "The wall clock jumps during a poll",
        "`cohere_up 1`; the poll counts as no longer than it was; the next poll comes an interval later.",
        "`cohere_up 1`.",
        f"{TIMES}::test_a_wall_clock_that_jumps_during_a_poll_makes_it_no_longer",
    ),
    Scenario(
        "429 with a date for Retry-After, and a wall clock that is a year off",
        "`cohere_up 0`, reason `rate_limited`. A clock that is behind waits an hour and no longer; one "
        "that is ahead waits the interval.",
        "`cohere_up 1`, `poll succeeded again`.",
        f"{TIMES}::test_a_retry_after_by_another_clock_costs_an_hour_at_most",
    ),
    Scenario(
        "The machine sleeps for hours",
        "Awake, it shows no model that is older than the cut-off (landing page: `what is known is "
        "stale`), and polls at once: `cohere_up 1`. One poll, none for those that were missed.",
        "`cohere_up 1`; the next poll an interval later.",
        f"{TIMES}::test_a_machine_that_slept_for_hours_polls_once_and_at_once",
    ),
    # The key file.
    Scenario(
        "The key file vanishes, is empty, holds junk or is a directory",
        "`cohere_up 1`: the last good key stays in use. One line a change, none at each poll: `the API "
        "key file cannot be used; the last good key stays`, with `No such file or directory`, ` is "
        "empty`, `cannot be an API key: a key is one line of printable ASCII without blanks` or `Is a "
        "directory`; `cohere_exporter_reload_successful` 0 for `api_key`. A start, *check* too, ends with"
        " 2 and one line `--cohere.api-key-file: `. Nothing of the content is shown.",
        "`the API key file can be used again`, `cohere_up 1`.",
        f"{TIMES}::test_a_key_file_that_cannot_be_used_leaves_the_last_good_key_in_use",
    ),
    Scenario(
        "The key is renewed during a poll: between two pages, before step metrics, in the pause of a retry",
        "`cohere_up 1`: the next request takes the new key. No line.",
        "`cohere_up 1`.",
        f"{TIMES}::test_a_key_that_is_renewed_during_a_poll_is_used_from_the_next_request_on",
    ),
    Scenario(
        "The key is revoked first and renewed later, at the list or between two pages",
        "`cohere_up 0`, reason `unauthorized`, `HTTP 401: invalid api token`; models stay. *check* ends"
        " with 1 and says `Look at the key`.",
        "Within a second of the new file: `the API key has changed; polling at once`, `cohere_up 1`.",
        f"{TIMES}::test_a_key_that_is_revoked_before_it_is_renewed_costs_one_poll",
    ),
    Scenario(
        "A wrong key is put into the file, and the right one back",
        "`cohere_up 0`, reason `unauthorized`; models stay until the cut-off.",
        "Within a second of the file's change: `the API key has changed; polling at once`, `cohere_up 1`.",
        f"{TIMES}::test_a_wrong_key_by_mistake_is_over_a_second_after_it_is_put_right",
    ),
    Scenario(
        "The key may list models and not read step metrics (401)",
        "`cohere_up 1`; `step metrics cannot be read; last good values stay`, once; only their pauses "
        "double. *check* ends with 0 and says `step metrics of 1 model could not be read: HTTP 401: "
        "invalid api token`.",
        "With a new key at the next poll: `step metrics can be read again`.",
        f"{TIMES}::test_a_wrong_key_for_step_metrics_leaves_the_list_alone",
    ),
    # Redirects and cookies.
    Scenario(
        "A redirect (300 to 308), to another host, to itself or nowhere",
        "Never followed: no other host sees a request, let alone the key. `HTTP 301: a redirect, which "
        "is not followed; give the final address as --cohere.base-url`; what the redirect names is not "
        "shown.",
        "`cohere_up 1`.",
        f"{NETWORK}::test_a_redirect_is_never_followed",
    ),
    Scenario(
        "The API sets cookies",
        "`cohere_up 1`; they are never sent back, nor shown.",
        "`cohere_up 1`.",
        f"{NETWORK}::test_a_cookie_is_never_sent_back",
    ),
    # TLS.
    Scenario(
        "The API's certificate cannot be trusted, or expires while the exporter runs",
        "`cohere_up 0`, reason `connection`; models stay. What is wrong is one line in the log and from"
        " *check*, such as `its certificate has expired`, `its certificate is not valid yet`, `its "
        "certificate is for another name`, `its certificate is signed by a CA that is not trusted here`.",
        "With the certificate renewed, at the next poll: `cohere_up 1`.",
        f"{NETWORK}::test_a_certificate_that_cannot_be_trusted_is_told_for_what_it_is",
    ),
    Scenario(
        "The API's certificate expires during a poll: between two pages, or before step metrics",
        "Reason `connection`: `its certificate has expired`. Between two pages it costs the poll, before "
        "step metrics their last good values stay.",
        "With the certificate renewed, at the next poll: `cohere_up 1`.",
        f"{NETWORK}::test_a_certificate_that_expires_during_a_poll_costs_what_is_asked_for_after_it",
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
        "`cohere_up 0`, reason `timeout`: `no complete response within` the deadline; models stay.",
        "`cohere_up 1`, `poll succeeded again`.",
        f"{NETWORK}::test_a_handshake_that_hangs_ends_by_the_deadline",
    ),
    Scenario(
        "http:// where the API speaks TLS",
        "`cohere_up 0`, reason `connection`: `it closed the connection without a response`. *check* ends "
        "with 1 and asks `is it https instead of http`.",
        "`cohere_up 1`, `poll succeeded again`.",
        f"{NETWORK}::test_http_where_tls_is_spoken_is_told_in_words",
    ),
    # Names and addresses.
    Scenario(
        "The API's name points to another address; the old one refuses, resets or hangs",
        "`cohere_up 1`, no line: the poll that meets the old address goes on at the new one. Names are "
        "looked up for each new connection.",
        "`cohere_up 1`.",
        f"{NETWORK}::test_an_api_that_moves_is_found_at_its_new_address",
    ),
    Scenario(
        "The API's address drops all packets, until its name points to another",
        "`cohere_up 0`, reason `timeout`: `no complete response within` the deadline; models stay.",
        "At the first poll after the name has moved: `cohere_up 1`, `poll succeeded again`.",
        f"{NETWORK}::test_an_address_that_becomes_a_black_hole_costs_what_its_name_takes_to_move",
    ),
    Scenario(
        "The API's name cannot be looked up, or all its addresses are dead",
        "`cohere_up 0`, reason `connection`: `Name or service not known`, `Temporary failure in name "
        "resolution`, `Connection refused`; models stay. *check* ends with 1 and says `at DNS, proxy "
        "and firewall on the way`.",
        "`cohere_up 1`, `poll succeeded again`.",
        f"{NETWORK}::test_a_name_that_cannot_be_looked_up_fails_the_poll_and_no_more",
    ),
    Scenario(
        "The resolver hangs",
        "`cohere_up 0`, reason `timeout`: `no complete response within` the deadline. Pages are served; the "
        "threads that wait for it are bounded.",
        "`cohere_up 1`, `poll succeeded again`.",
        f"{NETWORK}::test_a_resolver_that_hangs_holds_up_neither_deadline_nor_pages",
    ),
    Scenario(
        "The first of several addresses is dead: it refuses or drops",
        "`cohere_up 1`, no line: the next address is tried after a quarter of a second.",
        "`cohere_up 1`.",
        f"{NETWORK}::test_an_address_that_is_dead_is_passed_over",
    ),
    Scenario(
        "The API has an IPv6 address alone",
        "`cohere_up 1`.",
        "`cohere_up 1`.",
        f"{NETWORK}::test_an_api_on_ipv6_alone_is_reached",
    ),
    # Proxies.
    Scenario(
        "The proxy is dead, refuses (403, 407), answers nonsense, or leaves",
        "`cohere_up 0`, reason `connection`; models stay: `cannot connect to the proxy 127.0.0.1:`, `the "
        "proxy refuses: HTTP 403`, `the proxy asks for a user name and password (HTTP 407)`, `it does "
        "not speak HTTP`, `it closed the connection without a response`. Its password and its words are not "
        "shown.",
        "`cohere_up 1`.",
        f"{NETWORK}::test_a_proxy_that_fails_is_told_with_its_address_and_without_its_password",
    ),
    Scenario(
        "Behind the proxy, the API's TLS handshake fails or hangs, again and again",
        "`cohere_up 0`: `through the proxy 127.0.0.1:`, `its certificate is for another name`, `it "
        "broke off the TLS handshake`, or `no complete response within` the deadline; with a single "
        "connection allowed, none is lost to it.",
        "`cohere_up 1`.",
        f"{NETWORK}::test_a_handshake_that_fails_behind_a_proxy_leaves_room_for_the_next",
    ),
    # Connections that are kept.
    Scenario(
        "The API ends each connection after its answer, announced or not",
        "`cohere_up 1`, no line.",
        "`cohere_up 1`.",
        f"{NETWORK}::test_connections_that_end_after_each_answer_cost_nothing",
    ),
    Scenario(
        "A connection that was kept dies just as the next request is sent",
        "`cohere_up 1`, no line: the request is sent again on a new one.",
        "`cohere_up 1`.",
        f"{NETWORK}::test_a_kept_connection_that_dies_under_a_request_is_replaced",
    ),
    Scenario(
        "Deadlines pass before and within the answer, again and again",
        "`cohere_up 0`, reason `timeout`; with a single connection allowed, none is lost to it.",
        "`cohere_up 1`, `poll succeeded again`.",
        f"{NETWORK}::test_deadlines_that_pass_in_every_phase_leak_no_connection",
    ),
)
