"""OpenSIPS' own Python package, unmodified, in an interpreter that has it: opensips_client.py [NAME=VALUE…].

The arguments are those of a connector; CONN= says which. Reads a JSON array [command, parameters] per line and prints what
the connector gave, as JSON, or the text of its exception. The command `hear EVENT` subscribes by the package's event
handler, raises the event with the parameter 1, prints what its callback got, and unsubscribes.
"""

import json
import queue
import sys

from opensips.event import OpenSIPSEventHandler
from opensips.mi import OpenSIPSMI, OpenSIPSMIException


def main(arguments):
    options = dict(argument.split("=", 1) for argument in arguments)
    mi = OpenSIPSMI(options.pop("CONN"), **options)
    for line in sys.stdin:
        command, params = json.loads(line)
        try:
            if command == "hear":
                heard = queue.Queue()
                event = OpenSIPSEventHandler(mi, "datagram", ip="127.0.0.1").subscribe(params, heard.put)
                mi.execute("raise_event", [params, ["1"]])
                answer = heard.get(timeout=20)
                event.unsubscribe()
            else:
                answer = mi.execute(command, params)
            print(json.dumps(answer), flush=True)
        except OpenSIPSMIException as error:
            print(json.dumps(str(error)), flush=True)


main(sys.argv[1:])
