#!/usr/bin/env python3
"""CPython's own network tests, without the library and under it with MPTCP_LOOPBACK=1, compared test by test.

usage: tests/cpython.py --library LIBRARY --command MPTCP [--keep DIRECTORY] [TEST...]

Each run has a network namespace (its loopback device is all there is) and a process namespace of its own, which takes everything
along that a test leaves behind. Differences that are explained stand in tests/cpython-differences.txt. Ends with 1 when there are others.
Needs root, and Debian's libpython3-testsuite for the python3 that is first in PATH under /usr/bin.
"""

import argparse
import json
import pathlib
import shlex
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

PYTHON = "/usr/bin/python3"
TESTS = [
    "test_socket",
    "test_asyncio",
    "test_ssl",
    "test_httplib",
    "test_socketserver",
    "test_selectors",
    "test_ftplib",
    "test_smtplib",
]
# Of another kind of socket, which leads out of any network namespace.
IGNORED = "*VSOCK*"
# Seconds for one module.
TIME_MAX = 900
DIFFERENCES = pathlib.Path(__file__).with_name("cpython-differences.txt")


def require():
    """Names the missing package, in one line."""
    find = "import importlib.util as u, sys; print(*sys.version_info[:2], sep='.'); sys.exit(not u.find_spec('test.test_socket'))"
    try:
        found = subprocess.run([PYTHON, "-c", find], capture_output=True, text=True)
    except OSError as error:
        sys.exit(f"{PYTHON}: {error.strerror} (on Debian: apt-get install python3 libpython3-testsuite)")
    if found.returncode:
        package = f"libpython{found.stdout.strip()}-testsuite"
        sys.exit(f"missing: {package} (on Debian, as root: apt-get install {package})")


def run(module, directory, options):
    """Runs one module; its results by test, and what the engine says of itself afterwards."""
    results = directory / f"{module}.xml"
    tests = [PYTHON, "-m", "test", "-v", "-u", "network", "-i", IGNORED, "--junit-xml", str(results), module]
    status = "true"
    if options:
        settings = [f"LD_PRELOAD={options.library.resolve()}", "MPTCP_LOOPBACK=1", f"MPTCP_IDLE_MS={TIME_MAX * 1000}"]
        tests = ["env", *settings, *tests]
        status = f"{shlex.quote(str(options.command.resolve()))} status --json >{module}.json"
    script = f"ip link set lo up && cd {shlex.quote(str(directory))} && {{ {shlex.join(tests)} >{module}.log 2>&1; {status}; }}"
    unshare = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    try:
        subprocess.run([*unshare, "sh", "-c", script], stdin=subprocess.DEVNULL, timeout=TIME_MAX)
    except subprocess.TimeoutExpired:
        print(f"{module}: not over after {TIME_MAX} s, see {directory}/{module}.log", file=sys.stderr)
        return {}
    return read_results(results)


def read_results(path):
    """Test name to ok, skipped, failed or error."""
    if not path.exists():
        return {}
    results = {}
    for case in ElementTree.parse(path).iter("testcase"):
        verdicts = {"failure": "failed", "error": "error", "skipped": "skipped"}
        verdict = next((verdicts[child.tag] for child in case if child.tag in verdicts), "ok")
        # Subtests and set-ups may bear one name.
        name = case.get("name")
        while name in results:
            name += "'"
        results[name] = verdict
    return results


def carried(path):
    """How many connections were asked for, and how many of them the engine carried."""
    try:
        engines = json.loads(path.read_text())["engines"]
    except (OSError, ValueError):
        return 0, 0
    asked = sum(status["engine"]["connects"] for status in engines)
    return asked, asked - sum(status["engine"]["bypassed"] for status in engines)


def explained():
    """`TEST: reason` for each line that is no comment."""
    lines = DIFFERENCES.read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines if line.strip() and not line.startswith("#"))


def compare(module, plain, ours, reasons):
    """Prints what differs; how many of that is unexplained."""
    bad = 0
    for name in sorted(plain.keys() | ours.keys()):
        before, after = plain.get(name, "absent"), ours.get(name, "absent")
        if before == after:
            continue
        reason = reasons.get(name)
        bad += reason is None
        print(f"    {name}: {before} without, {after} under the library: {reason or 'UNEXPLAINED'}")
    if not plain:
        print(f"    {module}: no results without the library")
    return bad + (not plain)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=pathlib.Path, required=True)
    parser.add_argument("--command", type=pathlib.Path, required=True)
    parser.add_argument("--keep", type=pathlib.Path, help="directory for logs and results")
    parser.add_argument("tests", nargs="*", default=TESTS)
    options = parser.parse_args()
    require()
    reasons = explained()
    directory = options.keep or pathlib.Path(tempfile.mkdtemp(prefix="mptcp-cpython-"))
    bad = 0
    for module in options.tests:
        runs = {}
        for name in ("plain", "library"):
            place = (directory / name).resolve()
            place.mkdir(parents=True, exist_ok=True)
            runs[name] = run(module, place, options if name == "library" else None)
        count = lambda results: " ".join(
            f"{list(results.values()).count(verdict)} {verdict}" for verdict in ("ok", "skipped", "failed", "error")
        )
        asked, ours = carried(directory / "library" / f"{module}.json")
        print(f"{module}\n    without: {count(runs['plain'])}\n    library: {count(runs['library'])}")
        print(f"    connections asked of the engine: {asked}, carried: {ours}", flush=True)
        bad += compare(module, runs["plain"], runs["library"], reasons)
    print(f"logs and results: {directory}")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
