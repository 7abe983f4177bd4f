"""Takes all that is in a queue of strict_sqs.py: consumer.py PORT QUEUE, run by the Python of moto's environment.

AWS's own client for Python. Prints a line of JSON for each message, in the order of their coming.
"""

import json
import sys

import boto3

sqs = boto3.client("sqs", region_name="eu-central-1", endpoint_url="http://127.0.0.1:" + sys.argv[1],
                   aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
queue = sqs.get_queue_url(QueueName=sys.argv[2])["QueueUrl"]
while True:
    messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, MessageAttributeNames=["All"],
                                   MessageSystemAttributeNames=["All"]).get("Messages", [])
    if not messages:
        break
    for message in messages:
        given = {"body": message["Body"]}
        for name, value in message.get("MessageAttributes", {}).items():
            given[name] = value["StringValue"]
        for name in ("MessageGroupId", "MessageDeduplicationId"):
            if name in message["Attributes"]:
                given[name] = message["Attributes"][name]
        print(json.dumps(given))
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
