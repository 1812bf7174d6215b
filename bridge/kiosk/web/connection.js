// The WebSocket to the program that serves the page. It reconnects for ever.

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
  #on;

  // on has hello() → shutter, up(), down(), replaced(), stale() and message(m).
  constructor(on) {
    this.#on = on;
  }

  get up() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  connect() {
    this.#stopped = false;
    clearTimeout(this.#timer);
    const socket = new WebSocket(`ws://${location.host}/ws`);
    this.#socket = socket;
    socket.onopen = () => {
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
      this.#timer = setTimeout(() => this.connect(), this.#wait * (0.75 + Math.random() / 2));
      this.#wait = Math.min(this.#wait * 2, longestWait);
    };
  }

  // send drops the message while there is no connection. After the next hello the page reports everything again.
  send(m) {
    if (this.up) this.#socket.send(JSON.stringify(m));
  }
}
