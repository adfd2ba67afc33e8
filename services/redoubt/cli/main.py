"""The command line: `redoubt VERB` for the daily things, `redoubt NOUN VERB` for what is administered.

A command parses, calls one use case, renders, exits. Errors reach a person in four parts (`errors.py`)
and end in a documented exit code (`exits.py`).
"""

import sys
import traceback
from datetime import UTC, datetime
from importlib import import_module
from typing import Annotated

import typer

from redoubt import __version__, settings
from redoubt.cli import output
from redoubt.cli.exits import Exit
from redoubt.errors import InputError, RedoubtError

app = typer.Typer(
    name="redoubt",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Cited answers from your own documents, on models you hold.\n\n"
        '**Start:** `redoubt up --docs ~/handbook`, then `redoubt ask "How long is the notice period?"`.\n\n'
        "**Look:** `redoubt status` for the processes, `redoubt index status` for the documents.\n\n"
        "**Stop:** `redoubt down`; what was ingested stays, a second start ingests nothing anew.\n\n"
        "All state is under REDOUBT_HOME; every command takes `--json`."
    ),
)


def _version(asked: bool) -> None:
    if asked:
        print(f"redoubt {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version


_VERBS = {  # in the order of a first day: the module that a verb is in
    "up": "up", "ask": "ask", "search": "search", "status": "status", "logs": "status", "down": "down", "demo": "demo",
}  # fmt: skip
_NOUNS = ("source", "index", "key")


def assemble(arguments: list[str]) -> None:
    """Register the named command, or all of them: importing each costs a second that `status` need not spend."""
    named = next((argument for argument in arguments if not argument.startswith("-")), None)
    for verb, module in _VERBS.items():
        if named == verb or named not in (*_VERBS, *_NOUNS):
            app.command(verb)(getattr(import_module(f"redoubt.cli.{module}"), verb))
    for noun in _NOUNS:
        if named == noun or named not in (*_VERBS, *_NOUNS):
            app.add_typer(import_module(f"redoubt.cli.{noun}").app, name=noun)


def run() -> None:
    """The console entry point: every failure is rendered once, here."""
    json = "--json" in sys.argv[1:]
    try:
        assemble(sys.argv[1:])
        code = app(standalone_mode=not json)  # with --json, a wrong option is reported by us, as JSON
        sys.exit(code if isinstance(code, int) else Exit.OK)
    except RedoubtError as error:
        output.failure(error, json=json)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(Exit.INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away; the interpreter would complain about it at exit
        sys.exit(Exit.OK)
    except Exception as error:
        ours = _usage(error) or _unexpected(error)
        output.failure(ours, json=json)
        sys.exit(ours.exit_code)


def _usage(error: Exception) -> InputError | None:
    """A wrong option or argument, told by typer's parser (whose own error classes are private)."""
    message = getattr(error, "format_message", None)
    if message is None or getattr(error, "exit_code", None) != Exit.INPUT:
        return None
    return InputError(str(message()), fix="see `--help` of the command")


def _unexpected(error: Exception) -> RedoubtError:
    """A defect: short for eyes, whole in a file that nobody else can read."""
    name = type(error).__name__
    try:
        folder = settings.home() / "log"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / "cli.log"
        with path.open("a", encoding="utf-8") as log:
            path.chmod(0o600)
            # File names and lines, not values: an exception's text may quote a document.
            frames = traceback.extract_tb(error.__traceback__)
            log.write(f"{datetime.now(UTC).isoformat()} {name}\n" + "".join(traceback.format_list(frames)))
        where = f"the stack is in {path}"
    except OSError:
        where = "and its log could not be written"
    return RedoubtError(f"unexpected {name}", why=where, fix="see `redoubt status`; if it persists, report the stack")


if __name__ == "__main__":
    run()
