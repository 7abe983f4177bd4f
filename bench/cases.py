"""What is measured, against what, and which target it has."""

import collections

import peers
import processes as p

# One line of the table. `ours` and `base` are (side, metric); `target` is text, and `limit(m)` its value from the medians:
# m(side, metric). `more`: more is better. Without a limit the line only informs.
Row = collections.namedtuple("Row", "what unit ours base target limit more", defaults=("", None, False))


class Case:
    """Sides that are measured one after the other, round by round, so that what disturbs one disturbs all."""

    def __init__(self, name, title, sides, rows):
        self.name, self.title, self.sides, self.rows = name, title, sides, rows


def cpu_target(side, factor, extra):
    return lambda m: factor * m(side, "cpu_event") + extra


def side_by_side(seconds, stream):
    """What a user would pick instead. Publishers of tcp go as fast as they can; a datagram may be lost, so these keep to
    a rate that all can follow."""
    rate = 20000
    udp = ["udp"] * 3
    sides = {"ours tcp": lambda: p.service(["tcp"] * 3, "PARALLEL", *stream),
             "ours tcp ingest": lambda: p.ingest("tcp:127.0.0.1:0", "tcp", seconds, ["tcp"] * 3),
             "nats": lambda: peers.broker("nats", "nats", seconds),
             "redis": lambda: peers.broker("redis", "redis", seconds),
             "mosquitto": lambda: peers.broker("mosquitto", "mqtt", seconds),
             "ours udp": lambda: p.service(udp, "PARALLEL", *stream),
             "ours udp ingest": lambda: p.ingest("udp:127.0.0.1:0", "send", seconds, udp, "rate=%d" % rate),
             "rsyslog": lambda: peers.rsyslog(seconds, rate)}
    rows = []
    for way, names in (("tcp", ["nats", "redis", "mosquitto"]), ("udp", ["rsyslog"])):
        for name in names:
            for ours, feed in (("ours " + way, "RaiseStream"), ("ours %s ingest" % way, way + " ingest")):
                rows.append(Row("CPU per %s delivery, %s, to %s" % (way, feed, name), "µs", (ours, "cpu_delivery"),
                                (name, "cpu_delivery"), "below", lambda m, name=name: m(name, "cpu_delivery")))
                rows.append(Row("events/s, %s, to %s" % (feed, name), "/s", (ours, "rate"), (name, "rate")))
    return Case("B15", "beside what a user would pick instead: one event to 3 subscribers", sides, rows)


