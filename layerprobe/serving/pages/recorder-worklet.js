// Passes the samples of the microphone on as they are, in the thread in which the browser makes them.
"use strict";
registerProcessor("samples", class extends AudioWorkletProcessor {
  process(inputs) {
    const channel = inputs[0][0];
    if (channel) this.port.postMessage(channel.slice());
    return true;
  }
});
