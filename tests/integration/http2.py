"""Frames of HTTP/2 (RFC 9113), byte by byte: for what no client library would send."""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PIECE = 16000  # bytes of a block of headers in one frame; all peers take them


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def integer(value, prefix):
    """RFC 7541, 5.1: an integer after a prefix of so many bits, whose other bits are zero."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes([value])
    out, value = [most], value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes(out + [value])


def header(name, value):
    """RFC 7541, 6.2.2: a literal that is not remembered."""
    return b"\0" + integer(len(name), 7) + name + integer(len(value), 7) + value


def block_of_headers(stream, block):
    """As many frames as it takes."""
    pieces = [block[at:at + PIECE] for at in range(0, len(block), PIECE)]
    return b"".join(frame(CONTINUATION if i else HEADERS, END_HEADERS if i == len(pieces) - 1 else 0, stream, piece)
                    for i, piece in enumerate(pieces))
