// The WebSocket to the program that serves the page. It reconnects for ever. The program lets only a page with its key in. The key is in the page's
// address, behind #: the browser sends that to nobody.

const version = 2; // of the messages, see kiosk.go
const closeReplaced = 4000;
const closeVersion = 4001;
const firstWait = 250; // ms before the second attempt
const longestWait = 5000;

export class Connection {
  #socket = null;
  #wait = firstWait;
  #timer = 0;
  #stopped = false;
  #refusals = 0; // in a row
  #on;

  // on has hello() → shutter, up(), down(), locked(), replaced(), stale() and message(m).
  constructor(on) {
    this.#on = on;
  }

  get up() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  connect() {
    this.#stopped = false;
    clearTimeout(this.#timer);
    const socket = new WebSocket(`ws://${location.host}/ws`, protocols());
    this.#socket = socket;
    let refused = true;
    socket.onopen = () => {
      refused = false;
      this.#refusals = 0;
      this.send({ type: "hello", version, role: "page", shutter: this.#on.hello() });
      this.#on.up();
    };
    socket.onmessage = (e) => {
      if (socket !== this.#socket) return;
      const m = JSON.parse(e.data);
      this.#wait = firstWait; // it works
      if (m.type === "replaced") {
        this.#stopped = true;
        this.#on.replaced();
        return;
      }
      this.#on.message(m);
    };
    socket.onclose = (e) => {
      if (socket !== this.#socket) return;
      this.#socket = null;
      if (e.code === closeReplaced && !this.#stopped) {
        this.#stopped = true;
        this.#on.replaced();
      }
      if (e.code === closeVersion) this.#on.stale();
      this.#on.down();
      if (this.#stopped) return;
      if (refused) this.#ask();
      this.#timer = setTimeout(() => this.connect(), this.#wait * (0.75 + Math.random() / 2));
      this.#wait = Math.min(this.#wait * 2, longestWait);
    };
  }

  // #ask tells a program that does not answer from one that does not let this page in. One that is just starting refuses once.
  async #ask() {
    const answer = await fetch("/ws", { cache: "no-store" }).catch(() => null);
    this.#refusals = answer?.status === 403 && !this.up ? this.#refusals + 1 : 0;
    if (this.#refusals >= 2) this.#on.locked();
  }

  // send drops the message while there is no connection. After the next hello the page reports everything again.
  send(m) {
    if (this.up) this.#socket.send(JSON.stringify(m));
  }
}

// protocols are the subprotocols that the program asks for: its own, and the key.
function protocols() {
  const key = location.hash.slice(1);
  return ["ewindow", ...(/^[A-Za-z0-9_-]+$/.test(key) ? [`ewindow.key.${key}`] : [])];
}
