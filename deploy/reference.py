"""What the programs say of themselves, for those who operate them: python3 deploy/reference.py WHAT PROGRAM

  configuration EVENTVIRTUALD   every flag as a line of a configuration file, commented out, with its meaning and default
  table EVENTVIRTUALD           the same as a table in Markdown
  man EVENTVIRTUALD             its manual page, eventvirtuald(8)
  man EVCTL                     its manual page, evctl(1)
  write EVENTVIRTUALD           puts the first two into deploy/eventvirtuald.conf and docs/operations.md

So there is one place where a flag is explained: where it is defined.
"""

import collections
import os
import re
import subprocess
import sys
import textwrap
import time

CONFIGURATION = "deploy/eventvirtuald.conf"
OPERATIONS = "docs/operations.md"
TABLE_BEGINS, TABLE_ENDS = "<!-- flags: python3 deploy/reference.py write -->\n", "<!-- /flags -->\n"

Flag = collections.namedtuple("Flag", "name meaning default")

# Those that an operator looks for first; the others follow in the order of --help.
FIRST = ("listen", "ingest", "mi", "enroll", "http", "data_dir", "destinations", "secrets", "allow_directory")
# Makes no sense inside the file that it names.
NOT_IN_FILE = ("config",)
# What the packaged service has, other than by default.
PACKAGED = {"allow_directory": "/var/log,/var/spool", "data_dir": "/var/lib/eventvirtual", "http": "127.0.0.1:7063"}

CONFIGURATION_HEAD = """\
# eventvirtuald --config=FILE
#
# Lines `name = value`: the flags of eventvirtuald, without their dashes; the command line wins. What is commented out
# shows the default; what is not is for the packaged service. Written by deploy/reference.py out of `eventvirtuald --help`.
"""


def said_by(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=20, check=False).stdout.decode()


def flags_of(help_text):
    """The flags in the help of a program that uses Abseil's flags: `--name (meaning); default: value;`, wrapped."""
    text = re.sub(r"\n {6}", " ", help_text)
    found = [Flag(name, meaning, default.strip('"'))
             for name, meaning, default in re.findall(r"^    --(\w+) \((.*)\); +default: (.*?);", text, re.MULTILINE)]
    first = [flag for name in FIRST for flag in found if flag.name == name]
    return first + [flag for flag in found if flag not in first]


def configuration(flags):
    parts = [CONFIGURATION_HEAD]
    for flag in flags:
        if flag.name in NOT_IN_FILE:
            continue
        meaning = flag.meaning[0].upper() + flag.meaning[1:] + "."
        meaning = textwrap.fill(meaning, 118, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False,
                                break_long_words=False)
        line = "%s = %s" % (flag.name, PACKAGED.get(flag.name, flag.default))
        parts.append("%s\n%s%s\n" % (meaning, "" if flag.name in PACKAGED else "#", line))
    return "\n".join(parts).replace(" = \n", " =\n")


def table(flags):
    def cell(text):
        return text.replace("|", "\\|")
    rows = ["| flag | default | |", "|---|---|---|"]
    for flag in flags:
        rows.append("| `--%s` | %s | %s |" % (flag.name, "`%s`" % flag.default if flag.default else "",
                                              cell(flag.meaning)))
    return "\n".join(rows) + "\n"


def roff(text):
    """Text as roff shows it unchanged: a dash stays one, and no line is taken for a command."""
    return re.sub(r"^(?=[.'])", r"\\&", text.replace("\\", "\\e").replace("-", "\\-"), flags=re.MULTILINE)


def manual(name, section, summary, body):
    date = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
    return ".TH %s %s %s eventvirtual\n.SH NAME\n%s \\- %s\n%s" % (name.upper(), section, date, name, roff(summary), body)


