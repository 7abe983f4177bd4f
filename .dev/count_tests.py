"""Counts test cases: python3 .dev/count_tests.py FILE, FILE of `bazel test --build_event_json_file`.

Prints "PASSED FAILED". A target without a list of cases counts as one; so does one that could not be built. The cases
that failed are named on stderr.
"""

import json
import sys
import urllib.parse
import xml.etree.ElementTree


def cases(xml_path):
    """Yields (name, passed) of each case that ran; nothing if the file does not tell."""
    try:
        root = xml.etree.ElementTree.parse(xml_path).getroot()
    except (OSError, xml.etree.ElementTree.ParseError):
        return
    for case in root.iter("testcase"):
        if case.get("status") == "notrun" or case.find("skipped") is not None:
            continue
        name = "%s.%s" % (case.get("classname", ""), case.get("name", ""))
        yield name, case.find("failure") is None and case.find("error") is None


def count_target(label, result):
    """(passed, failed) of one run of one test target."""
    passed, failed = 0, 0
    for output in result.get("testActionOutput", []):
        if output["name"] != "test.xml":
            continue
        for name, ok in cases(urllib.parse.unquote(urllib.parse.urlparse(output["uri"]).path)):
            passed += ok
            failed += not ok
            if not ok:
                print("FAILED: %s %s" % (label, name), file=sys.stderr)
    if result["status"] in ("PASSED", "FLAKY"):
        return max(passed, 1), failed
    if failed == 0:  # It crashed, leaked or ran out of time: no case says so.
        print("FAILED: %s (%s)" % (label, result["status"]), file=sys.stderr)
        failed = 1
    return passed, failed


def main(path):
    runs = {}  # by label, run and shard: a later attempt replaces an earlier one
    unbuilt = set()
    with open(path, encoding="utf-8") as events:
        for event in map(json.loads, events):
            identity = event["id"]
            if "testResult" in event:
                key = identity["testResult"]
                runs[key["label"], key.get("run"), key.get("shard")] = event["testResult"]
            elif "targetCompleted" in identity and not event.get("completed", {}).get("success"):
                unbuilt.add(identity["targetCompleted"]["label"])
    counts = [count_target(key[0], runs[key]) for key in sorted(runs, key=str)]
    for label in sorted(unbuilt):
        print("FAILED: %s was not built" % label, file=sys.stderr)
    print(sum(c[0] for c in counts), sum(c[1] for c in counts) + len(unbuilt))


if __name__ == "__main__":
    main(sys.argv[1])
