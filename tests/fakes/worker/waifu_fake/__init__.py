"""A worker that misbehaves on demand. Everything is chosen by the test: at start, per load, per model id.

**At start**: the variable `WAIFU_FAKE_START`, a list of flags separated by commas, done in order while the
package is imported, so before `ready`:

- `never-ready`: the import never ends. `puppet=HOST:PORT`: it waits until the puppet master says go (below).
- `exit=CODE` (sys.exit), `os-exit=CODE`, `raise`, `segfault`, `missing-module`: the process ends before `ready`.
- `wrong-magic`, `wrong-wire`, `wrong-name`, `not-ready` (a beat first): that line is sent, then the import never ends.
- `noise`: print, `os.write(1)` and a child's output, at import and from a thread.
- `flood-stderr=BYTES`; `say=TEXT` (one line on stderr).
- `ignore-term`: SIGTERM does nothing. `ignore-eof`: the end of the input is never seen, nor what comes after `ready`.
- `child=HOST:PORT`, `escaped-child=HOST:PORT`: a child that holds the pipes' ends and a liveness connection there; the
  second in a session of its own. It lives until it is killed.
- `hold-import`: the import never ends and holds the interpreter (no other Python thread runs).

**A load**: option `on_load`, **the model list**: option `on_models`, **a generation**: the model id. Each is
`BEHAVIOUR` or `BEHAVIOUR=ARGUMENT`. `N` chunks ("0 ", "1 ", ...) of a generation are on the wire before it happens:

- `echo`: the last message's content, word by word. `count=N`: N chunks and the end. `size=N`: one of N characters.
- `text=A|B|C`: these pieces. `ids`: what the load brought, as text: options and whether there was a key.
- `fail=CODE`, `fail=CODE/REASON`: a ProviderError. `raise`, `memory`, `leak` (an exception that holds the key).
- `hang=N`: waits for ever, can be cancelled. `ignore-cancel=N`: cannot. `truncate=N`: ends without its end.
- `exit=N` (os._exit(3)), `kill=N` (SIGKILL), `segfault=N`, `memory=N`, `raise=N`.
- `eat=MIB`: one chunk, then so much memory, then as `hang`. `limited=MIB`: asks for so much over what it may have.
- `stop=N` (SIGSTOP), `hold=N` (holds the interpreter for ever), `spin=N` (blocks the loop, other threads run).
- `die-at=K`: the K-th generation of this process ends it; those before are like `echo`.
- `garbage=N`: N chunks, each with a line before it that is no message. `bad-utf8=N`: the same with bad UTF-8.
- `strangers=N`: lines of unknown and finished ids between the chunks. `two-ends`: done, then chunk and done again.
- `line=BYTES`: one line of exactly that length without its newline. `endless`: a line that never ends.
- `half-line`: half a chunk's line, then exit. `deaf=N`: stops reading its input, then as `hang`.
- `flood-stderr=BYTES`, then `echo`. `noise`, then `echo`. `child=HOST:PORT`, `escaped-child=HOST:PORT`, then exit.
- `puppet`: the test says what happens, through the option `puppet`; see `support.puppet` for the words.

A load knows of these: fail, raise, memory, leak, exit, kill, segfault, hang, ignore-cancel, stop, hold, spin, noise,
puppet, and `progress=N` (N reports) and `warn=TEXT`. A model list: the same but for the last four, and `grow` (one
more model each time).
"""

from waifu_fake.provider import Provider
from waifu_fake.start import obey

obey()

__all__ = ["Provider"]
