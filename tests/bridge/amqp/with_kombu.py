"""A client of kombu's: with_kombu.py produce|consume URL QUEUE COUNT

Produces messages with numbered bodies and headers of its own, or prints a line for each message
that it takes.
"""

import sys

import kombu


def produce(connection, queue, count):
    producer = connection.Producer()
    for number in range(count):
        producer.publish({"kombu": number}, routing_key=queue, headers={"task": "none"})


def consume(connection, queue, count):
    taken = []

    def take(message):
        header = message.headers.get
        print(
            message.properties["message_id"],
            header("annulus-ring"),
            header("annulus-generation"),
            header("annulus-position"),
            header("annulus-tag"),
            message.properties["delivery_mode"],
            bytes(message.body).hex(),
        )
        message.ack()
        taken.append(message.delivery_tag)

    queue = kombu.Queue(queue, no_declare=True)
    with connection.Consumer([queue], on_message=take, prefetch_count=100):
        while len(taken) < count:
            connection.drain_events(timeout=60)


verb, url, queue, count = sys.argv[1:]
with kombu.Connection(url, transport_options={"confirm_publish": True}) as connection:
    {"produce": produce, "consume": consume}[verb](connection, queue, int(count))