def all_cases(seconds, quick):
    """Every case there is, most important first. `seconds` is how long one measurement takes."""
    raise_64 = ["raise", "--outstanding=64", "--seconds=%g" % seconds]
    raise_1 = ["raise", "--outstanding=1", "--wait=delivered", "--seconds=%g" % seconds]
    stream = ["stream", "--batch=64", "--seconds=%g" % seconds]
    short = seconds / 3
    cases = []

    cases.append(Case(
        "B1", "unary Raise, accepted, 64 outstanding, one udp subscriber",
        {"ours": lambda: p.service(["udp"], "PARALLEL", *raise_64),
         "empty": lambda: p.empty("callback", *raise_64),
         "queue": lambda: p.empty("queue", *raise_64),
         "send": lambda: p.bare("send", "udp", short)},
        [Row("rate, to empty callback service", "/s", ("ours", "rate"), ("empty", "rate"), "≥ 0.85 ×",
             lambda m: 0.85 * m("empty", "rate"), True),
         Row("rate, to empty completion queue", "/s", ("ours", "rate"), ("queue", "rate")),
         Row("CPU per event", "µs", ("ours", "cpu_event"), ("empty", "cpu_event"), "≤ empty + 1.25 send + 1.5",
             lambda m: m("empty", "cpu_event") + 1.25 * m("send", "cpu_event") + 1.5),
         Row("p50", "µs", ("ours", "p50"), ("empty", "p50")),
         Row("p99", "µs", ("ours", "p99"), ("empty", "p99")),
         Row("p99.9", "µs", ("ours", "p999"), ("empty", "p999"))]))

    transports = [("udp, 16 lengths", "udp", "send", ["vary"], ["--vary"]),
                  ("udp, equal lengths", "udp", "segment", [], []),
                  ("unix", "unix", "unix", [], []),
                  ("tcp", "tcp", "tcp", [], []),
                  ("flatstore", "flatstore", "file", [], [])]

    def streams(name, policy):
        sides, rows = {}, []
        for label, kind, loop, bare_words, load_words in transports:
            sides["ours " + label] = (lambda kind=kind, load_words=load_words:
                                      p.service([kind] * 3, policy, *stream, *load_words))
            sides["bare " + label] = (lambda kind=kind, loop=loop, bare_words=bare_words:
                                      p.bare(loop, kind, short / 2, *bare_words))
            rows.append(Row("CPU per delivery, " + label, "µs", ("ours " + label, "cpu_delivery"),
                            ("bare " + label, "cpu_event"), "≤ 1.3 bare + 0.35",
                            cpu_target("bare " + label, 1.3, 0.35)))
            rows.append(Row("events/s, " + label, "/s", ("ours " + label, "rate"), ("bare " + label, "rate")))
        return Case(name, "RaiseStream, 64 events per message, %s over 3" % policy, sides, rows)

    cases.append(streams("B3", "PARALLEL"))
    cases.append(Case(
        "B3i", "ingest and dispatch without sends",
        {"stream": lambda: p.service([], "", *stream),
         "empty": lambda: p.empty("callback", *stream),
         "queue": lambda: p.empty("queue", *stream),
         "dispatch": lambda: p.core_raise("--batch=64", "--seconds=%g" % short, "instant:a", "instant:b", "instant:c"),
         "one by one": lambda: p.core_raise("--seconds=%g" % short, "instant:a", "instant:b", "instant:c")},
        [Row("CPU per event, stream, no subscriber", "µs", ("stream", "cpu_event"), ("empty", "cpu_event")),
         Row("CPU per event, the same, to empty completion queue", "µs", ("stream", "cpu_event"), ("queue", "cpu_event")),
         Row("CPU per event, dispatch to 3 that deliver at once", "µs", ("dispatch", "cpu_event"), ("empty", "cpu_event"),
             "≤ 1.0 with what the stream costs more than the empty one",
             lambda m: 1.0 - (m("stream", "cpu_event") - m("empty", "cpu_event"))),
         Row("CPU per event, the same, not in batches", "µs", ("one by one", "cpu_event"), ("dispatch", "cpu_event"))]))

    cases.append(side_by_side(seconds, stream))
    cases.append(Case(
        "B7", "RaiseStream, 64 events per message, to a RabbitMQ queue with confirms",
        {"ours": lambda: peers.rabbitmq_ours(*stream), "bare": lambda: peers.rabbitmq_bare(seconds)},
        [Row("rate, to a bare pipelined publisher", "/s", ("ours", "rate"), ("bare", "rate"), "≥ 0.8 ×",
             lambda m: 0.8 * m("bare", "rate"), True),
         Row("CPU per event", "µs", ("ours", "cpu_event"), ("bare", "cpu_event"))]))

    cases.append(Case(
        "B7k", "the same to a Kafka topic, all replicas in sync (librdkafka's mock cluster)",
        {"ours": lambda: peers.kafka_ours(*stream), "bare": lambda: peers.kafka_bare(seconds)},
        [Row("rate, to a bare pipelined producer", "/s", ("ours", "rate"), ("bare", "rate"), "≥ 0.8 ×",
             lambda m: 0.8 * m("bare", "rate"), True),
         Row("CPU per event", "µs", ("ours", "cpu_event"), ("bare", "cpu_event"))]))

    sizes = [1000, 100000] + ([] if quick else [1000000])
    sides = {"1": lambda: p.core_raise("--seconds=%g" % short, "instant:a")}
    rows = []
    for size in sizes:
        side = "%d others" % size
        sides[side] = lambda size=size: p.core_raise("--others=%d" % size, "--seconds=%g" % short, "instant:a")
        rows.append(Row("CPU per raise, one matches, beside %d" % size, "µs", (side, "cpu_event"), ("1", "cpu_event"),
                        "≤ 1.2 ×", lambda m: 1.2 * m("1", "cpu_event")))
    for size in (1000, 100000):
        side = "%d same" % size
        sides[side] = lambda size=size: p.core_raise("--same=%d" % size, "--seconds=%g" % short, "instant:a")
        rows.append(Row("CPU per delivery, %d match" % size, "µs", (side, "cpu_delivery"), ("1", "cpu_delivery"),
                        "≤ 1.2 ×", lambda m: 1.2 * m("1", "cpu_delivery")))
    cases.append(Case("B8", "subscriptions on other events, and on the same", sides, rows))

    count = 2000 if quick else 20000
    sides = {"1": lambda: p.core_registry(1, count)}
    rows = []
    for size in sizes:
        side = str(size)
        sides[side] = lambda size=size: p.core_registry(size, count)
        for what in ("subscribe", "refresh", "unsubscribe"):
            rows.append(Row("%s beside %d" % (what, size), "/s", (side, what), ("1", what), "≥ 0.5 × and 50000",
                            lambda m, what=what: max(0.5 * m("1", what), 50000), True))
    cases.append(Case("B9", "Subscribe, refresh, Unsubscribe in the registry", sides, rows))
    cases.append(Case(
        "B10", "memory per subscription of two subscribers, endpoints shared",
        {"many": lambda: p.core_registry(sizes[-1], 1), "fewer": lambda: p.core_registry(sizes[-1] // 10, 1)},
        [Row("resident bytes, %d subscriptions" % sizes[-1], "B", ("many", "bytes_each"), ("fewer", "bytes_each"), "≤ 600",
             lambda m: 600)]))

    count = 1000 if quick else 10000
    cases.append(Case(
        "B10e", "memory per udp endpoint that has delivered one event and is idle",
        {"many": lambda: p.core("endpoints", "--count=%d" % count),
         "fewer": lambda: p.core("endpoints", "--count=%d" % (count // 10))},
        [Row("resident bytes, %d connected" % count, "B", ("many", "connected"), ("fewer", "connected"), "≤ 16 KiB",
             lambda m: 16 << 10),
         Row("resident bytes, %d never used" % count, "B", ("many", "idle"), ("fewer", "idle"))]))

    timers = "--count=%d" % (100000 if quick else 1000000)
    storm = "--others=%d" % (10000 if quick else 100000)
    sides = {"queue": lambda: p.core("timers", timers),
             "cold": lambda: p.core("timers", timers, "--cold"),
             "tree": lambda: p.core("timers", timers, "--tree"),
             "storm": lambda: p.core("storm", storm),
             "calm": lambda: p.core("storm", storm, "--calm")}
    rows = []
    for what, most in (("insert", 150), ("refresh", 50), ("cancel", 150)):
        rows.append(Row("%s, to a sorted tree" % what, "ns", ("queue", what), ("tree", what), "≤ %d" % most,
                        lambda m, most=most: most))
    for what in ("insert", "refresh", "cancel"):
        rows.append(Row("%s, the subscription not in the cache" % what, "ns", ("cold", what), ("tree", what)))
    rows.append(Row("a refresh to an earlier time", "ns", ("queue", "sooner"), ("tree", "sooner")))
    rows += [Row("storm, longest turn of the loop, CPU", "µs", ("storm", "longest_turn"), ("calm", "longest_turn"),
                 "≤ 5 ms", lambda m: 5000),
             Row("storm, slowest delivery, to none ending", "µs", ("storm", "longest"), ("calm", "longest"),
                 "≤ calm + 5 ms", lambda m: m("calm", "longest") + 5000),
             Row("storm, p99 of deliveries", "µs", ("storm", "p99"), ("calm", "p99")),
             Row("storm, until the last has gone", "s", ("storm", "seconds"), ("storm", "seconds"))]
    cases.append(Case("B11", "%s expiries; %s due at once" % (timers[8:], storm[9:]), sides, rows))

    cases.append(Case(
        "B5", "bursts of equal events to one udp subscriber (the core alone)",
        {"ours": lambda: p.core_to("udp", short, "--batch=64"),
         "vary": lambda: p.core_to("udp", short, "--batch=64", "--vary"),
         "send": lambda: p.bare("send", "udp", short),
         "segment": lambda: p.bare("segment", "udp", short)},
        [Row("rate, to one send each", "/s", ("ours", "rate"), ("send", "rate"), "≥ 2.5 ×",
             lambda m: 2.5 * m("send", "rate"), True),
         Row("rate, to our own with 16 lengths", "/s", ("ours", "rate"), ("vary", "rate")),
         Row("CPU per event, to bare UDP_SEGMENT", "µs", ("ours", "cpu_event"), ("segment", "cpu_event"))]))

    cases.append(Case(
        "B2", "unary Raise, delivered, one outstanding",
        {"udp": lambda: p.service(["udp"], "PARALLEL", *raise_1),
         "reliable": lambda: p.service(["reliable"], "PARALLEL", *raise_1),
         "empty": lambda: p.empty("callback", *raise_1),
         "round trip": lambda: p.bare("pingpong", "reliable", short)},
        [Row("udp p50", "µs", ("udp", "p50"), ("empty", "p50"), "≤ 1.25 ×", lambda m: 1.25 * m("empty", "p50")),
         Row("udp p99", "µs", ("udp", "p99"), ("empty", "p99"), "≤ 1.5 ×", lambda m: 1.5 * m("empty", "p99")),
         Row("udp p99.9", "µs", ("udp", "p999"), ("empty", "p999")),
         Row("tcp reliable p50", "µs", ("reliable", "p50"), ("empty", "p50"), "≤ 1.25 × + round trip",
             lambda m: 1.25 * m("empty", "p50") + m("round trip", "p50")),
         Row("tcp reliable p99", "µs", ("reliable", "p99"), ("empty", "p99"), "≤ 1.5 × + round trip",
             lambda m: 1.5 * m("empty", "p99") + m("round trip", "p99")),
         Row("tcp reliable p99.9", "µs", ("reliable", "p999"), ("empty", "p999"))]))

    paced = ["stream", "--batch=1", "--rate=2000", "--seconds=%g" % (2 * seconds)]
    tenths = {"stopped": "stopped", "blackholed": "deaf", "1 ms slow": "slow"}
    sides = {"none": lambda: p.beside(None, *paced)}
    rows = []
    for label, kind in tenths.items():
        sides[label] = lambda kind=kind: p.beside(kind, *paced)
        rows.append(Row("p99 of the others, one is " + label, "µs", (label, "p99"), ("none", "p99"), "< 1.1 ×",
                        lambda m: 1.1 * m("none", "p99")))
        rows.append(Row("p50 of the others, one is " + label, "µs", (label, "p50"), ("none", "p50")))
    cases.append(Case("B12", "one subscriber of 10 in trouble, 2000 events/s PARALLEL over tcp", sides, rows))

    sides, rows = {}, []
    for label, kinds, load, base in (
            ("unary, one udp subscriber", ["udp"], raise_64, lambda cores: p.empty("callback", *raise_64, cores=cores)),
            ("stream, two udp subscribers", ["udp"] * 2, [*stream, "--vary"],
             lambda cores: p.bare_pair("send", "udp", short, cores, "vary"))):
        ours, bases = [["%s %s, %d" % (side, label, cores) for cores in (1, 2)] for side in ("ours", "base")]
        for cores in (1, 2):
            sides[ours[cores - 1]] = (lambda kinds=kinds, load=load, cores=cores:
                                      p.service(kinds, "PARALLEL", *load, flags=["--threads=%d" % cores], cores=cores))
            sides[bases[cores - 1]] = lambda base=base, cores=cores: base(cores)
        rows.append(Row("%s, on two cores, to one" % label, "/s", (ours[1], "rate"), (ours[0], "rate"),
                        "≥ 1.6 ×, or as much as the baseline's",
                        lambda m, ours=ours, bases=bases:
                        m(ours[0], "rate") * min(1.6, m(bases[1], "rate") / m(bases[0], "rate")), True))
        rows.append(Row("%s, the baseline's" % label, "/s", (bases[1], "rate"), (bases[0], "rate")))
    cases.append(Case("B13", "one core and thread, and two; an empty service, a pair of bare loops", sides, rows))

    cases.append(Case(
        "B14", "start, size, and at rest with one subscriber, beside an empty gRPC service",
        {"ours": lambda: p.footprint(2.5 * seconds), "empty": lambda: p.empty_footprint(2.5 * seconds)},
        [Row("cold start to the first delivery; empty: to listening", "ms", ("ours", "first"), ("empty", "first"), "≤ 50",
             lambda m: 50),
         Row("stripped program", "MiB", ("ours", "size"), ("ours", "size"), "≤ 15", lambda m: 15),
         Row("wake-ups of our own threads", "/s", ("ours", "own_wakings"), ("empty", "own_wakings"), "0", lambda m: 0),
         Row("wake-ups with gRPC's", "/s", ("ours", "wakings"), ("empty", "wakings")),
         Row("CPU per second", "µs", ("ours", "cpu_idle"), ("empty", "cpu_idle")),
         Row("resident memory", "MiB", ("ours", "resident"), ("empty", "resident"), "≤ 25", lambda m: 25),
         Row("of it not of files", "MiB", ("ours", "own"), ("empty", "own"))]))

    sides, rows = {}, []
    for callers in (1, 16, 64):
        side = "%d callers" % callers
        sides[side] = lambda callers=callers: p.durable(callers, seconds)
        least = 30000 if callers == 64 else None
        rows += [Row("durable events/s, %s, times those of bare SQLite; of write and fdatasync" % side, "×",
                     (side, "to_sqlite"), (side, "to_write"), "≥ 0.5", lambda m: 0.5, True),
                 Row("durable events/s, %s; bare SQLite" % side, "/s", (side, "ours rate"), (side, "sqlite rate"),
                     "≥ %d" % least if least else "", (lambda m, least=least: least) if least else None, True),
                 Row("p99 to the acknowledgement, %s; a bare commit" % side, "µs", (side, "ours p99"),
                     (side, "sqlite p99"), "≤ 10 ms", lambda m: 10000),
                 Row("CPU per event, %s" % side, "µs", (side, "ours cpu_event"), (side, "sqlite cpu_event"))]
    cases.append(Case("B16", "durable delivery: committed, acknowledged, delivered, erased", sides, rows))

    cases.append(streams("B4f", "FAILOVER"))
    cases.append(streams("B4r", "ROUND-ROBIN"))

    sides, rows = {}, []
    for label, listener, loop, kind, floor in (("unix datagram", "unix:DIR/in", "unix", "unix", 300000),
                                               ("tcp plain", "tcp:127.0.0.1:0", "tcp", "tcp", 300000),
                                               ("tcp reliable", "tcp:127.0.0.1:0", "request", "reliable", 150000)):
        sides["ours " + label] = lambda listener=listener, loop=loop: p.ingest(listener, loop, seconds)
        sides["bare " + label] = lambda loop=loop, kind=kind: p.bare(loop, kind, short)
        rows.append(Row("events/s delivered, " + label, "/s", ("ours " + label, "rate"), ("bare " + label, "rate"),
                        "≥ %d" % floor, lambda m, floor=floor: floor, True))
        rows.append(Row("CPU per event, " + label, "µs", ("ours " + label, "cpu_delivery"),
                        ("bare " + label, "cpu_event")))
    cases.append(Case("B6", "OpenSIPS' ingest to one udp subscriber", sides, rows))
    return cases
