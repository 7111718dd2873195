"""A client of pika's: with_pika.py produce|consume URL QUEUE COUNT

Produces messages with numbered bodies, or prints a line for each message that it takes.
"""

import sys

import pika


def produce(channel, queue, count):
    channel.confirm_delivery()
    for number in range(count):
        channel.basic_publish("", queue, b"pika %d" % number, mandatory=True)


def consume(channel, queue, count):
    channel.basic_qos(prefetch_count=100)
    for method, properties, body in channel.consume(queue, inactivity_timeout=60):
        if method is None:
            sys.exit("nothing comes")
        header = properties.headers.get
        print(
            properties.message_id,
            header("annulus-ring"),
            header("annulus-generation"),
            header("annulus-position"),
            header("annulus-tag"),
            properties.delivery_mode,
            body.hex(),
        )
        channel.basic_ack(method.delivery_tag)
        count -= 1
        if count == 0:
            return


verb, url, queue, count = sys.argv[1:]
connection = pika.BlockingConnection(pika.URLParameters(url))
{"produce": produce, "consume": consume}[verb](connection.channel(), queue, int(count))
connection.close()
