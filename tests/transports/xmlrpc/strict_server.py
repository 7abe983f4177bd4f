"""A strict XML-RPC server: strict_server.py PORT RECORD.

Python's own server, behind a check of each call against the specification (xmlrpc.com/spec). Each call of `receive` is
recorded in the file RECORD as one line of JSON, before it is answered; `refuse` answers with a fault.
"""

import json
import re
import sys
import xml.etree.ElementTree
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer


def require(condition, what):
    if not condition:
        raise ValueError(what)


def check_value(value):
    require(value.tag == "value" and len(value) == 1, f"<{value.tag}> of {len(value)} elements where a value must be")
    typed = value[0]
    text = typed.text or ""
    if typed.tag == "struct":
        for member in typed:
            require([child.tag for child in member] == ["name", "value"] and member.tag == "member", "a bad member")
            check_value(member[1])
        return
    require(len(typed) == 0, f"elements in <{typed.tag}>")
    if typed.tag in ("i4", "int"):
        require(re.fullmatch(r"[+-]?\d+", text) and -2**31 <= int(text) < 2**31, f"no 32-bit integer: {text}")
    elif typed.tag == "double":
        require(re.fullmatch(r"[+-]?\d+(\.\d+)?", text), f"no double: {text}")
    elif typed.tag == "boolean":
        require(text in ("0", "1"), f"no boolean: {text}")
    else:
        require(typed.tag == "string", f"no type of the specification: {typed.tag}")


def check_call(data):
    call = xml.etree.ElementTree.fromstring(data)
    require(call.tag == "methodCall" and [child.tag for child in call] == ["methodName", "params"], "no method call")
    for param in call[1]:
        require(param.tag == "param" and len(param) == 1, "a parameter is not one value")
        check_value(param[0])


class Handler(SimpleXMLRPCRequestHandler):
    protocol_version = "HTTP/1.1"
    rpc_paths = ("/RPC2", "/calls")

    def decode_request_content(self, data):
        try:
            require(self.headers["Content-Type"] == "text/xml", "no text/xml")
            check_call(data)
        except (ValueError, xml.etree.ElementTree.ParseError) as error:
            self.send_error(400, str(error))  # and nothing is given to the dispatcher
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return super().decode_request_content(data)

    def log_message(self, *_):
        pass


def main():
    with open(sys.argv[2], "a", encoding="utf-8") as record:

        def receive(*params):
            print(json.dumps(params), file=record, flush=True)
            return True

        def refuse(*_):
            raise RuntimeError("not <today>")

        server = SimpleXMLRPCServer(("127.0.0.1", int(sys.argv[1])), Handler, logRequests=False)
        server.register_function(receive)
        server.register_function(refuse, "calls.refuse")
        server.serve_forever()


main()
