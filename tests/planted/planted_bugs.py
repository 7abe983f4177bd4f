"""Plants one bug after the other in the core and sees whether its test fails.

  python3 tests/planted/planted_bugs.py [NAME…]    half a minute for each bug, in a copy of the tree; not in ./dev test
  python3 tests/planted/planted_bugs.py --places   only whether each text to be changed is in its file, once

A bug that no test catches, or a text that is no longer in its file, makes the exit code 1.
"""

import os
import subprocess
import sys
import tempfile

# Name, file, what stands there, what the bug makes of it, the target that must fail, and a test of it that must.
BUGS = (
    ("turn-not-advanced", "server/dispatch/delivery.cc",
     "subscription_->turn.fetch_add(1, std::memory_order_relaxed)",
     "subscription_->turn.load(std::memory_order_relaxed)",
     "//tests/server/dispatch:stories_test", "RoundRobin.TheTurnAdvancesWithEveryEventAlsoPastADeadOne"),
    ("cool-down-forgotten", "server/dispatch/delivery.cc",
     "candidates[i] = {now < since + cool_down, since};",
     "candidates[i] = {false, since};",
     "//tests/server/dispatch:stories_test", "Failover.AFailedPrimaryCoolsThenOneCanaryBringsItBack"),
    ("failover-stops-at-first-failure", "server/dispatch/delivery.cc",
     "    Advance(raise_->clock().Now(), &refusal);",
     "    End(DeliveryResult::Outcome::kFailed);",
     "//tests/server/dispatch:stories_test", "Failover.AFailedPrimaryCoolsThenOneCanaryBringsItBack"),
    ("expiry-forgotten", "server/registry/registry.cc",
     "  SetExpiry(created, spec.expires);\n",
     "",
     "//tests/server/dispatch:stories_test", "Expiry.NothingIsDeliveredAfterItAndNothingIsRemovedEarly"),
    ("refresh-does-not-shorten", "server/registry/expiry_queue.cc",
     "    if (!sooner) return;\n",
     "    return;\n",
     "//tests/server/dispatch:stories_test", "Expiry.ARefreshMovesItBothWays"),
    ("sent-after-expiry", "server/endpoint/endpoint.cc",
     "if (!next.client->Wanted(now)) {",
     "if (false) {",
     "//tests/server/dispatch:stories_test", "Expiry.WhatWaitsInTheQueueIsNotSentAfterIt"),
    ("unsubscribe-answers-too-early", "server/endpoint/endpoint_pool.cc",
     "  for (Loop* loop : loops_) {\n    loop->Post([pending] {\n      if (--pending->loops == 0) std::move(pending->done)();\n    });\n  }",
     "  std::move(pending->done)();",
     "//tests/server/dispatch:stories_test", "Unsubscribe.OnceTheSendsAreOverNothingIsHandedToALinkAnyMore"),
    ("completion-lost", "server/endpoint/endpoint.cc",
     "  ended.client->OnOutcome(ended.tag, std::move(outcome));",
     "  if (result != Outcome::Result::kUnknown) ended.client->OnOutcome(ended.tag, std::move(outcome));",
     "//tests/server/dispatch:stories_test", "Failover.ATimeoutIsUnknownAndMovesOn"),
    ("deadline-forgotten", "server/endpoint/endpoint.cc",
     "slots_[i].client != nullptr && slots_[i].deadline <= now",
     "false",
     "//tests/server/dispatch:stories_test", "Failover.ATimeoutIsUnknownAndMovesOn"),
    ("queue-without-bound", "server/endpoint/endpoint.cc",
     "queued(stats_.accepted) + events_aside_ >= limits_.queue_events ||",
     "",
     "//tests/server/dispatch:stories_test", "Endpoint.AFullQueueRefusesAtOnceAndFailoverMovesOnOnTheSameThread"),
    ("reconnect-without-pause", "server/endpoint/endpoint.cc",
     "    connect_not_before_ = now + pause_;\n",
     "    connect_not_before_ = now;\n",
     "//tests/server/dispatch:stories_test", "Endpoint.ARefusedLoginIsNotHammered"),
    ("health-told-with-every-event", "server/endpoint/endpoint.cc",
     "if (now < tell_not_before_) return ArmTimer(tell_not_before_);",
     "",
     "//tests/server/dispatch:stories_test", "Health.WhoFlapsIsToldAboutOnceASecondAndAsItIsInTheEnd"),
    ("late-report-counts-twice", "server/endpoint/endpoint.cc",
     "|| slots_[index].generation != token >> 32",
     "",
     "//tests/server/dispatch:stories_test", "Endpoint.ALateReportFromAnOldLinkIsNotTakenForTheNextOnes"),
    ("cork-holds-nothing-back", "server/endpoint/endpoint.cc",
     "if (Corks::here.depth > 0) {",
     "if (false) {",
     "//tests/server/dispatch:stories_test", "Cork.WhatIsOfferedUnderItLeavesWhenTheOutermostEndsAndNotBefore"),
    ("pattern-forgets-known-names", "server/registry/event_index.cc",
     "  Repoint(by_name_, beginning, shorter, pattern);\n",
     "",
     "//tests/server/registry:registry_test", "Patterns.ComeAndGoWhileTheirNamesStay"),
    ("pattern-leaves-its-names-behind", "server/registry/event_index.cc",
     "  Repoint(by_name_, pattern->name, pattern, shorter);\n",
     "  Repoint(by_name_, pattern->name, pattern, nullptr);\n",
     "//tests/server/registry:registry_test", "Patterns.AreFoundAsASearchOfAllOfThemWould"),
    ("filter-is-no-part-of-the-key", "server/registry/registry.cc",
     "  Key key{event, filter, policy,",
     "  Key key{event, \"\", policy,",
     "//tests/server/registry:registry_test", "Filters.BelongToWhatASubscriptionIs"),
    ("filtered-event-sent", "server/dispatch/dispatcher.cc",
     "subscription.filtering->filter.Matches(*message)",
     "true",
     "//tests/server/dispatch:stories_test", "Filters.AnEventThatIsNotWantedIsCountedAndNotSent"),
    ("journal-acknowledges-before-the-commit", "server/rpc/subscription_service.cc",
     "  if (journal_ == nullptr) return reactor->Finish(grpc::Status::OK);\n",
     "  return reactor->Finish(grpc::Status::OK);\n",
     "//tests/integration:data_dir_test", ""),
    ("journal-forgets-what-could-not-be-written", "server/journal/journal.cc",
     "        pending.merge(std::move(changes));  // what has come since is newer\n",
     "",
     "//tests/server/journal:journal_test",
     "JournalTest.WhatCannotBeWrittenIsNotAcknowledgedAndIsWrittenWhenThereIsRoomAgain"),
    ("journal-forgets-a-refresh", "server/journal/subscription_store.cc",
     "  journal_.Save(std::move(saved));",
     "  if (change == Registry::Change::kCreated) journal_.Save(std::move(saved));",
     "//tests/server/journal:subscription_store_test",
     "SubscriptionStoreTest.WhatEndedStaysEndedAndARefreshIsKept"),
    ("reports-of-reports", "server/dispatch/dispatcher.cc",
     " && !message->is_report()",
     "",
     "//tests/server/reports:failure_reports_test", "Reports.TheFailedDeliveryOfAReportIsNotReported"),
    ("reports-feed-themselves", "server/reports/failure_reports.cc",
     "if (by_reports || ",
     "if (",
     "//tests/server/reports:failure_reports_test",
     "Reports.AMonitorThatIsSeenToBeGoneOnlyBehindASuccessDoesNotFeedItself"),
    ("reports-with-every-failure", "server/reports/failure_reports.cc",
     "due_.emplace(now + kPause, &subscription);",
     "due_.emplace(now, &subscription);",
     "//tests/server/reports:failure_reports_test",
     "Reports.AFailedDeliveryIsToldAtOnceAndFurtherOnesOnceASecondWithTheirNumber"),
    ("reports-to-nobody", "server/reports/failure_reports.cc",
     "return wanted_[kind].load(std::memory_order_relaxed) != 0 && ",
     "return ",
     "//tests/server/reports:failure_reports_test", "Reports.WhenNobodyListensNothingIsRaised"),
    ("mi-unsubscribe-answers-too-early", "server/mi/mi_server.cc",
     "if (!answer.changed) return std::move(send)(std::move(answer.text));",
     "return std::move(send)(std::move(answer.text));",
     "//tests/server/mi:mi_server_test", "Sockets/MiDatagram.UnsubscribingIsAnsweredWhenNothingIsSentAnyMore/udp"),
    ("mi-for-everybody", "server/mi/mi_server.cc",
     "BoundSocket::Reach::kLoopback",
     "BoundSocket::Reach::kAny",
     "//tests/server/mi:mi_server_test", "MiListen.AnAddressThatWillNotDoIsRefusedWithTheWayOut"),
    ("mi-notification-answered", "server/mi/mi_request.cc",
     "  if (is_notification && request.error.code == 0) request.id.clear();\n",
     "",
     "//tests/server/mi:mi_commands_test", "MiTest.ANotificationIsDoneAndNotAnswered"),
    ("mi-refresh-takes-options", "server/mi/mi_commands.cc",
     "spec->keeps_options = true;",
     "",
     "//tests/server/mi:mi_commands_test", "MiTest.WhatIsSubscribedHereIsRefreshedThereAndTheOtherWayRound"),
    ("mi-deaf-client-blocks-all", "transports/io/datagram_socket.cc",
     "if (to.from.ss_family == AF_UNIX) {",
     "if (false) {",
     "//tests/server/mi:mi_server_test", "Sockets/MiDatagram.WhoDoesNotReadItsAnswersHoldsUpNobody/unix"),
    ("http-patience-without-end", "server/http/http_server.cc",
     "if (ended || now >= connection.since + limits_.patience)",
     "if (ended)",
     "//tests/server/http:http_server_test", "HttpTest.WhoMakesUsWaitTooLongIsLeft"),
    ("http-nobody-goes-for-a-new-one", "server/http/http_server.cc",
     "if (victim != connections_.end()) shutdown(victim->fd, SHUT_RDWR);",
     "",
     "//tests/server/http:http_server_test", "HttpTest.WhoHasMadeUsWaitLongestGoesForANewConnection"),
    ("http-unsent-without-bound", "server/http/http_server.cc",
     "if (unsent_ + response.body.size() > limits_.max_unsent) {",
     "if (false) {",
     "//tests/server/http:http_server_test", "HttpTest.ResponsesThatNobodyTakesAreBounded"),
    ("redis-error-is-success", "transports/redis/redis_transport.cc",
     "      return std::move(done).Finish(StatusOf(reply));\n",
     "",
     "//tests/transports/redis:redis_transport_test", "RedisTest.ErrorsOfRedisFailTheEventWithItsText"),
    ("mqtt-reason-not-read", "transports/mqtt/mqtt_transport.cc",
     "    if (reason >= 0x80) {\n      return std::move(done)",
     "    if (false) {\n      return std::move(done)",
     "//tests/transports/mqtt:mqtt_transport_test", "MqttTest.LoginsAndRightsAreToldAndPasswordsNeverPrinted"),
    ("stream-ack-of-anything", "transports/stream/listeners.cc",
     "if (id == 0 || id > last_taken_) {",
     "if (false) {",
     "//tests/transports/stream:stream_transport_test", "StreamTest.AnEventCountsWhenItIsAcknowledgedAndNotBefore"),
    ("kafka-report-not-read", "transports/kafka/kafka_transport.cc",
     "} else if (report.err != RD_KAFKA_RESP_ERR_NO_ERROR) {",
     "} else if (false) {",
     "//tests/transports/kafka:kafka_mock_test", "KafkaMockTest.ErrorsThatStayFailTheEventAtOnceAndTheLinkLives"),
    ("nats-ok-before-the-pong", "transports/nats/nats_transport.cc",
     "    if (const absl::Status processed = connection_->Flush(); !processed.ok()) return Close(processed);\n",
     "",
     "//tests/transports/nats:nats_transport_test", "NatsTest.APausedServerConfirmsNothingAndAllThatWaitedWhenItGoesOn"),
    ("nats-refusal-not-read", "transports/nats/nats_connection.cc",
     "if (ack[\"error\"].get(error) != simdjson::SUCCESS) {",
     "if (true) {",
     "//tests/transports/nats:nats_transport_test", "NatsTest.AFullStreamRefusesAndTakesAgainWhenThereIsRoom"),
    ("nats-headers-not-counted", "transports/nats/nats_connection.cc",
     "size += name.size() + value.size() + 4;",
     "",
     "//tests/transports/nats:nats_transport_test", "NatsTest.TheLargestMessageThatTheServerTakesArrives"),
    ("nats-advertised-servers-followed", "transports/nats/nats_connection.cc",
     "natsOptions_SetIgnoreDiscoveredServers(made, true)",
     "natsOptions_SetIgnoreDiscoveredServers(made, false)",
     "//tests/transports/nats:nats_transport_test", "NatsTest.ServersThatAServerAdvertisesAreNotConnectedTo"),
    ("nats-tls-never-given-up", "transports/nats/nats_transport.cc",
     "    if (tls_socket_ >= 0) shutdown(tls_socket_, SHUT_RDWR);\n",
     "",
     "//tests/transports/nats:nats_transport_test", "NatsTest.AServerThatStopsInTheHandshakeIsLeftWhenTheLinkGoes"),
    ("tcp-no-look-before-writing", "transports/tcp/tcp_transport.cc",
     "    if (closed_.ok()) Read();\n",
     "",
     "//tests/transports/tcp:tcp_transport_test", "TcpTest.NothingIsWrittenToAPeerThatHasGone"),
    ("tcp-ok-before-the-write", "transports/tcp/tcp_transport.cc",
     "unwritten_.front().end <= written_",
     "true",
     "//tests/transports/tcp:tcp_transport_test", "TcpTest.AnEventCountsWhenAllItsBytesAreInTheSocketAndNotBefore"),
    ("tcp-answers-taken-in-order", "transports/tcp/tcp_transport.cc",
     "    const auto found = unanswered_.find(id);",
     "    const auto found = unanswered_.begin();",
     "//tests/transports/tcp:tcp_transport_test", "TcpTest.AReplyDecidesItsEvent"),
    ("tcp-error-ignored", "transports/tcp/tcp_transport.cc",
     "error.is_null()",
     "true",
     "//tests/transports/tcp:tcp_transport_test", "TcpTest.AReplyDecidesItsEvent"),
    ("grpc-status-ignored", "transports/grpc/grpc_answer.cc",
     "if (grpc_status_ == \"0\") return absl::OkStatus();",
     "return absl::OkStatus();",
     "//tests/transports/grpc:grpc_transport_test", "GrpcTest.TheStatusDecides"),
    ("grpc-web-server-is-success", "transports/grpc/grpc_answer.cc",
     "  if (grpc_status_.empty()) {\n",
     "  if (grpc_status_.empty() && http_status_ == 200) return absl::OkStatus();\n  if (grpc_status_.empty()) {\n",
     "//tests/transports/grpc:grpc_link_test", "GrpcLinkTest.AnAnswerWithoutTheStatusOfGrpcIsAFailure"),
    ("grpc-goaway-closes-the-link", "transports/grpc/grpc_connection.h",
     "return proved_itself_ && in_order_;",
     "return false;",
     "//tests/transports/grpc:grpc_link_test", "GrpcLinkTest.AServerThatLeavesInOrderFailsNoEvent"),
    ("grpc-goaway-followed-for-ever", "transports/grpc/grpc_connection.h",
     "return proved_itself_ && in_order_;",
     "return in_order_;",
     "//tests/transports/grpc:grpc_link_test", "GrpcLinkTest.OneThatLeavesBeforeItHasTakenAnythingIsNotFollowed"),
    ("grpc-untouched-calls-lost", "transports/grpc/grpc_connection.cc",
     "if (code != NGHTTP2_REFUSED_STREAM) {",
     "if (true) {",
     "//tests/transports/grpc:grpc_link_test", "GrpcLinkTest.AServerThatLeavesInOrderFailsNoEvent"),
    ("grpc-unsent-calls-lost", "transports/grpc/grpc_connection.cc",
     "if (error == NGHTTP2_ERR_START_STREAM_NOT_ALLOWED) {",
     "if (false) {",
     "//tests/transports/grpc:grpc_link_test", "GrpcLinkTest.WhatWaitsForRoomOnAConnectionThatLeavesGoesToTheNext"),
    ("grpc-ok-before-the-event", "transports/grpc/grpc_connection.cc",
     "if (outcome.ok()) outcome = ",
     "if (false) outcome = ",
     "//tests/transports/grpc:grpc_link_test", "GrpcLinkTest.AnOkBeforeTheEventHasBeenSentIsNone"),
    ("grpc-never-says-it-may-have-arrived", "transports/grpc/grpc_connection.cc",
     "const bool whole = call.sent == SizeOf(call);",
     "const bool whole = false;",
     "//tests/transports/grpc:grpc_link_test",
     "GrpcLinkTest.OnlyAnEventThatHasLeftWholeMayHaveArrivedWhenTheConnectionBreaks"),
    ("grpc-what-is-out-is-cut-off", "transports/grpc/grpc_link.cc",
     "  if (leaving_.empty()) host_.OnClosed(Fresh(closed_));\n}\n\n}",
     "  host_.OnClosed(Fresh(closed_));\n}\n\n}",
     "//tests/transports/grpc:grpc_link_test", "GrpcLinkTest.WhatIsOutIsLetFinishAlsoWhenNobodyFollows"),
    ("http-curl-repeats-a-request", "transports/http/http_link.cc",
     "requests > 1 ? CURL_PREREQFUNC_ABORT",
     "requests > 9 ? CURL_PREREQFUNC_ABORT",
     "//tests/transports/http:http_transport_test", "HttpTest.AnEventThatWasTakenButNotAnsweredIsNotSentTwice"),
    ("http-broken-head-counts", "transports/http/http_link.cc",
     "(result == CURLE_OK && exchange.begun)",
     "result == CURLE_OK",
     "//tests/transports/http:http_transport_test", "HttpTest.AnAnswerThatBreaksOffFails"),
    ("http-names-of-certificates-ignored", "transports/http/http_link.cc",
     "peer_.verify ? 2L : 0L",
     "0L",
     "//tests/transports/http:http_nginx_test", "NginxTest.TlsIsVerifiedUnlessToldOtherwise"),
    ("sqs-signs-what-is-not-sent", "transports/http/http_link.cc",
     "if (peer_.signs_for.empty()) {\n    add(",
     "if (true) {\n    add(",
     "//tests/transports/sqs:sqs_transport_test", "SqsTest.ARequestIsASignedSendMessage"),
    ("sqs-token-not-sent", "transports/sqs/sqs_transport.cc",
     "if (!token_.empty()) add(",
     "if (false) add(",
     "//tests/transports/sqs:sqs_transport_test", "SqsTest.ARequestIsASignedSendMessage"),
    ("sqs-token-shown", "transports/sqs/sqs_text.cc",
     "if (!token.empty()) absl::StrReplaceAll({{token, \"***\"}}, &shown);",
     "",
     "//tests/transports/sqs:sqs_transport_test", "SqsTest.ATokenThatAnErrorRepeatsIsNotShown"),
    ("sqs-md5-not-compared", "transports/sqs/sqs_text.cc",
     "if (stored == HexDigest(EVP_md5(), sent))",
     "if (true)",
     "//tests/transports/sqs:sqs_transport_test", "SqsTest.OnlyAStoredMessageIsASuccess"),
    ("sqs-one-deduplication-id-for-all", "transports/sqs/sqs_text.cc",
     "const std::string id = EventIdOf(message);",
     "const std::string id = \"event\";",
     "//tests/transports/sqs:sqs_transport_test",
     "SqsTest.AFifoQueueGetsTheGroupAndTheEventsIdAndAnEncodingItsMediaType"),
    ("sqs-missing-credentials-kept-to-itself", "transports/sqs/sqs_transport.cc",
     "      Close(Named(credentials.status()));\n",
     "",
     "//tests/transports/sqs:sqs_transport_test", "SqsTest.WithoutCredentialsTheLinkClosesAndNamesWhatIsMissing"),
    ("xmlrpc-fault-ignored", "transports/xmlrpc/xmlrpc_text.cc",
     "if (ConsumeTag(&body, \"params\")) return absl::OkStatus();",
     "return absl::OkStatus();",
     "//tests/transports/xmlrpc:xmlrpc_transport_test", "StrictServerTest.AFaultAndAMissingMethodOrPathAreFailures"),
    ("amqp-name-not-verified", "transports/io/byte_stream.cc",
     "EV_CHECK(SSL_set1_host(ssl_.get(), host.c_str()) == 1);",
     "",
     "//tests/transports/io:byte_stream_test", "ByteStreamTest.TheCertificateMustBeForTheNameOrTheAddress"),
    ("amqp-not-mandatory", "transports/rabbitmq/amqp_frames.cc",
     ".mandatory = address.mandatory",
     ".mandatory = false",
     "//tests/transports/rabbitmq:rabbitmq_transport_test",
     "RabbitmqTest.WhatNoQueueTakesIsAFailureAndItsNeighboursAreNot"),
    ("amqp-alarm-kept-to-itself", "transports/rabbitmq/rabbitmq_link.cc",
     "  EndUpTo(last_tag_, absl::UnavailableError(absl::StrCat(alarm_, ",
     "  EndUpTo(0, absl::UnavailableError(absl::StrCat(alarm_, ",
     "//tests/transports/rabbitmq:rabbitmq_transport_test",
     "RabbitmqTest.AnAlarmFailsEventsAtOnceWithItsReasonAndWhatWasOutArrivesWhenItEnds"),
    ("ack-before-write", "transports/flatstore/flatstore_transport.cc",
     "    writing_ = std::move(batch.completions);\n",
     "    for (Completion& done : batch.completions) std::move(done).Finish(absl::OkStatus());\n"
     "    writing_ = std::move(batch.completions);\n",
     "//tests/transports/flatstore:flatstore_transport_test", ""),
)


