"""A process that speaks: run by `voices`, never imported by it, since eSpeak NG is under the GPL.

Called with the library and its data folder as arguments. Each line of standard input is a request
``{"voice": …, "text": …, "rate": …, "pitch": …, "range": …, "seed": …}``; the answer on standard output is
three int64 (status: 0 well, 1 unknown voice, 2 failed; samples per second; number of samples) and the
samples as int16. The library keeps state from one utterance to the next, so it is loaded anew for each:
equal requests get equal answers, whatever came before.
"""

import _ctypes
import ctypes
import json
import os
import struct
import sys

SYNCHRONOUS, UTF8 = 2, 1
RATE, PITCH, RANGE = 1, 3, 4
Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def speak(library: str, data: str, request: dict[str, str | int]) -> tuple[int, int, bytes]:
    """Status, samples per second and samples of one request."""
    parts: list[bytes] = []

    @Callback
    def receive(wave, count, events):  # type: ignore[no-untyped-def]
        if wave and count > 0:
            parts.append(ctypes.string_at(wave, 2 * count))
        return 0

    espeak = ctypes.CDLL(library)
    try:
        sample_rate = espeak.espeak_Initialize(SYNCHRONOUS, 0, data.encode(), 0)
        if sample_rate <= 0:
            return 2, 0, b""
        espeak.espeak_SetSynthCallback(receive)
        if espeak.espeak_SetVoiceByName(str(request["voice"]).encode()) != 0:
            return 1, sample_rate, b""
        espeak.espeak_ng_SetRandSeed(ctypes.c_long(int(request["seed"])))
        ctypes.CDLL(None).srand(ctypes.c_uint(int(request["seed"])))  # the Klatt voices draw from C's rand
        for parameter, name in ((RATE, "rate"), (PITCH, "pitch"), (RANGE, "range")):
            espeak.espeak_SetParameter(parameter, int(request[name]), 0)
        text = str(request["text"]).encode()
        failed = espeak.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 0, 0, UTF8, None, None)
        failed = espeak.espeak_Synchronize() or failed
        espeak.espeak_Terminate()
        return (2 if failed else 0), sample_rate, b"".join(parts)
    finally:
        _ctypes.dlclose(espeak._handle)


def main() -> None:
    library, data = sys.argv[1:3]
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the library prints must not come between the answers
    for line in sys.stdin:
        status, sample_rate, samples = speak(library, data, json.loads(line))
        out.write(struct.pack("<3q", status, sample_rate, len(samples) // 2) + samples)
        out.flush()


if __name__ == "__main__":
    main()
