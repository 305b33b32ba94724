"""A key, and a certificate for 127.0.0.1 that it signs itself, with nothing but Python. Prints both as PEM."""

import base64
import datetime
import hashlib
import secrets

SHA256_WITH_RSA = "1.2.840.113549.1.1.11"


def is_prime(number):
    """Miller and Rabin; forty rounds are wrong less often than the machine is."""
    if any(number % small == 0 for small in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)):
        return False
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(40):
        power = pow(secrets.randbelow(number - 3) + 2, odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True


def prime(bits):
    while True:
        number = secrets.randbits(bits) | 3 << bits - 2 | 1
        if number % 65537 != 1 and is_prime(number):
            return number


def der(tag, *parts):
    body = b"".join(parts)
    length = len(body)
    if length < 128:
        return bytes([tag, length]) + body
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 128 | size]) + length.to_bytes(size, "big") + body


def integer(number):
    return der(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def oid(text):
    first, second, *rest = map(int, text.split("."))
    body = bytes([40 * first + second])
    for number in rest:
        part = [number & 127]
        while number := number >> 7:
            part.insert(0, number & 127 | 128)
        body += bytes(part)
    return der(6, body)


def name(text):
    return der(0x30, der(0x31, der(0x30, oid("2.5.4.3"), der(12, text.encode()))))


def extension(number, value, critical=False):
    return der(0x30, oid(number), der(1, b"\xff") if critical else b"", der(4, value))


def pem(kind, body):
    text = base64.b64encode(body).decode()
    lines = [text[at:at + 64] for at in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----"])


def main():
    p, q, e = prime(1024), prime(1024), 65537
    n, d = p * q, pow(e, -1, (p - 1) * (q - 1))
    key = der(0x30, *map(integer, [0, n, e, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p)]))

    algorithm = der(0x30, oid(SHA256_WITH_RSA), der(5))
    today = datetime.datetime.now(datetime.timezone.utc)
    times = [today - datetime.timedelta(days=1), today + datetime.timedelta(days=30)]
    public = der(0x30, der(0x30, oid("1.2.840.113549.1.1.1"), der(5)),
                 der(3, b"\0", der(0x30, integer(n), integer(e))))
    extensions = der(0x30, extension("2.5.29.19", der(0x30), critical=True),
                     extension("2.5.29.17", der(0x30, der(0x87, bytes([127, 0, 0, 1])))))
    body = der(0x30, der(0xa0, integer(2)), integer(secrets.randbits(63)), algorithm, name("tracker of a test"),
               der(0x30, *(der(23, time.strftime("%y%m%d%H%M%SZ").encode()) for time in times)),
               name("tracker of a test"), public, der(0xa3, extensions))

    # PKCS #1 v1.5: the digest with its name, and enough of 0xff in front.
    digest = der(0x30, der(0x30, oid("2.16.840.1.101.3.4.2.1"), der(5)), der(4, hashlib.sha256(body).digest()))
    padded = b"\0\1" + b"\xff" * (256 - 3 - len(digest)) + b"\0" + digest
    signature = pow(int.from_bytes(padded, "big"), d, n).to_bytes(256, "big")
    certificate = der(0x30, body, algorithm, der(3, b"\0", signature))
    print(pem("RSA PRIVATE KEY", key))
    print(pem("CERTIFICATE", certificate))


main()
