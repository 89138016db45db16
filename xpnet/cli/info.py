"""`xpnet info`."""

import click

from xpnet.backends import LIBRARIES, backend_class
from xpnet.cli.tables import print_table
from xpnet.errors import XpnetError


@click.command(short_help="List the array libraries, and their devices.")
def info() -> None:
    """List the array libraries, their devices, and how to install what is missing."""
    rows = []
    for name in LIBRARIES:
        library = backend_class(name)
        try:
            version, devices = library.version(), library.devices()
        except XpnetError as error:
            rows.append([name, "-", str(error).partition(": ")[2]])
            continue
        missing = [kind for kind in library.kinds if not any(device.startswith(kind) for device in devices)]
        notes = [f"no {kind}: {library.missing_device(kind)}" for kind in missing]
        if devices:
            notes.insert(0, ", ".join(devices))
        rows += [[name, version, notes[0]], *(["", "", note] for note in notes[1:])]
    print_table(rows, ["library", "version", "devices, or what to do"])
