"""An SQS that checks signatures: strict_sqs.py PORT, run by the Python of moto's environment.

moto's server, which believes everybody, behind a check of each request as AWS makes it: the signature (AWS Signature
Version 4) is computed again by botocore, which has nothing in common with libcurl's. Its queues, in memory and so empty
after each start: calls, calls.fifo, and small, which takes 1024 bytes. Keys: KEY, and KEY2 with its session token.
"""

import datetime
import io
import json
import re
import sys

import moto.server
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials
from moto.sqs.models import sqs_backends
from werkzeug.serving import WSGIRequestHandler, run_simple
from werkzeug.wrappers import Request, Response

ACCOUNT, REGION = "123456789012", "eu-central-1"
KEYS = {
    "AKIDEXAMPLE": Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
    "ASIAEXAMPLE": Credentials("ASIAEXAMPLE", "temporary/SECRET+KEY=", "IQoJb3JpZ2lu/+="),
}
AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{8})/([a-z0-9-]+)/sqs/aws4_request, "
                           r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})$")


class Refusal(Exception):
    """An error of AWS' front door: its name and text."""


class Signer(SigV4Auth):
    """Signs the headers that the request says it has signed, where botocore would choose."""

    def __init__(self, credentials, region, names):
        super().__init__(credentials, "sqs", region)
        self.names = names

    def headers_to_sign(self, request):
        signed = HTTPHeaders()
        for name in self.names:
            signed[name] = request.headers[name]
        return signed


def check_signature(request):
    found = AUTHORIZATION.match(request.headers.get("Authorization", ""))
    if not found:
        raise Refusal("IncompleteSignatureException", "Authorization header is no signature for SQS")
    key, date, region, names, signature = found.groups()
    names = names.split(";")
    if key not in KEYS:
        raise Refusal("UnrecognizedClientException", "The security token included in the request is invalid.")
    if region != REGION:
        raise Refusal("InvalidSignatureException", "Credential should be scoped to a valid region.")
    for name in names:
        if name not in request.headers:
            raise Refusal("IncompleteSignatureException",
                          f"'{name}' is named as a SignedHeader, but it does not exist in the HTTP request.")
    for name in request.headers.keys():
        if name.lower() not in names and (name.lower() == "host" or name.lower().startswith("x-amz-")):
            raise Refusal("InvalidSignatureException", f"'{name}' must be a SignedHeader")
    stamp = request.headers["X-Amz-Date"]
    age = datetime.datetime.utcnow() - datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ")
    if not stamp.startswith(date) or abs(age) > datetime.timedelta(minutes=15):
        raise Refusal("InvalidSignatureException", f"Signature expired: {stamp}")
    token = request.headers.get("X-Amz-Security-Token")
    if token != KEYS[key].token:
        raise Refusal("UnrecognizedClientException", "The security token included in the request is invalid.")
    signed = AWSRequest(request.method, f"http://{request.host}{request.full_path.rstrip('?')}", dict(request.headers),
                        request.get_data())
    signed.context["timestamp"] = stamp
    signer = Signer(KEYS[key], region, names)
    canonical = signer.canonical_request(signed)
    if signer.signature(signer.string_to_sign(signed, canonical), signed) != signature:
        # AWS too tells what it would have signed, the token with it.
        raise Refusal("InvalidSignatureException", "The request signature we calculated does not match the signature "
                      f"you provided. Check your AWS Secret Access Key.\n\nThe Canonical String should have been\n'{canonical}'")


def checked(application):
    def answer(environ, start_response):
        request = Request(environ)
        environ["wsgi.input"] = io.BytesIO(request.get_data())  # read here, and again by moto
        try:
            check_signature(request)
        except Refusal as refusal:
            name, text = refusal.args
            body = json.dumps({"__type": "com.amazon.coral.service#" + name, "message": text})
            return Response(body, 403, content_type="application/x-amz-json-1.0")(environ, start_response)
        return application(environ, start_response)

    return answer


class QuietHandler(WSGIRequestHandler):
    def log_request(self, *_):
        pass


def main():
    backend = sqs_backends[ACCOUNT][REGION]
    backend.create_queue("calls", {})
    backend.create_queue("calls.fifo", {}, FifoQueue="true")
    backend.create_queue("small", {}, MaximumMessageSize=1024)
    application = moto.server.DomainDispatcherApplication(moto.server.create_backend_app)
    run_simple("127.0.0.1", int(sys.argv[1]), checked(application), threaded=True, request_handler=QuietHandler)


main()
