#!/usr/bin/env python3
"""Debian's package records as JSON Lines: a real data set of some 60,000 records, of 500 bytes to 75 kB each.

    bench/datasets/packages.py > bench/datasets/packages.jsonl      reads `apt-cache dumpavail`
    bench/datasets/packages.py FILE > packages.jsonl                reads such a dump from a file, - is stdin

Each line is {"key": the package's name, "value": {field: text, ...}}, fields as the record has them and in its order,
folded lines joined by a newline. Lines are sorted by key, so the same records give the same bytes. Keys are unique:
where a name comes again, the first record keeps it and the others are called NAME=VERSION, as apt writes it; one
that comes again with the same version (another architecture) is left out. Bytes that are no UTF-8 become U+FFFD.
Count, what was left out, and the SHA-256 of the output go to stderr.
"""

import hashlib
import json
import subprocess
import sys


def records(lines):
    """Splits a dump into records, each a dict of its fields; what is neither a field nor a folded line is skipped."""
    record, field = {}, None
    for line in lines:
        text = line.decode("utf-8", errors="replace").rstrip("\r\n")
        if not text.strip():
            if record:
                yield record
            record, field = {}, None
        elif text[0] in " \t":
            if field is not None:
                record[field] += "\n" + text.strip()
        else:
            name, colon, value = text.partition(":")
            field = name if colon else None
            if colon:
                record[name] = value.strip()
    if record:
        yield record


def keyed(found):
    """Gives every record a key of its own; returns them by key, and how many were left out."""
    by_key, left_out = {}, 0
    for record in found:
        name = record.get("Package", "")
        keys = [name, f"{name}={record.get('Version', '')}"] if name else []
        free = next((key for key in keys if key not in by_key), None)
        if free is None:
            left_out += 1
        else:
            by_key[free] = record
    return by_key, left_out


def main(arguments):
    if len(arguments) > 1 or any(a.startswith("-") and a != "-" for a in arguments):
        print(__doc__, file=sys.stderr)
        return 2
    if not arguments:
        dump = subprocess.run(["apt-cache", "dumpavail"], stdout=subprocess.PIPE, check=True).stdout
    elif arguments == ["-"]:
        dump = sys.stdin.buffer.read()
    else:
        with open(arguments[0], "rb") as file:
            dump = file.read()
    # Not splitlines(): that would also split at form feeds and the like, which a text may hold.
    by_key, left_out = keyed(records(dump.split(b"\n")))
    digest = hashlib.sha256()
    for key in sorted(by_key):
        line = json.dumps({"key": key, "value": by_key[key]}, ensure_ascii=False, separators=(",", ":"))
        line = line.encode() + b"\n"
        digest.update(line)
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    print(f"{len(by_key)} records, {left_out} left out, sha256 {digest.hexdigest()}", file=sys.stderr)
    return 0 if by_key else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
