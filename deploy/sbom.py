"""The software bill of materials of a program: what it is linked with, as CycloneDX 1.5 (ECMA-424) in JSON.

    deploy/sbom.py PROGRAM

All of it comes from Debian's packages and is linked dynamically, so what the loader finds is what runs; which package a
file is from, dpkg knows. Component by component: the package, its version, the source it is built from, the files that are
used, and whether the program asks for one of them by itself or another library does.
"""

import json
import os
import re
import subprocess
import sys


# One line for a package: as packages_of() calls it, and what is said about it.
FORM = "\t".join(("${binary:Package}", "${Package}", "${Version}", "${Architecture}", "${source:Package}", "${source:Version}",
                  "${Homepage}")) + "\n"


def said_by(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def libraries_of(program):
    """{its name: the file} of every library that the loader maps for `program`."""
    mapped = said_by("ldd", program)
    found = re.findall(r"^\s*(\S+) => (/\S+) \(", mapped, re.MULTILINE)
    interpreter = re.search(r"^\s*(/\S+) \(", mapped, re.MULTILINE)
    return {**dict(found), os.path.basename(interpreter.group(1)): interpreter.group(1)}


def needed_by(file):
    """The names of the libraries that `file` itself asks for."""
    return re.findall(r"\(NEEDED\).*\[(.*)\]", said_by("readelf", "--dynamic", "--wide", file))


def places_of(file):
    """The names by which a package may know it: Debian 12's /lib is /usr/lib, and packages say either."""
    real = os.path.realpath(file)
    return {file, real, file.replace("/lib", "/usr/lib", 1), real.replace("/usr/lib", "/lib", 1)}


def packages_of(program):
    """{package: (its libraries' names, those that `program` asks for)}."""
    libraries = libraries_of(program)
    places = {place: name for name, file in libraries.items() for place in places_of(file)}
    # It ends with an error when it does not know one of the places, and says what it knows.
    known = subprocess.run(("dpkg-query", "--search", *places), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    package_of = {}
    for line in known.stdout.splitlines():
        package, _, place = line.partition(": ")
        if place in places:
            package_of[places[place]] = package
    if strangers := sorted(set(libraries) - set(package_of)):
        raise SystemExit("no package of Debian has %s" % ", ".join(libraries[name] for name in strangers))
    direct = needed_by(program)
    packages = {}
    for name, package in sorted(package_of.items()):
        files, asked = packages.setdefault(package, ([], []))
        files.append(name)
        if name in direct:
            asked.append(name)
    return packages


def component(about, files, asked):
    """`about`: the fields of FORM, as dpkg says them."""
    name, version, architecture, source, source_version, homepage = about
    purl = "pkg:deb/debian/%s@%s?arch=%s&distro=debian-12" % (
        name.replace("+", "%2B"), version.replace("+", "%2B").replace(":", "%3A"), architecture)
    return {
        "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
        **({"externalReferences": [{"type": "website", "url": homepage}]} if homepage else {}),
        "properties": [
            {"name": "eventvirtual:source", "value": "%s %s" % (source, source_version)},
            {"name": "eventvirtual:linked", "value": "directly" if asked else "by another library"},
        ] + [{"name": "eventvirtual:file", "value": file} for file in files],
    }


def bill_of(program, version):
    packages = packages_of(program)
    told = said_by("dpkg-query", "--show", "--showformat=" + FORM, *packages).splitlines()
    about = {line.split("\t")[0]: line.split("\t")[1:] for line in told}
    components = [component(about[package], *use) for package, use in sorted(packages.items())]
    name = os.path.basename(program)
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": name, "name": name, "version": version}},
        "components": components,
        "dependencies": [{"ref": name, "dependsOn": [one["bom-ref"] for one in components]}],
    }


def main():
    program = sys.argv[1]
    version = said_by(program, "--version").split()[-1]
    json.dump(bill_of(program, version), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
