"""The arguments of every command, without what carries them out: help must not import a network client."""

from argparse import ArgumentParser, ArgumentTypeError


def for_serve(parser: ArgumentParser) -> None:
    """`waifu-llm serve`."""
    parser.description = (
        "Run the module until Ctrl-C. Each flag stands above its variable (WAIFU_LLM_SERVER_PORT), and that above the "
        "config file waifu-llm.toml. Gateways, which `waifu-llm list` names, let programs in that speak "
        "another protocol."
    )
    add = parser.add_argument
    add("--host", metavar="ADDRESS", help="listen there instead of 127.0.0.1; off loopback a token is needed")
    add("--port", metavar="PORT", type=_port, help="listen there instead of 7562; 0 takes a free port")
    add(
        "--no-remote-close",
        dest="remote_close",
        action="store_const",
        const=False,
        help="a client's `close` ends only its own connection",
    )
    add(
        "--allow-origin",
        metavar="ORIGIN",
        action="append",
        help="let web pages of this origin connect (https://example.org); may be repeated",
    )
    add("--allow-host", metavar="NAME", action="append", help="let this Host header in; may be repeated")
    add(
        "--isolate-clients",
        action="store_const",
        const=True,
        help="a client that loaded nothing may not use what another one loaded",
    )
    add("--token-file", metavar="FILE", help="the file with the token that clients must send")
    add("--tls-cert", metavar="FILE", help="certificate chain (PEM); with --tls-key clients connect by wss")
    add("--tls-key", metavar="FILE", help="the certificate's private key (PEM)")
    add("--log-level", metavar="LEVEL", help="debug, info, warning or error")
    add(
        "--prewarm",
        metavar="NAME",
        action="append",
        help="start this provider before a client asks for it, so that loading it takes no time; may be repeated",
    )
    add(
        "--prewarm-last",
        action="store_const",
        const=True,
        help="the same for the provider that was loaded last in an earlier run with this flag",
    )
    add(
        "--gateway",
        dest="gateways",
        metavar="NAME",
        action="append",
        default=[],
        help="start this gateway too (installed first where it is not); may be repeated",
    )
    add(
        "--set",
        dest="assignments",
        metavar="OPTION=VALUE",
        action="append",
        default=[],
        help="set gateway.NAME.KEY or provider.NAME.KEY of the config file for this run; may be repeated",
    )


def _port(text: str) -> int:
    """Whether it is in range is said where the other settings are looked at."""
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a port, a whole number from 0 to 65535") from None


def for_chat(parser: ArgumentParser) -> None:
    """`waifu-llm chat`."""
    parser.description = (
        "Talk to a provider. On a terminal it is a conversation: Ctrl-C interrupts an answer, Ctrl-D or /exit leaves. "
        "With --prompt, or with text on a pipe, it is one answer; with both, the piped text follows the prompt. "
        "The module that runs is used, with its own keys and variables, else one is started for as long as the "
        "command lasts."
    )
    parser.add_argument("provider", metavar="PROVIDER", help="its name in `waifu-llm list`")
    parser.add_argument("model", metavar="MODEL", nargs="?", help="its id in `waifu-llm models PROVIDER`")
    parser.add_argument("--prompt", metavar="TEXT", help="answer this and leave")
    parser.add_argument("--system", metavar="TEXT", help="tell the model who it is and how to answer")
    parser.add_argument("--json", action="store_true", help="print the one answer as JSON, with its token counts")


def for_models(parser: ArgumentParser) -> None:
    """`waifu-llm models`."""
    parser.description = "List the models of a provider. It is installed first where it is not."
    parser.add_argument("provider", metavar="PROVIDER")
    parser.add_argument("--json", action="store_true", help="print JSON, with what is known of each model")


def for_list(parser: ArgumentParser) -> None:
    """`waifu-llm list`."""
    parser.description = (
        "List the providers, and the gateways, which let programs in that speak another protocol. SIZE would become "
        "free by `waifu-llm uninstall`; SHARED lies on the disk only once for several of these and the installer's "
        "cache."
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with what each one declares")


def for_install(parser: ArgumentParser) -> None:
    """`waifu-llm install`."""
    parser.description = (
        "Build the environments of providers and gateways. Loading a provider, or starting a gateway, does it as well; "
        "this does it beforehand, and on a terminal asks before a large one."
    )
    parser.add_argument("names", metavar="NAME", nargs="+", help="names in `waifu-llm list`")
    parser.add_argument("--yes", action="store_true", help="do not ask before a large one")


def for_uninstall(parser: ArgumentParser) -> None:
    """`waifu-llm uninstall`."""
    parser.description = (
        "Remove the environments of providers and gateways; one that runs is kept. Keys, settings and what a gateway "
        "keeps stay."
    )
    parser.add_argument("names", metavar="NAME", nargs="+", help="names in `waifu-llm list`")


def for_update(parser: ArgumentParser) -> None:
    """`waifu-llm update`."""
    parser.description = (
        "Rebuild the environments that are broken or were made for another version of waifu-llm or of Python. Loading "
        "a provider, or starting a gateway, does it as well; this does it beforehand."
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="only these; else all that are installed")


def for_prune(parser: ArgumentParser) -> None:
    """`waifu-llm prune`."""
    parser.description = (
        "Remove environments, provider code and leftovers that this version of waifu-llm does not need; what a running "
        "process uses is kept."
    )


def for_ps(parser: ArgumentParser) -> None:
    """`waifu-llm ps`."""
    parser.add_argument("--json", action="store_true", help="print JSON, with the counters")


def for_stop(parser: ArgumentParser) -> None:
    """`waifu-llm stop`."""
    parser.description = (
        "Stop the workers of one provider, which frees their memory (they start again when they are needed); without "
        "a name stop each running module of this home, with all its workers and gateways."
    )
    parser.add_argument("provider", metavar="PROVIDER", nargs="?", help="the provider whose workers are stopped")


def for_logs(parser: ArgumentParser) -> None:
    """`waifu-llm logs`."""
    parser.add_argument("name", metavar="NAME", help="a provider, a gateway, or waifu-llm for the module's own log")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as the log grows, until Ctrl-C")


def for_keys(parser: ArgumentParser) -> None:
    """`waifu-llm keys`."""
    parser.description = (
        "Store, list and remove API keys. They lie in a file that only you can read, or, with the extra "
        "waifu-llm[keyring], in the operating system's keyring. A key in the provider's own variable (OPENAI_API_KEY) "
        "goes before a stored one."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", prog=parser.prog)
    adding = actions.add_parser(
        "set",
        help="store a key: asked for without echo, or read from a pipe",
        description="Store a key: asked for without echo, or read from a pipe.",
    )
    adding.add_argument("provider", metavar="PROVIDER")
    listing = actions.add_parser(
        "list", help="list the stored keys, masked", description="List the stored keys, masked."
    )
    listing.add_argument("--json", action="store_true", help="print JSON")
    removing = actions.add_parser("remove", help="forget a stored key", description="Forget a stored key.")
    removing.add_argument("provider", metavar="PROVIDER")


def for_check(parser: ArgumentParser) -> None:
    """`waifu-llm check`."""
    parser.description = (
        "Look at the home folder, the config file, the keys, the installer, the environments, the gateways and the "
        "port, and print one sentence for each problem; exit code 1 where there is one."
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--write-config",
        action="store_true",
        help="write the commented config file, with every key, where there is none, and leave",
    )


def for_version(parser: ArgumentParser) -> None:
    """`waifu-llm version`."""
    parser.add_argument("--json", action="store_true", help="print JSON")
