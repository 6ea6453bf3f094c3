// The microphone: samples as they come from it, without the browser's processing, and a WAV file of them.
const BEST = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };

/** Why the microphone can't be used on this page; empty where it can. */
export function microphoneProblem() {
  if (!window.isSecureContext || !navigator.mediaDevices)
    return "Browsers give the microphone to pages over https and on this machine's own address alone; a file can be rated.";
  return window.AudioWorkletNode ? "" : "This browser can't record samples; a file can be rated.";
}

/** Start recording; onLevel is called with the peak of each block and the seconds so far. */
export async function startRecording(onLevel) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: BEST });
  const blocks = [];
  let context = null, length = 0;
  try {
    const { sampleRate } = stream.getAudioTracks()[0].getSettings();
    context = new AudioContext(sampleRate ? { sampleRate } : {}); // the microphone's own, so that nothing is resampled
    await context.audioWorklet.addModule("/recorder-worklet.js");
    const source = context.createMediaStreamSource(stream);
    const node = new AudioWorkletNode(context, "samples", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    node.port.onmessage = ({ data }) => {
      blocks.push(data);
      length += data.length;
      onLevel(data.reduce((most, value) => Math.max(most, Math.abs(value)), 0), length / context.sampleRate);
    };
    source.connect(node);
    await context.resume();
  } catch (error) {
    end();
    throw error;
  }
  function end() {
    for (const track of stream.getTracks()) track.stop();
    if (context && context.state !== "closed") context.close();
  }
  return {
    discard: end,
    finish() {
      const rate = context.sampleRate;
      end();
      return wav(blocks, length, rate);
    },
  };
}

/** A WAV file of 16 bits, one channel. */
export function wav(blocks, length, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * length));
  const text = (at, letters) => [...letters].forEach((letter, k) => view.setUint8(at + k, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * length, true);
  let at = 44;
  for (const block of blocks)
    for (const value of block) {
      view.setInt16(at, Math.round(Math.max(-32768, Math.min(32767, 32768 * value))), true);
      at += 2;
    }
  return new Blob([view], { type: "audio/wav" });
}