def misplaced(root):
    """What cannot be planted, a line each."""
    for name, path, there, *_ in BUGS:
        with open(os.path.join(root, path), encoding="utf-8") as stream:
            times = stream.read().count(there)
        if times != 1:
            yield f"{name}: its place is {times} times in {path}"


def output_of(tree, output_base, target, name):
    command = ["bazel", "--output_base=" + output_base, "--nohome_rc", "test", "--test_output=all",
               "--symlink_prefix=/", target]
    if name:
        command.append("--test_arg=--gtest_filter=" + name)
    done = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def main():
    wanted = sys.argv[1:]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    faults = list(misplaced(root))
    if faults or wanted == ["--places"]:
        print("\n".join(faults or ["every planted bug has its place"]))
        return 1 if faults else 0
    cache = os.path.expanduser("~/.cache/eventvirtual/planted")
    missed = []
    with tempfile.TemporaryDirectory(prefix="planted") as folder:
        tree = os.path.join(folder, "tree")
        subprocess.run(["git", "worktree", "add", "--detach", "--quiet", tree, "HEAD"], cwd=root, check=True)
        try:
            for name, path, there, bug, target, test in BUGS:
                if wanted and name not in wanted:
                    continue
                file = os.path.join(tree, path)
                with open(file, encoding="utf-8") as stream:
                    text = stream.read()
                with open(file, "w", encoding="utf-8") as stream:
                    stream.write(text.replace(there, bug))
                code, output = output_of(tree, cache, target, test)
                with open(file, "w", encoding="utf-8") as stream:
                    stream.write(text)
                # 3: built, and tests failed. Anything else says nothing about the test.
                verdict = {0: "NOT CAUGHT", 3: "caught"}.get(code, f"Bazel failed ({code}):\n{output[-2000:]}")
                if code != 3:
                    missed.append(name)
                print(f"{name:32} {verdict:12} {test or target}", flush=True)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=root, check=False)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