def server_manual(help_text):
    usage = re.search(r"^  (eventvirtuald .*)$", help_text, re.MULTILINE).group(1).replace("…", "...")
    body = ".SH SYNOPSIS\n.nf\n%s\n.fi\n" % roff(usage)
    body += ".SH DESCRIPTION\n" + roff(
        "Takes events over gRPC and from OpenSIPS, and delivers each to the subscribers of a virtual subscription by "
        "its policy: PARALLEL, FAILOVER or ROUND-ROBIN. Runs in the foreground until SIGTERM or SIGINT, then finishes "
        "what is on its way.") + "\n"
    body += ".SH OPTIONS\n" + roff("Flags are written --name=value. --config names a file that has them as lines "
                                   "name = value; what stands on the command line wins.") + "\n"
    for flag in flags_of(help_text):
        default = " Default: %s." % flag.default if flag.default else ""
        body += ".TP\n.BI \\-\\-%s= value\n%s\n" % (flag.name.replace("-", "\\-"),
                                                   roff(flag.meaning[0].upper() + flag.meaning[1:] + "." + default))
    body += ".TP\n.B \\-\\-help\nPrints the flags.\n.TP\n.B \\-\\-version\nPrints the version.\n"
    body += ".SH EXIT STATUS\n0 after a stop in order, 1 when a flag is wrong or an address cannot be served.\n"
    body += ".SH ENVIRONMENT\n.TP\n.B NOTIFY_SOCKET\nWhere systemd is told that the service is ready, and stops.\n"
    body += (".SH FILES\n.TP\n.I /etc/eventvirtual/eventvirtuald.conf\nThe flags of the packaged service.\n"
             ".TP\n.I /var/lib/eventvirtual\nIts \\-\\-data_dir.\n")
    body += ".SH SEE ALSO\n.BR evctl (1)\n"
    return manual("eventvirtuald", 8, "virtual event subscriptions over gRPC", body)


def client_manual(program, help_text):
    head, commands, _, common = help_text.split("\n\n", 3)
    body = ".SH SYNOPSIS\n.B evctl\n.RI [ flags \"] \" command \" [\" words ]\n"
    body += ".SH DESCRIPTION\n" + roff(
        "Subscribes, raises events, and shows what eventvirtuald does. evctl help COMMAND shows what stands here.") + "\n"
    body += ".SH COMMANDS\n"
    for usage in re.findall(r"^  (\S.*?)(?:  .*)?$", commands, re.MULTILINE):
        name = usage.split()[0]
        details = said_by(program, "help", name)
        details = details[:details.index("\nEverywhere:")]
        title, _, rest = details.partition("\n")
        summary = title[len("evctl " + usage + ": "):]
        body += ".SS %s\n%s\n" % (roff(usage), roff(summary[0].upper() + summary[1:] + "."))
        if rest.strip():
            body += ".PP\n.nf\n%s\n.fi\n" % roff(rest.strip("\n"))
    options, exits = re.search(r"Everywhere:\n(.*)\nExit: (.*)", common, re.DOTALL).groups()
    body += ".SH OPTIONS\n"
    for option, meaning in re.findall(r"^  (\S.*?)  +(.*)$", options, re.MULTILINE):
        body += ".TP\n.B %s\n%s\n" % (roff(option), roff(meaning))
    body += ".SH EXIT STATUS\n%s\n" % roff(re.sub(r"\s+", " ", exits).strip() + ".")
    body += ".SH ENVIRONMENT\n.TP\n.B EVENTVIRTUAL_SERVER\nThe default of \\-\\-server.\n"
    body += ".SH SEE ALSO\n.BR eventvirtuald (8)\n"
    return manual("evctl", 1, head.partition(": ")[2], body)


def with_table(document, flags):
    begin, end = document.index(TABLE_BEGINS) + len(TABLE_BEGINS), document.index(TABLE_ENDS)
    return document[:begin] + table(flags) + document[end:]


def write(flags):
    with open(CONFIGURATION, "w", encoding="utf-8") as file:
        file.write(configuration(flags))
    with open(OPERATIONS, encoding="utf-8") as file:
        document = file.read()
    with open(OPERATIONS, "w", encoding="utf-8") as file:
        file.write(with_table(document, flags))


def main(argv):
    if len(argv) != 3 or argv[1] not in ("configuration", "table", "man", "write"):
        sys.exit(__doc__)
    what, program = argv[1:]
    help_text = said_by(program, "--help")
    if what == "man" and os.path.basename(program) == "evctl":
        print(client_manual(program, help_text), end="")
    elif what == "man":
        print(server_manual(help_text), end="")
    elif what == "write":
        write(flags_of(help_text))
    else:
        print({"configuration": configuration, "table": table}[what](flags_of(help_text)), end="")


if __name__ == "__main__":
    main(sys.argv)
