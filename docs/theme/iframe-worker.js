// A page that was opened from the file system may start no worker, and the search is one. There it runs in a hidden
// frame of the page instead: a copy of what is posted on one side is an event on the other, one turn of the loop later.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #frame = document.createElement("iframe")
    #ready

    constructor(url) {
      super()
      this.onmessage = null
      this.#frame.hidden = true
      document.body.append(this.#frame)
      const inner = this.#frame.contentWindow
      inner.postMessage = (data) => setTimeout(() => this.#deliver(structuredClone(data)))
      const script = inner.document.createElement("script")
      script.src = new URL(url, document.baseURI)
      this.#ready = new Promise((resolve) => script.addEventListener("load", resolve))
      inner.document.body.append(script)
    }

    postMessage(posted) {
      const data = structuredClone(posted)
      this.#ready.then(() => {
        const inner = this.#frame.contentWindow
        inner?.dispatchEvent(new inner.MessageEvent("message", { data }))
      })
    }

    terminate() {
      this.#frame.remove()
    }

    #deliver(data) {
      const event = new MessageEvent("message", { data })
      this.onmessage?.(event)
      this.dispatchEvent(event)
    }
  }
}
